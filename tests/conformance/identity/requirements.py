"""What the standards demand of an authorization server and of a resource server's gate, in our own words.

One line a demand (MUST, SHALL, REQUIRED, and the NOT of each); what is optional and not offered stands as `left_out`,
with the reason. A key is `RFC 9449 §4.3 (2)`: the standard, the clause, the place of the line among those of its
clause. A test that shows a demand names its key by `@pytest.mark.standard(…)`, a case of a plan by `standards=`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import count


@dataclass(frozen=True)
class Requirement:
    """`clause` as in the standard, without the sign. `left_out`: why this is not offered at all."""

    clause: str
    text: str
    left_out: str = ""


@dataclass(frozen=True)
class Standard:
    """`name` is how docstrings cite it, before the clause; `others` are other names that they use."""

    name: str
    title: str
    requirements: tuple[Requirement, ...]
    others: tuple[str, ...] = ()
    note: str = ""

    def keyed(self) -> list[tuple[str, Requirement]]:
        """Each requirement with its key."""
        places: dict[str, count[int]] = {}
        return [
            (f"{self.name} §{each.clause} ({next(places.setdefault(each.clause, count(1)))})", each)
            for each in self.requirements
        ]


def _clauses(lines: str) -> tuple[Requirement, ...]:
    """One requirement a line: `clause | text`, or `clause | text | why it is left out`; a line may go on, indented."""
    joined = lines.strip().replace("\n    ", " ")
    return tuple(Requirement(*(part.strip() for part in line.split("|"))) for line in joined.splitlines())


STANDARDS = (
    Standard(
        "RFC 6749",
        "The OAuth 2.0 Authorization Framework, as OAuth 2.1 narrows it",
        _clauses("""
2.3 | A request uses one method of client authentication, not several
2.3.1 | A client with a secret can use HTTP Basic, id and secret form-encoded
2.3.1 | Guessing of secrets is slowed down
3.1 | Parameters without value count as absent, unknown ones are ignored
3.1 | A parameter that stands twice is refused
3.1 | The authorization endpoint answers to GET
3.1.1 | A request without `response_type`, or with one that is not known, is refused
3.1.2 | A redirect URI is absolute and has no fragment
3.1.2.2 | Redirect URIs are registered before they are used
3.1.2.3 | The redirect URI of a request is one of those that are registered
3.1.2.4 | A client or redirect URI that is not known is told to the person; the browser is not sent there
3.2 | The token endpoint takes POST alone
3.2.1 | A confidential client authenticates at the token endpoint
3.3 | Where the scope given differs from the one asked for, the answer says so
4.1.2 | A code holds shortly (ten minutes at most; a minute here)
4.1.2 | A code is good once; a second use is refused and revokes what the first gave
4.1.2 | A code is bound to client and redirect URI
4.1.2 | `state` comes back as it was sent
4.1.2.1 | An error goes back to the redirect URI with `error`, and `state` if there was one
4.1.3 | The redirect URI at the token endpoint is the one of the request
4.1.3 | A code is given only to the client for which it was made
4.4 | Client credentials are for confidential clients alone
4.4.3 | Client credentials give no refresh token
5.1 | Answers that hold tokens are not stored: `Cache-Control: no-store`
5.1 | An answer has `access_token` and `token_type`
5.2 | An error is 400 with `error`, for failed client authentication 401
5.2 | A client that failed with an `Authorization` header is challenged by `WWW-Authenticate`
6 | A refresh token is bound to the client to which it was given
6 | A refreshed token has no scope that was not granted
6 | A confidential client authenticates to refresh
10.3 | Tokens travel over TLS alone and cannot be guessed
10.5 | Codes travel over TLS and live shortly
10.10 | What an attacker might guess has at least 128 bits
10.12 | The authorization endpoint is safe against forged requests
10.13 | The pages of the authorization endpoint cannot be framed
10.15 | No open redirector
"""),
    ),
    Standard(
        "OAuth 2.1",
        "The OAuth 2.1 Authorization Framework (draft)",
        _clauses("""
