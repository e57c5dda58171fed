"""The tables of the console in the state database: sessions, tokens and the audit log."""

from sqlalchemy import Column, Integer, String, Table, Text

from tis_sync.state.tables import UtcDateTime, metadata

# Sessions, including those of users who have not finished signing in at the provider.
session = Table(
    "web_session",
    metadata,
    Column("id", String(64), primary_key=True),  # SHA-256 of the value of the cookie
    Column("user_name", String(200)),  # null while signing in
    Column("roles", Text, nullable=False),  # JSON list
    # JSON: what the sign-in needs until it has finished; then `subject`, which identifies the user
    # at the provider, and `refresh_token`, encrypted with the value of the cookie.
    Column("detail", Text, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False, index=True),
    Column("created_at", UtcDateTime),  # null: before this column existed
    Column("checked_at", UtcDateTime),  # when the provider last confirmed user and roles
    Column("check_at", UtcDateTime),  # when the provider is asked again
)

token = Table(
    "web_token",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("name", String(100), nullable=False, unique=True),
    Column("hash", String(64), nullable=False, unique=True),  # SHA-256 of the token
    Column("role", String(20), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("created_by", String(200), nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Column("revoked_at", UtcDateTime),
    Column("used_at", UtcDateTime),
)

# Entries are only added: a trigger refuses changes. `tis_sync.audit` computes the hashes.
audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", UtcDateTime, nullable=False, index=True),
    Column("actor", String(200), nullable=False),
    Column("channel", String(20), nullable=False),  # `tis_sync.audit.Channel`
    Column("action", String(60), nullable=False),
    Column("subject", String(200), nullable=False),
    Column("detail", Text, nullable=False),
    Column("outcome", Text, nullable=False),  # "done", or the reason why not
    # The entry that recorded the beginning of the action; null if this is the first entry about it.
    Column("completes", Integer, index=True),
    # SHA-256 over the entry and the hash of the one before; null: an earlier version wrote it.
    Column("hash", String(64)),
)

# The last entry that retention has deleted: the first one that is left builds on its hash.
audit_start = Table(
    "audit_start",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("hash", String(64), nullable=False),
)
