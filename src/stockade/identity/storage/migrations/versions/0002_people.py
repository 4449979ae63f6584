"""People: users and what proves them, sessions, grants and codes, refresh tokens, consents, and the audit record."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Tables are added, and columns that old rows may leave empty. Nothing is rewritten, so size costs no time."""
    _extend_what_was()
    _add_grants()
    _add_people()
    _add_audit()


def _extend_what_was() -> None:
    op.add_column("clients", sa.Column("metadata", sa.Text, nullable=False, server_default="{}"))
    op.add_column("clients", sa.Column("registration_digest", sa.LargeBinary(32)))
    for column in (
        sa.Column("user_id", sa.String(64)),
        sa.Column("user_generation", sa.Integer),
        sa.Column("grant_id", sa.String(64)),
        sa.Column("session_id", sa.String(64)),
        sa.Column("binding", sa.String(64)),
        sa.Column("auth_time", sa.BigInteger),
        sa.Column("acr", sa.String(16)),
        sa.Column("amr", sa.String(64)),
        sa.Column("act", sa.Text),
    ):
        op.add_column("access_tokens", column)
    op.add_column("revocations", sa.Column("subject_id", sa.String(64)))


def _add_grants() -> None:
    op.create_table(
        "grants",
        sa.Column("grant_id", sa.String(64), primary_key=True),
        sa.Column("client_id", sa.String(64), nullable=False),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("session_id", sa.String(64)),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("revoked_at", sa.BigInteger),
    )
    op.create_index("ix_grants_user_id", "grants", ["user_id"])
    op.create_index("ix_grants_session_id", "grants", ["session_id"])
    op.create_index("ix_grants_expires_at", "grants", ["expires_at"])
    op.create_table(
        "authorization_codes",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("grant_id", sa.String(64), nullable=False),
        sa.Column("client_id", sa.String(64), nullable=False),
        sa.Column("client_generation", sa.Integer, nullable=False),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("user_generation", sa.Integer, nullable=False),
        sa.Column("session_id", sa.String(64)),
        sa.Column("redirect_uri", sa.Text, nullable=False),
        sa.Column("code_challenge", sa.String(64), nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("audience", sa.Text, nullable=False),
        sa.Column("nonce", sa.Text),
        sa.Column("auth_time", sa.BigInteger, nullable=False),
        sa.Column("acr", sa.String(16), nullable=False),
        sa.Column("amr", sa.String(64), nullable=False),
        sa.Column("dpop_jkt", sa.String(64)),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("used_at", sa.BigInteger),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_authorization_codes_expires_at", "authorization_codes", ["expires_at"])
    op.create_table(
        "refresh_tokens",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("grant_id", sa.String(64), nullable=False),
        sa.Column("client_id", sa.String(64), nullable=False),
        sa.Column("client_generation", sa.Integer, nullable=False),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("user_generation", sa.Integer, nullable=False),
        sa.Column("session_id", sa.String(64)),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("audience", sa.Text, nullable=False),
        sa.Column("binding", sa.String(64)),
        sa.Column("auth_time", sa.BigInteger, nullable=False),
        sa.Column("acr", sa.String(16), nullable=False),
        sa.Column("amr", sa.String(64), nullable=False),
        sa.Column("issued_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("used_at", sa.Double),
        sa.Column("successor", sa.LargeBinary),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_refresh_tokens_grant_id", "refresh_tokens", ["grant_id"])
    op.create_index("ix_refresh_tokens_expires_at", "refresh_tokens", ["expires_at"])
    op.create_table(
        "pushed_requests",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("client_id", sa.String(64), nullable=False),
        sa.Column("parameters", sa.Text, nullable=False),
        sa.Column("dpop_jkt", sa.String(64)),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("used_at", sa.BigInteger),
    )
    op.create_index("ix_pushed_requests_expires_at", "pushed_requests", ["expires_at"])
    op.create_table(
        "interactions",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("browser_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("client_id", sa.String(64), nullable=False),
        sa.Column("request", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("user_id", sa.String(64)),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("done_at", sa.BigInteger),
    )
    op.create_index("ix_interactions_expires_at", "interactions", ["expires_at"])
    op.create_table(
        "device_codes",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("user_code_digest", sa.LargeBinary(32), nullable=False, unique=True),
        sa.Column("client_id", sa.String(64), nullable=False),
        sa.Column("client_generation", sa.Integer, nullable=False),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("audience", sa.Text, nullable=False),
        sa.Column("acr_values", sa.Text, nullable=False, server_default=""),
        sa.Column("status", sa.String(16), nullable=False),
        sa.Column("grant_id", sa.String(64)),
        sa.Column("user_id", sa.String(64)),
        sa.Column("user_generation", sa.Integer),
        sa.Column("session_id", sa.String(64)),
        sa.Column("auth_time", sa.BigInteger),
        sa.Column("acr", sa.String(16)),
        sa.Column("amr", sa.String(64)),
        sa.Column("dpop_jkt", sa.String(64)),
        sa.Column("interval_seconds", sa.Integer, nullable=False),
        sa.Column("polled_at", sa.Double),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )
    op.create_index("ix_device_codes_expires_at", "device_codes", ["expires_at"])
    op.create_table(
        "consents",
        sa.Column("user_id", sa.String(64), primary_key=True),
        sa.Column("client_id", sa.String(64), primary_key=True),
        sa.Column("scopes", sa.Text, nullable=False),
        sa.Column("updated_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "initial_access_tokens",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("token_id", sa.String(64), nullable=False, unique=True),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("allowed", sa.Text, nullable=False),
        sa.Column("uses_left", sa.Integer, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
    )


def _add_people() -> None:
    op.create_table(
        "users",
        sa.Column("user_id", sa.String(64), primary_key=True),
        sa.Column("username_key", sa.String(256), nullable=False, unique=True),
        sa.Column("username", sa.String(256), nullable=False),
        sa.Column("name", sa.String(256)),
        sa.Column("email", sa.String(320)),
        sa.Column("email_verified", sa.Boolean, nullable=False, server_default="0"),
        sa.Column("locale", sa.String(16)),
        sa.Column("roles", sa.Text, nullable=False, server_default=""),
        sa.Column("password_hash", sa.Text),
        sa.Column("password_changed_at", sa.BigInteger),
        sa.Column("must_change_password", sa.Boolean, nullable=False, server_default="0"),
        sa.Column("generation", sa.Integer, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("disabled_at", sa.BigInteger),
    )
    op.create_table(
        "passkeys",
        sa.Column("credential_id", sa.LargeBinary(1024), primary_key=True),
        sa.Column("user_id", sa.String(64), sa.ForeignKey("users.user_id"), nullable=False, index=True),
        sa.Column("name", sa.String(128), nullable=False),
        sa.Column("public_key", sa.LargeBinary, nullable=False),
        sa.Column("sign_count", sa.BigInteger, nullable=False),
        sa.Column("aaguid", sa.String(36)),
        sa.Column("transports", sa.Text, nullable=False, server_default=""),
        sa.Column("backed_up", sa.Boolean, nullable=False, server_default="0"),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("last_used_at", sa.BigInteger),
    )
    op.create_table(
        "totp_secrets",
        sa.Column("user_id", sa.String(64), sa.ForeignKey("users.user_id"), primary_key=True),
        sa.Column("sealed_secret", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("confirmed_at", sa.BigInteger),
        sa.Column("last_step", sa.BigInteger, nullable=False, server_default="0"),
    )
    op.create_table(
        "recovery_codes",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("user_id", sa.String(64), sa.ForeignKey("users.user_id"), nullable=False, index=True),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("used_at", sa.BigInteger),
    )
    op.create_table(
        "pending_sign_ins",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("browser_digest", sa.LargeBinary(32), nullable=False),
        sa.Column("purpose", sa.String(32), nullable=False),
        sa.Column("user_id", sa.String(64)),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("used_at", sa.BigInteger),
    )
    op.create_index("ix_pending_sign_ins_expires_at", "pending_sign_ins", ["expires_at"])
    op.create_table(
        "sessions",
        sa.Column("session_id", sa.String(64), primary_key=True),
        sa.Column("digest", sa.LargeBinary(32), nullable=False, unique=True),
        sa.Column("user_id", sa.String(64), nullable=False),
        sa.Column("user_generation", sa.Integer, nullable=False),
        sa.Column("auth_time", sa.BigInteger, nullable=False),
        sa.Column("acr", sa.String(16), nullable=False),
        sa.Column("amr", sa.String(64), nullable=False),
        sa.Column("address", sa.String(64), nullable=False),
        sa.Column("user_agent", sa.String(256), nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.Column("last_seen_at", sa.BigInteger, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sa.Column("revoked_at", sa.BigInteger),
    )
    op.create_index("ix_sessions_user_id", "sessions", ["user_id"])
    op.create_index("ix_sessions_expires_at", "sessions", ["expires_at"])
    op.create_table(
        "sign_in_failures",
        sa.Column("digest", sa.LargeBinary(32), primary_key=True),
        sa.Column("arrival", sa.Double, nullable=False),
        sa.Column("expires_at", sa.BigInteger, nullable=False),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_sign_in_failures_expires_at", "sign_in_failures", ["expires_at"])


def _add_audit() -> None:
    op.create_table(
        "audit_head",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
    )
    op.create_table(
        "audit_events",
        sa.Column(
            "sequence", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False
        ),
        sa.Column("time", sa.Double, nullable=False),
        sa.Column("kind", sa.String(64), nullable=False),
        sa.Column("user_id", sa.String(64)),
        sa.Column("client_id", sa.String(64)),
        sa.Column("session_id", sa.String(64)),
        sa.Column("address", sa.String(64)),
        sa.Column("detail", sa.Text, nullable=False),
        sa.Column("previous", sa.LargeBinary(32), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
    )
    op.create_index("ix_audit_events_user_id", "audit_events", ["user_id"])
    op.execute(
        sa.text("INSERT INTO audit_head (id, sequence, digest) VALUES (1, 0, :digest)").bindparams(digest=bytes(32))
    )