1.5 | Everything is over TLS
2.3.1 | Redirect URIs are compared as strings
4.1.1 | `code_challenge` is asked of every client, confidential ones too
4.1.2 | The implicit grant does not exist
4.2 | The password grant does not exist
4.3.1 | Refresh tokens of public clients are bound to a key or rotated
7.5 | Tokens are never taken from a query
"""),
    ),
    Standard(
        "RFC 6750",
        "Bearer Token Usage",
        _clauses("""
2.1 | The `Authorization` header is understood
2.2 | A token may come in a form | not offered, userinfo included: what a form holds ends up in more places
    than a header does
2 | A token comes by one way in a request
2.3 | A token in the query is refused
3 | A 401 carries `WWW-Authenticate`
3 | Without credentials the challenge has no error code
3.1 | `invalid_token` is 401, `insufficient_scope` is 403, `invalid_request` is 400
5.3 | Tokens are short-lived
5.3 | Tokens have an audience
"""),
    ),
    Standard(
        "RFC 7009",
        "Token Revocation",
        _clauses("""
2 | Refresh tokens can be revoked; so can access tokens
2.1 | The client authenticates, and a token of another client is not revoked by it
2.1 | Revoking a refresh token revokes the access tokens of its grant
2.2 | An unknown token is answered 200
2.1 | A wrong `token_type_hint` does not keep a token from being found
2 | The endpoint is over TLS
"""),
    ),
    Standard(
        "RFC 7521",
        "Assertion Framework for Client Authentication",
        _clauses("""
4.2 | `client_id`, where present, names the client of the assertion
4.2.1 | A failed assertion is `invalid_client`
5.2 | An assertion has issuer, subject, audience and expiry, and is signed
5.2 | An assertion whose audience is somebody else is refused
5.2 | An expired assertion is refused
"""),
    ),
    Standard(
        "RFC 7523",
        "JWT Profile for OAuth 2.0 Client Authentication",
        _clauses("""
2.2 | `client_assertion_type` is the one of JWT, `client_assertion` one JWT
3 | `iss` is the client
3 | `sub` is the client
3 | `aud` is this server
3 | `exp` is there, and passed it is refused
3 | `nbf` in the future is refused
3 | `iat` in the future is refused
3 | A `jti` that was seen is refused
3 | Claims that are not known do no harm
3 | The JWT is signed by the client's key
3 | A JWT that is not in order is refused
3.2 | A bad assertion is `invalid_client`
"""),
    ),
    Standard(
        "RFC 7591",
        "Dynamic Client Registration",
        _clauses("""
2 | Unknown metadata is ignored, what is registered is said in the answer
2 | `redirect_uris` are asked of clients with a redirecting grant
2.1 | Grant types and response types that do not fit together are not registered
3 | The endpoint is over TLS, and an initial access token can be asked for
3.1 | A registration is a JSON document by POST
3.2.1 | The answer is 201 with `client_id` that is nobody else's
3.2.1 | A secret comes with `client_secret_expires_at`
3.2.2 | Errors are 400 with `invalid_redirect_uri` or `invalid_client_metadata`
2 | `jwks_uri` and `jwks` do not stand together | `jwks_uri` is refused: the server never fetches what a client names
2.3 | Software statements are verified | software statements are not offered; one that comes is refused aloud
5 | Redirect URIs are https, loopback or of the app itself
"""),
    ),
    Standard(
        "RFC 7592",
        "Dynamic Client Registration Management",
        _clauses("""
2 | The registration access token is asked for at every call
2 | A token of a registration is good for that registration alone
2.1 | Reading gives the registration as it stands
2.2 | An update replaces the registration; one that names another `client_id` is refused
2.3 | A removed client is gone, with its tokens
3 | The answer has `registration_client_uri` and `registration_access_token`
"""),
    ),
    Standard(
        "RFC 7636",
        "Proof Key for Code Exchange",
        _clauses("""
