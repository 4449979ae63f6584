"""The database: SQLite (write-ahead log) as the embedded default, PostgreSQL when the URL says so.

`engine.py` opens it, `lanes.py` runs its work off the event loop with group commit, the other modules hold one
table's statements each. Every function takes an open Connection, so the server and the command line share them.
"""

from stockade.identity.storage.engine import Storage, open_storage

__all__ = ["Storage", "open_storage"]
