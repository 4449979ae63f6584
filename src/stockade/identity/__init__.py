"""The authorization server: its own process, its own database, its own keys.

::

    endpoints/    one module an endpoint: a straight list of named steps
    client_auth/  how a client proves who it is (RFC 6749 §2.3, RFC 7523)
    grants/       what a proven client may ask for (RFC 6749 §4)
    tokens/       what is issued: opaque outside, `at+jwt` inside
    keys/         the keys that sign, sealed at rest, rotated with overlap
    storage/      the database: schema, lanes (group commit), one module a table
    external.py   an outside issuer in place of ours
    admin.py      the same operations for the command line, with or without a running server
    server.py     listeners and life cycle; `python -m stockade.identity CONFIG.json`
"""
