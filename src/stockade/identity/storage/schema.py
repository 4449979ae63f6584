"""The tables. Times are NumericDate: whole seconds, or seconds with a fraction in `revoked_at` of the log.

No column holds a usable secret: credentials are SHA-256 digests, what is short is keyed (keys/derive.py), signing keys
and TOTP secrets are sealed (keys/seal.py). Every change here needs a migration (migrations/versions).
"""

from __future__ import annotations

from sqlalchemy import (
    BigInteger,
    Boolean,
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
    # JSON of clients_metadata.ClientMetadata.
    Column("metadata", Text, nullable=False, server_default="{}"),
    # RFC 7592: digest of the token that lets a dynamically registered client manage itself.
    Column("registration_digest", LargeBinary(32)),
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

# No foreign keys on what is issued: clients and users cannot be deleted, only disabled, and the check would cost every
# issue a look-up.
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
    # Null where the client acts for itself.
    Column("user_id", String(64)),
    Column("user_generation", Integer),
    Column("grant_id", String(64)),
    Column("session_id", String(64)),
    # "jkt:<thumbprint>" or "x5t#S256:<thumbprint>" (RFC 9449 §6, RFC 8705 §3.1).
    Column("binding", String(64)),
    Column("auth_time", BigInteger),
    Column("acr", String(16)),
    Column("amr", String(64)),
    # JSON, RFC 8693 §4.1.
    Column("act", Text),
    Index("ix_access_tokens_expires_at", "expires_at"),
    sqlite_with_rowid=False,
)