4.2 | `S256` is understood
4.3 | A challenge without method would be `plain`, which is refused
4.4 | The challenge is kept with the code
4.4.1 | A request without challenge is `invalid_request`
4.6 | The verifier is hashed and compared; a mismatch is `invalid_grant`
4.1 | A verifier has 43 to 128 unreserved characters
7.2 | `plain` is not offered
"""),
    ),
    Standard(
        "RFC 7662",
        "Token Introspection",
        _clauses("""
2.1 | The endpoint asks who is calling
2.1 | The request is a form by POST with `token`
2.2 | `active` is always there
2.2 | A token that is unknown, expired, revoked or not the caller's business is `active: false`, with nothing else
2.3 | A caller that proves nothing gets 401
4 | Whoever may not ask about an audience learns nothing of its tokens
2.1 | The endpoint is over TLS
"""),
    ),
    Standard(
        "RFC 8252",
        "OAuth 2.0 for Native Apps",
        _clauses("""
7.1 | Private-use schemes are allowed where they are a domain in reverse
7.2 | https redirect URIs are allowed
7.3 | The port of a loopback redirect URI may be any
8.1 | PKCE is asked of native apps
8.4 | Apart from the loopback port redirect URIs are compared exactly
8.5 | Native apps are public clients
8.12 | Requests of embedded browsers cannot be told from others; nothing relies on it
    | no user-agent tells the truth about this
"""),
    ),
    Standard(
        "RFC 8414",
        "Authorization Server Metadata",
        _clauses("""
2 | `issuer` is an https URL without query or fragment, the same as in tokens
2 | `authorization_endpoint`, `token_endpoint`, `response_types_supported` are there
2 | What the metadata names exists
3 | The document is at `/.well-known/oauth-authorization-server`, with the issuer's path behind it
3.2 | It is JSON by GET, without members that would be empty
3.3 | `issuer` is the one that the document was asked of
2 | `none` is no algorithm of client assertions
"""),
    ),
    Standard(
        "RFC 8628",
        "Device Authorization Grant",
        _clauses("""
3.1 | The request is by POST, over TLS, and names the client; a confidential one proves itself
3.2 | The answer has `device_code`, `user_code`, `verification_uri`, `expires_in`
3.3 | The person sees the code and what is asked, and has to agree
3.4 | The device code is given to the client for which it was made
3.5 | `authorization_pending`, `slow_down`, `access_denied`, `expired_token`
3.5 | `slow_down` adds five seconds to the interval
3.5 | A device that asks too fast is slowed down
5.1 | User codes cannot be guessed: tries are limited
5.2 | A device code cannot be guessed
5.4 | Somebody else's code is not taken over silently: the person confirms
"""),
    ),
    Standard(
        "RFC 8693",
        "Token Exchange",
        _clauses("""
2.1 | `subject_token` and `subject_token_type` are asked for
2.1 | `actor_token` and `actor_token_type` stand together
2.2.1 | The answer has `access_token`, `issued_token_type`, `token_type`
2.2.2 | A token that is not valid is `invalid_request`
2.2.2 | An audience for which the client may not have a token is `invalid_target`
4.1 | Who acts is in `act`, who acted before inside of it
4.1 | Older actors say nothing about what is allowed
2 | The client proves itself
1.1 | The new token has no scope that the old one had not
"""),
    ),
    Standard(
        "RFC 8705",
        "Mutual-TLS Client Authentication and Certificate-Bound Access Tokens",
        _clauses("""
