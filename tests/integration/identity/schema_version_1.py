"""The tables of version 1 of the identity database, as released: what a migration must be able to start from."""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
)

metadata = MetaData()

meta = Table("meta", metadata, Column("name", String(64), primary_key=True), Column("value", Text, nullable=False))

clients = Table(
    "clients",
    metadata,
    Column("client_id", String(64), primary_key=True),
    Column("name", String(128), nullable=False, unique=True),
    Column("auth_method", String(32), nullable=False),
    Column("jwks", Text),
    Column("scopes", Text, nullable=False),
    # INVARIANT: a token is alive only while it carries its client's generation; disabling a client adds one.
    Column("generation", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("disabled_at", BigInteger),
)

client_secrets = Table(
    "client_secrets",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("client_id", ForeignKey("clients.client_id"), nullable=False, index=True),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
)

api_keys = Table(
    "api_keys",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("key_id", String(64), nullable=False, unique=True),
    Column("client_id", ForeignKey("clients.client_id"), nullable=False, index=True),
    Column("name", String(128), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
)

# No foreign key: a client cannot be deleted, only disabled, and the check would cost every issue a look-up.
access_tokens = Table(
    "access_tokens",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("jti", String(32), nullable=False),
    Column("client_id", String(64), nullable=False),
    Column("generation", Integer, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("audience", Text, nullable=False),
    Column("issued_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    Index("ix_access_tokens_expires_at", "expires_at"),
    sqlite_with_rowid=False,
)

used_assertions = Table(
    "used_assertions",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("expires_at", BigInteger, nullable=False),
    Index("ix_used_assertions_expires_at", "expires_at"),
    sqlite_with_rowid=False,
)

signing_keys = Table(
    "signing_keys",
    metadata,
    Column("kid", String(64), primary_key=True),
    Column("algorithm", String(16), nullable=False),
    Column("public_jwk", Text, nullable=False),
    Column("sealed_private_key", LargeBinary, nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("activated_at", BigInteger),
    Column("retired_at", BigInteger),
)

# INVARIANT: a sequence number is drawn by updating the one row of `revocation_head` in the transaction that writes
# the log row. The row lock makes commits visible in the order of their numbers, so a reader that has seen 42 has
# missed nothing below it. A database sequence would not promise that.
revocation_head = Table(
    "revocation_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("epoch", String(32), nullable=False),
    Column("sequence", BigInteger, nullable=False),
    # Everything up to here was purged: who has not read it must start over.
    Column("floor", BigInteger, nullable=False),
)

revocations = Table(
    "revocations",
    metadata,
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("kind", String(16), nullable=False),
    Column("digest", LargeBinary(32)),
    Column("client_id", String(64)),
    Column("revoked_at", Double, nullable=False),
    Index("ix_revocations_revoked_at", "revoked_at"),
)