# A family: what a user allowed a client once. Codes, refresh and access tokens die with it.
grants = Table(
    "grants",
    metadata,
    Column("grant_id", String(64), primary_key=True),
    Column("client_id", String(64), nullable=False),
    Column("user_id", String(64), nullable=False),
    # Null where the grant outlives the session it was born in (`offline_access`).
    Column("session_id", String(64)),
    Column("scopes", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    Index("ix_grants_user_id", "user_id"),
    Index("ix_grants_session_id", "session_id"),
    Index("ix_grants_expires_at", "expires_at"),
)

authorization_codes = Table(
    "authorization_codes",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("grant_id", String(64), nullable=False),
    Column("client_id", String(64), nullable=False),
    Column("client_generation", Integer, nullable=False),
    Column("user_id", String(64), nullable=False),
    Column("user_generation", Integer, nullable=False),
    # The session of the browser, for `sid`, whether or not the grant depends on it.
    Column("session_id", String(64)),
    Column("redirect_uri", Text, nullable=False),
    Column("code_challenge", String(64), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("audience", Text, nullable=False),
    Column("nonce", Text),
    Column("auth_time", BigInteger, nullable=False),
    Column("acr", String(16), nullable=False),
    Column("amr", String(64), nullable=False),
    Column("dpop_jkt", String(64)),
    Column("expires_at", BigInteger, nullable=False),
    Column("used_at", BigInteger),
    Index("ix_authorization_codes_expires_at", "expires_at"),
    sqlite_with_rowid=False,
)

refresh_tokens = Table(
    "refresh_tokens",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("grant_id", String(64), nullable=False),
    Column("client_id", String(64), nullable=False),
    Column("client_generation", Integer, nullable=False),
    Column("user_id", String(64), nullable=False),
    Column("user_generation", Integer, nullable=False),
    Column("session_id", String(64)),
    Column("scopes", Text, nullable=False),
    Column("audience", Text, nullable=False),
    Column("binding", String(64)),
    Column("auth_time", BigInteger, nullable=False),
    Column("acr", String(16), nullable=False),
    Column("amr", String(64), nullable=False),
    Column("issued_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("used_at", Double),
    # The answer that replaced it, sealed under a key derived from this very token: for the grace only.
    Column("successor", LargeBinary),
    Index("ix_refresh_tokens_grant_id", "grant_id"),
    Index("ix_refresh_tokens_expires_at", "expires_at"),
    sqlite_with_rowid=False,
)

pushed_requests = Table(
    "pushed_requests",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("client_id", String(64), nullable=False),
    # JSON object of the request's parameters, without credentials.
    Column("parameters", Text, nullable=False),
    Column("dpop_jkt", String(64)),
    Column("expires_at", BigInteger, nullable=False),
    Column("used_at", BigInteger),
    Index("ix_pushed_requests_expires_at", "expires_at"),
)

interactions = Table(
    "interactions",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    # Of the browser cookie: another browser cannot go on with it.
    Column("browser_digest", LargeBinary(32), nullable=False),
    Column("client_id", String(64), nullable=False),
    Column("request", Text, nullable=False),
    # JSON: what was shown and decided, see interactions.py.
    Column("state", Text, nullable=False),
    Column("user_id", String(64)),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("done_at", BigInteger),
    Index("ix_interactions_expires_at", "expires_at"),
)

device_codes = Table(
    "device_codes",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("user_code_digest", LargeBinary(32), nullable=False, unique=True),
    Column("client_id", String(64), nullable=False),
    Column("client_generation", Integer, nullable=False),
    Column("scopes", Text, nullable=False),
    Column("audience", Text, nullable=False),
    Column("acr_values", Text, nullable=False, server_default=""),
    # pending, approved, denied, used
    Column("status", String(16), nullable=False),
    Column("grant_id", String(64)),
    Column("user_id", String(64)),
    Column("user_generation", Integer),
    Column("session_id", String(64)),
    Column("auth_time", BigInteger),
    Column("acr", String(16)),
    Column("amr", String(64)),
    Column("dpop_jkt", String(64)),
    Column("interval_seconds", Integer, nullable=False),
    Column("polled_at", Double),
    Column("expires_at", BigInteger, nullable=False),
    Index("ix_device_codes_expires_at", "expires_at"),
)

consents = Table(
    "consents",
    metadata,
    Column("user_id", String(64), primary_key=True),
    Column("client_id", String(64), primary_key=True),
    Column("scopes", Text, nullable=False),
    Column("updated_at", BigInteger, nullable=False),
)

initial_access_tokens = Table(
    "initial_access_tokens",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("token_id", String(64), nullable=False, unique=True),
    Column("name", String(128), nullable=False),
    # Scopes and grant types that a client registered with it may have at most (JSON).
    Column("allowed", Text, nullable=False),
    Column("uses_left", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
)

users = Table(
    "users",
    metadata,
    Column("user_id", String(64), primary_key=True),
    # NFKC, case-folded: what is compared. `username` is what is shown.
    Column("username_key", String(256), nullable=False, unique=True),
    Column("username", String(256), nullable=False),
    Column("name", String(256)),
    Column("email", String(320)),
    Column("email_verified", Boolean, nullable=False, server_default="0"),
    Column("locale", String(16)),
    # Space separated: `admin` may use the admin API.
    Column("roles", Text, nullable=False, server_default=""),
    Column("password_hash", Text),
    Column("password_changed_at", BigInteger),
    # An administrator set the password: it must be changed at the next sign-in.
    Column("must_change_password", Boolean, nullable=False, server_default="0"),
    # INVARIANT: sessions and tokens are alive only while they carry their user's generation.
    Column("generation", Integer, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("disabled_at", BigInteger),
)

passkeys = Table(
    "passkeys",
    metadata,
    Column("credential_id", LargeBinary(1024), primary_key=True),
    Column("user_id", ForeignKey("users.user_id"), nullable=False, index=True),
    Column("name", String(128), nullable=False),
    Column("public_key", LargeBinary, nullable=False),
    Column("sign_count", BigInteger, nullable=False),
    Column("aaguid", String(36)),
    Column("transports", Text, nullable=False, server_default=""),
    Column("backed_up", Boolean, nullable=False, server_default="0"),
    Column("created_at", BigInteger, nullable=False),
    Column("last_used_at", BigInteger),
)

totp_secrets = Table(
    "totp_secrets",
    metadata,
    Column("user_id", ForeignKey("users.user_id"), primary_key=True),
    Column("sealed_secret", LargeBinary, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    # Null until the first code was right.
    Column("confirmed_at", BigInteger),
    # RFC 6238 §5.2: the last time step that was accepted; it and all before are spent.
    Column("last_step", BigInteger, nullable=False, server_default="0"),
)

recovery_codes = Table(
    "recovery_codes",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("user_id", ForeignKey("users.user_id"), nullable=False, index=True),
    Column("created_at", BigInteger, nullable=False),
    Column("used_at", BigInteger),
)

# Single-use values that the server handed to a browser: WebAuthn challenges, sign-ins that wait for a second factor.
pending_sign_ins = Table(
    "pending_sign_ins",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("browser_digest", LargeBinary(32), nullable=False),
    # password_proved, passkey_sign_in, passkey_registration, totp_registration
    Column("purpose", String(32), nullable=False),
    Column("user_id", String(64)),
    Column("state", Text, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("used_at", BigInteger),
    Index("ix_pending_sign_ins_expires_at", "expires_at"),
)

sessions = Table(
    "sessions",
    metadata,
    Column("session_id", String(64), primary_key=True),
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("user_id", String(64), nullable=False),
    Column("user_generation", Integer, nullable=False),
    Column("auth_time", BigInteger, nullable=False),
    Column("acr", String(16), nullable=False),
    Column("amr", String(64), nullable=False),
    Column("address", String(64), nullable=False),
    Column("user_agent", String(256), nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("last_seen_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    Index("ix_sessions_user_id", "user_id"),
    Index("ix_sessions_expires_at", "expires_at"),
)

# Failed sign-ins, counted by keyed digests of names and addresses; survives a restart.
sign_in_failures = Table(
    "sign_in_failures",
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    # GCRA's theoretical arrival time.
    Column("arrival", Double, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Index("ix_sign_in_failures_expires_at", "expires_at"),
    sqlite_with_rowid=False,
)

audit_head = Table(
    "audit_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("sequence", BigInteger, nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
)

audit_events = Table(
    "audit_events",
    metadata,
    Column("sequence", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=False),
    Column("time", Double, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("user_id", String(64)),
    Column("client_id", String(64)),
    Column("session_id", String(64)),
    Column("address", String(64)),
    Column("detail", Text, nullable=False),
    Column("previous", LargeBinary(32), nullable=False),
    Column("digest", LargeBinary(32), nullable=False),
    Index("ix_audit_events_user_id", "user_id"),
)

# Client assertions, DPoP proofs and other single-use identifiers, until each expires by itself.
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
    # token, client, user, session, grant
    Column("kind", String(16), nullable=False),
    Column("digest", LargeBinary(32)),
    Column("client_id", String(64)),
    # Of the user, session or grant.
    Column("subject_id", String(64)),
    Column("revoked_at", Double, nullable=False),
    Index("ix_revocations_revoked_at", "revoked_at"),
)