2 | The certificate is of the TLS connection, and the client is named by `client_id`
2.1.2 | Exactly one name of the certificate is registered for `tls_client_auth`
2.1 | The chain is verified and the registered name compared
2.2 | A self-signed certificate is one of those that are registered
3 | The token is bound to the SHA-256 of the certificate
3.1 | `x5t#S256` stands in `cnf` of introspection and of the internal token
3 | The resource takes the token over a connection with that certificate alone, else 401 `invalid_token`
3.3 | The metadata says `tls_client_certificate_bound_access_tokens`
5 | `mtls_endpoint_aliases` name the endpoints of the listener that asks for certificates
4 | Refresh tokens of public clients with certificates are bound to them
7.1 | Certificates may change for a client of a PKI without breaking its refresh tokens
"""),
    ),
    Standard(
        "RFC 8707",
        "Resource Indicators",
        _clauses("""
2 | `resource` is an absolute URI without fragment; others are `invalid_target`
2 | A resource that is not known is `invalid_target`
2.1 | A resource at the authorization endpoint bounds the grant
2.2 | A resource at the token endpoint is one of the grant's
2 | The token's audience is what was asked for
"""),
    ),
    Standard(
        "RFC 9068",
        "JWT Profile for Access Tokens (the internal token)",
        _clauses("""
2.1 | `typ` is `at+jwt`, and it is signed, never `none`
2.2 | `iss`, `exp`, `aud`, `sub`, `client_id`, `iat`, `jti` are there
2.2 | `sub` of a client that acts for itself is not to be confused with a person's
2.2.1 | `auth_time`, `acr`, `amr` are those of the sign-in
2.2.3 | `scope` is what was granted
5 | A client cannot choose its `sub`
"""),
    ),
    Standard(
        "RFC 9101",
        "JWT-Secured Authorization Request",
        _clauses("""
5 | Request objects | not offered: authorization requests are pushed (RFC 9126), which shows who sent them
    and keeps them whole without another format to parse
6.1 | A `request` parameter is refused with `request_not_supported`
5.2 | A `request_uri` that was not given by this server is never fetched
"""),
    ),
    Standard(
        "RFC 9126",
        "Pushed Authorization Requests",
        _clauses("""
2 | The endpoint takes POST of a form over TLS
2.1 | The client proves itself as at the token endpoint
2.1 | A `request_uri` inside of a pushed request is refused
2.1 | The request is checked as at the authorization endpoint
2.2 | The answer is 201 with `request_uri` and `expires_in`
2.2 | `request_uri` cannot be guessed and is bound to its client
2.2 | `expires_in` is short
2.3 | A method other than POST is 405
4 | A `request_uri` is good for the client that pushed it, until it expires
4 | A `request_uri` is good once
5 | A client or server can demand that requests are pushed
7.3 | A redirect URI is registered, or the client is confidential and trusted with it
"""),
    ),
    Standard(
        "RFC 9207",
        "Authorization Server Issuer Identification",
        _clauses("""
2 | `iss` stands in every authorization response, errors too
2 | `iss` is the issuer of the metadata, as a URL
3 | The metadata says `authorization_response_iss_parameter_supported`
"""),
    ),
    Standard(
        "RFC 9449",
        "Demonstrating Proof of Possession (DPoP)",
        _clauses("""
