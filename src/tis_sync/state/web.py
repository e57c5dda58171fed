"""Our own tables for the console: who is signed in, tokens of machines, who did what."""

from sqlalchemy import Column, Integer, String, Table, Text

from tis_sync.state.tables import UtcDateTime, metadata

# Who is signed in, or is about to: with the provider, between leaving for it and coming back.
session = Table(
    "web_session",
    metadata,
    Column("id", String(64), primary_key=True),  # SHA-256 of what the cookie says
    Column("who", String(200)),  # null while signing in
    Column("roles", Text, nullable=False),  # JSON list
    Column("detail", Text, nullable=False),  # JSON: what the sign-in under way needs
    Column("expires_at", UtcDateTime, nullable=False, index=True),
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

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", UtcDateTime, nullable=False, index=True),
    Column("who", String(200), nullable=False),
    Column("how", String(20), nullable=False),  # session, bearer, token, local, command line
    Column("action", String(60), nullable=False),
    Column("subject", String(200), nullable=False),
    Column("detail", Text, nullable=False),
    Column("outcome", Text, nullable=False),  # "done", or why not
)
