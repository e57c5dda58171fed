"""Open the state database, and migrate its tables to the newest version."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy.engine import make_url

from tis_sync.db.database import Database, connect
from tis_sync.errors import SchemaError, UsageError
from tis_sync.private_files import protect_file
from tis_sync.settings.model import Settings

MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = "tis_sync_version"
NAME, SETTING = "The state database", "TIS_SYNC_STATE_URL"
MIGRATION_LOCK = 7_436_501  # PostgreSQL advisory lock: several workers may start at once


def open_state(settings: Settings) -> Database:
    """Open the state database and migrate its tables to the newest version.

    Raises:
        UsageError: it is neither SQLite nor PostgreSQL.
        UnreachableError: it does not answer.
        SchemaError: a newer version of tis-sync has used it.

    """
    database = connect(settings.state(), name=NAME, setting=SETTING)
    if database.dialect not in {"sqlite", "postgresql"}:
        raise UsageError(
            f"{SETTING} names {database.dialect}; the state database must be SQLite or PostgreSQL."
        )
    if database.dialect == "sqlite":
        for url in (settings.state(), settings.dbos()):
            for suffix in ("", "-wal", "-shm"):
                protect_file(Path(f"{make_url(url).database}{suffix}"))
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with database.write() as connection:
        if database.dialect == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError:
            raise SchemaError(f"{NAME} was used by a newer tis-sync; update this one.") from None
    return database