4.2 | `typ` is `dpop+jwt`, `alg` asymmetric, `jwk` a public key
4.2 | `jti`, `htm`, `htu`, `iat` are there, `ath` with an access token, `nonce` where one was given
4.3 | There is one DPoP header
4.3 | The header is one well-formed JWT
4.3 | All claims that are asked for are there
4.3 | `typ` is `dpop+jwt`
4.3 | `alg` is asymmetric, known and not `none`
4.3 | The signature is that of `jwk`
4.3 | `jwk` holds no private key
4.3 | `htm` is the method of the request
4.3 | `htu` is the URL of the request, without query and fragment
4.3 | `nonce` is the one that the server gave
4.3 | `iat` is now, within narrow bounds
4.3 | With an access token `ath` is its hash, and the key that to which it is bound
5 | A request with a proof gets a bound token, `token_type` `DPoP`
5 | A bad proof is `invalid_dpop_proof`, 400
5 | Refresh tokens of public clients are bound to the key
5 | A client that registered `dpop_bound_access_tokens` gets no unbound token
6.1 | `jkt` stands in `cnf`
7.1 | A bound token under the scheme `Bearer` is refused
7.1 | The challenge of a resource has the scheme `DPoP` and its algorithms
7.2 | Bearer tokens and bound ones can be taken side by side, without one passing for the other
8 | Where a nonce is wanted the answer is `use_dpop_nonce` with a `DPoP-Nonce`
8.2 | A new nonce comes with an answer before the old one ends
9 | A resource that wants a nonce answers 401 `use_dpop_nonce`
10 | A code can be bound to a key by `dpop_jkt`
10.1 | A proof at the pushed request binds the code, and one that differs from `dpop_jkt` is refused
11.1 | A proof is good once within its time
11.3 | Nonces cannot be guessed
"""),
    ),
    Standard(
        "RFC 9470",
        "Step Up Authentication Challenge",
        _clauses("""
3 | The challenge is 401 `insufficient_user_authentication`, with `acr_values` or `max_age`
4 | The client can ask by `acr_values` and `max_age`
5 | Where what was asked cannot be met, no token passes for it: `unmet_authentication_requirements`
6.1 | `acr` and `auth_time` stand in the token's introspection
"""),
    ),
    Standard(
        "RFC 9701",
        "JWT Response for Introspection",
        _clauses("""
4 | `Accept: application/token-introspection+jwt` gets the signed form
5 | `typ` is `token-introspection+jwt`
5 | `iss`, `aud`, `iat` and `token_introspection` are there; what is of the token stands inside
5 | The answer is for the resource server that asked, and signed
6 | The metadata names the algorithms
8.1 | It cannot pass for an access token: no `sub` or `exp` outside
"""),
    ),
    Standard(
        "RFC 9700",
        "Best Current Practice for OAuth 2.0 Security",
        _clauses("""
2.1 | Redirect URIs are compared exactly, but for the port of a native app's loopback
2.1 | The server does not redirect to arbitrary addresses
2.1.1 | PKCE: a downgrade is noticed (a verifier without challenge is refused)
2.1.2 | The implicit grant is not used
2.2.2 | Refresh tokens of public clients are bound or rotated
2.3 | Tokens are bound to an audience and to the scope that is needed
2.4 | The password grant is not used
2.6 | Answers of CORS are not given at the authorization endpoint
4.1.3 | The redirect URI is registered whole
4.2.4 | Pages of the server leak nothing by `Referer`
4.4.2 | Mix-up is warded off by `iss`
4.5.3 | A code that was injected is of no use (PKCE, nonce)
4.8.2 | A challenge that is absent is noticed at the token endpoint
4.12 | Redirects after credentials were posted are 303, never 307
4.14.2 | Reuse of a refresh token revokes the grant
4.14.2 | Refresh tokens end: on sign-out, on a new password, when idle
4.16 | Pages refuse to be framed
4.11.2 | A person is told before being sent to an address that is not trusted | all addresses are registered
"""),
    ),
    Standard(
        "RFC 9728",
        "Protected Resource Metadata",
        _clauses("""
2 | `resource` is the API's identifier
3 | The document is at `/.well-known/oauth-protected-resource`
3.2 | It is JSON, without empty members
5.1 | `WWW-Authenticate` names the document by `resource_metadata`
3.3 | `resource` is the one that the document was asked of
"""),
    ),
    Standard(
        "OIDC Core",
        "OpenID Connect Core 1.0",
        _clauses("""
