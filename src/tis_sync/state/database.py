"""The database of our own state: connect to it, and bring its tables up to date."""

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from alembic.util import CommandError

from tis_sync.errors import SchemaError, UsageError
from tis_sync.settings import Settings
from tis_sync.tcs.connect import connect, explained

MIGRATIONS = Path(__file__).parent / "migrations"
VERSION_TABLE = "tis_sync_version"
NAME, SETTING = "The state database", "TIS_SYNC_STATE_URL"
MIGRATION_LOCK = 7_436_501  # PostgreSQL advisory lock: several workers may start at once


def open_state(settings: Settings) -> sa.Engine:
    """An engine for our state, its tables at the newest version.

    Raises:
        UsageError: the URL names neither SQLite nor PostgreSQL.
        UnreachableError: it does not answer.
        SchemaError: a newer version of this program has used it.

    """
    engine = connect(settings.state(), name=NAME, setting=SETTING)
    if engine.dialect.name not in {"sqlite", "postgresql"}:
        raise UsageError(
            f"{SETTING} names {engine.dialect.name}; state needs SQLite or PostgreSQL."
        )
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    writing = engine.execution_options(writes=True)
    with explained(engine, name=NAME, setting=SETTING), writing.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(MIGRATION_LOCK)))
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError:
            raise SchemaError(
                f"{NAME} was used by a newer tis-sync than this one; update this one."
            ) from None
    return engine