2 | An ID token has `iss`, `sub`, `aud`, `exp`, `iat`
2 | `nonce` of the request is in the ID token
2 | `auth_time` is there where `max_age` or `require_auth_time` asks for it
2 | ID tokens are signed, never `none` for what comes over the front channel
3.1.2.1 | The authorization endpoint takes GET and POST
3.1.2.1 | Without `openid` in the scope it is no OpenID request, and no ID token is given
3.1.2.1 | `prompt=none` shows no page: an error where one would be needed
3.1.2.1 | `prompt=none` with another value is an error
3.1.2.1 | `prompt=login` asks for credentials again
3.1.2.1 | `prompt=consent` asks for consent again
3.1.2.1 | `max_age` that has passed asks for credentials again, and `auth_time` is in the ID token
3.1.2.1 | `display`, `ui_locales`, `claims_locales`, `login_hint` never make a request fail
3.1.2.1 | `id_token_hint` of another person than the one signed in is not answered with that one's tokens
3.1.2.1 | `acr_values` is a wish
3.1.2.2 | Unknown parameters are ignored
3.1.2.3 | The person is asked to sign in where there is no session
3.1.2.4 | Without consent nothing is given
3.1.2.6 | `login_required`, `consent_required`, `interaction_required` are told
3.1.3.2 | A code that was used is refused
3.1.3.3 | The token response has `id_token`, `Cache-Control: no-store`
3.1.3.6 | `at_hash`, where there, is that of the access token
5.1 | `sub` is the same in ID token and userinfo, never anybody else's
5.3 | Userinfo takes GET and POST, and a bearer token
5.3.1 | Userinfo takes the token by header, by GET and by POST
5.3.2 | `sub` is always there, and the answer is JSON
5.3.3 | A bad token is answered as RFC 6750 says
5.4 | `profile` and `email` open the claims of theirs
5.5 | `claims` that cannot be given do not make the request fail
6.1 | A request object that is not supported is `request_not_supported`
6.2 | A `request_uri` that is not supported is `request_uri_not_supported`
8 | `sub` is never given to another person
9 | Clients prove themselves by `client_secret_basic` or `private_key_jwt`
10.1 | The keys are published, each with `kid`; a rotated one overlaps
12.1 | A refresh token is used as in OAuth
12.2 | An ID token of a refresh has the same `iss`, `sub`, `aud`, `auth_time`, no new `nonce`
15.1 | Everything that is compulsory for every provider: signed ID tokens, `prompt`, `display`, locales, `auth_time`,
    `max_age`, `acr_values`
15.2 | RS256 is offered for ID tokens | ES256 alone, as FAPI 2.0 asks; a client of Dynamic OpenID Providers that
    knows RS256 alone cannot be served
16.11 | A code from elsewhere is noticed
"""),
        others=("OpenID Connect Core", "OpenID Connect Core 1.0"),
    ),
    Standard(
        "OIDC Discovery",
        "OpenID Connect Discovery 1.0",
        _clauses("""
3 | `issuer`, `authorization_endpoint`, `token_endpoint`, `jwks_uri`, `response_types_supported`,
    `subject_types_supported`, `id_token_signing_alg_values_supported` are there
3 | `openid` is in `scopes_supported`
4 | The document is below the issuer at `/.well-known/openid-configuration`
4.2 | It is `application/json`, 200
4.3 | `issuer` is exactly the one it was asked of, and the `iss` of ID tokens
"""),
        others=("OpenID Connect Discovery", "OpenID Connect Discovery 1.0"),
    ),
    Standard(
        "OIDC Logout",
        "OpenID Connect RP-Initiated Logout 1.0",
        _clauses("""
2 | The endpoint takes GET and POST
2 | `id_token_hint` of this server is taken, expired ones too
2 | Without a hint that proves it the person is asked before being signed out
2 | A hint for another session than the browser's does not end the browser's without asking
2 | `client_id` and `id_token_hint` name the same client
3 | `post_logout_redirect_uri` is registered, else the browser is not sent there
3 | `state` comes back with the redirect
2.1 | `end_session_endpoint` is in the metadata
6 | The tokens that depend on the session end with it
"""),
        others=(
            "RP-Initiated Logout 1.0",
            "RP-Initiated Logout",
            "OpenID Connect RP-Initiated Logout 1.0",
            "OIDC RP-Initiated Logout 1.0",
            "OpenID Connect RP-Initiated Logout",
        ),
    ),
    Standard(
        "FAPI 2.0",
        "FAPI 2.0 Security Profile",
        _clauses("""
5.2.1 | TLS 1.2 or newer, with ciphers of BCP 195
5.3.2.1 | Metadata is published (RFC 8414)
5.3.2.1 | The password grant is refused
5.3.2.1 | Confidential clients alone
5.3.2.1 | Access tokens are bound to a key, and no others are given
5.3.2.1 | They are bound by mutual TLS or DPoP
5.3.2.1 | Clients prove themselves by mutual TLS or `private_key_jwt`
5.3.2.1 | No open redirector
5.3.2.1 | `aud` of a client assertion is the issuer, as one string
5.3.2.1 | Refresh tokens are not rotated
5.3.2.1 | With DPoP the server can give nonces
5.3.2.1 | Codes hold a minute at most
5.3.2.1 | With DPoP codes can be bound to the key
5.3.2.1 | `iat` and `nbf` up to ten seconds ahead are taken, over sixty refused
5.3.2.1 | A token may do no more than was asked for
5.3.2.2 | `response_type` is `code` alone
5.3.2.2 | Requests can be pushed, by clients that prove themselves
5.3.2.2 | Requests that were not pushed are refused
5.3.2.2 | Pushed requests without client authentication are refused
5.3.2.2 | PKCE by S256 is asked for
5.3.2.2 | `redirect_uri` is in the pushed request
5.3.2.2 | `iss` is in the authorization response
5.3.2.2 | The browser is not sent on without encryption
5.3.2.2 | A code is good once
5.3.2.2 | The browser is not sent on by 307
5.3.2.2 | It is sent on by 303
5.3.2.2 | A `request_uri` expires within 600 seconds
5.3.4 | Resources take tokens by header, not by query
5.3.4 | Resources verify validity, expiry, revocation and scope
5.3.4 | Resources verify the binding by certificate or DPoP
5.4.1 | PS256, ES256 or EdDSA; RSA from 2048 bits; never `none` or RS256
5.4.2 | Keys of clients and servers are not mixed up: `kid` is unique
5.2.2 | HTTP is not used where a browser speaks to the server (HSTS)
"""),
        others=("FAPI 2.0 Security Profile",),
    ),
    Standard(
        "WebAuthn",
        "Web Authentication Level 2, the relying party's part",
        _clauses("""
7.1 | Registration: type, challenge, origin and RP id hash are verified
7.1 | Registration: user presence, and user verification where it is asked for
7.1 | Registration: the algorithm is one that was offered
7.1 | Registration: a credential id is registered once
7.2 | Sign-in: the credential is known and belongs to the person
7.2 | Sign-in: type, challenge, origin and RP id hash are verified
7.2 | Sign-in: user verification where it is asked for
7.2 | Sign-in: the signature is verified
7.2 | Sign-in: a counter that does not go up is noticed
13.4.3 | Challenges are random, of the server, and good once
14.6.2 | Nobody learns from the ceremony who exists
"""),
        others=("WebAuthn Level 2", "WebAuthn L2", "Web Authentication Level 2"),
    ),
    Standard(
        "RFC 6238",
        "Time-Based One-Time Passwords",
        _clauses("""
4.1 | Six digits, steps of thirty seconds, HMAC-SHA-1 as apps have it
5.1 | Secrets are random, as long as the hash, and kept sealed
5.2 | A code is accepted once
5.2 | At most one step of drift is taken
5.1 | Codes go over TLS
"""),
    ),
)
ALL = {key: (standard, each) for standard in STANDARDS for key, each in standard.keyed()}
