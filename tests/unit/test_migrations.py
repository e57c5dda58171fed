"""The migrations of the state database: they create the declared tables and keep all rows."""

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from json import dumps
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from tests.conftest import NOW
from tis_sync.alarms.catalogue import KIND_BY_NAME
from tis_sync.db.database import Database, connect
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.state import esr_tables, tables, web_tables
from tis_sync.state.database import MIGRATIONS, VERSION_TABLE
from tis_sync.state.tables import metadata

# A table is declared when its module is imported. These are all modules that declare some.
DECLARING = (tables, esr_tables, web_tables)
MOMENT = datetime(2026, 1, 5)  # noqa: DTZ001  as the tables store it


@pytest.fixture(params=["sqlite", "postgresql"])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    url = None if request.param == "sqlite" else request.getfixturevalue("postgresql")
    return Settings(home=tmp_path, state_url=url)


@pytest.fixture
def state(settings: Settings) -> Iterator[Database]:
    database = connect(settings.state(), name="State", setting="-")
    yield database
    database.close()


def migrate(state: Database, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with state.write() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)


def add_old_run(
    state: Database, run_id: str, job: str, day: str, *, dry_run: bool = False, hours: int = 0
) -> None:
    """Add a successful run for a day, in the form of revision 0004, created some hours later."""
    as_of = {"today": "2026-01-05", "first": day, "last": day, "every": False}
    with state.write() as connection:
        connection.execute(
            sa.text(
                "INSERT INTO run (id, job, trigger, who, as_of, options, dry_run, state, "
                "again, created_at, partitions_done, detail) "
                "VALUES (:id, :job, 'manual', 'ann', :as_of, '{}', :dry_run, 'succeeded', false, "
                ":at, 0, :detail)"
            ),
            {
                "id": run_id,
                "job": job,
                "as_of": dumps(as_of),
                "dry_run": dry_run,
                "at": MOMENT + timedelta(hours=hours),
                "detail": '{"added": [{"id": 1}]}',
            },
        )


def test_all_modules_with_tables_are_imported_here() -> None:
    declared = {v for module in DECLARING for v in vars(module).values() if isinstance(v, sa.Table)}
    assert declared == set(metadata.tables.values())


def test_the_migrations_create_the_declared_tables(state: Database) -> None:
    migrate(state, "head")
    with state.read() as connection:
        options = {"version_table": VERSION_TABLE}
        context = MigrationContext.configure(connection, opts=options)
        differences = compare_metadata(context, metadata)
    # Names of indexes and constraints stay those of the first migration that created them.
    changed = [found for found in differences if str(found[0]).endswith(("_table", "_column"))]
    assert changed == []


def test_an_older_state_keeps_its_rows_under_the_new_names(
    state: Database, settings: Settings
) -> None:
    migrate(state, "0004")
    add_old_run(state, "r1", "PersonOwnerRebuildJob", "2026-01-05", dry_run=True)
    with state.write() as connection:
        for number, (kind, key) in enumerate((("silent", "silent/scheduler"), ("dead", None))):
            connection.execute(
                sa.text(
                    "INSERT INTO alarm (id, kind, subject, open_key, raised_at, text) "
                    "VALUES (:id, :kind, 'scheduler', :key, :at, 'old text')"
                ),
                {"id": number + 1, "kind": kind, "key": key, "at": MOMENT},
            )
    state.close()
    services = Services(settings, lambda: NOW)
    (run,) = services.history.recent()
    assert (run.id, run.requested_by) == ("r1", "ann")
    assert run.detail.sample == {"added": [{"id": 1}]}
    (opened,) = services.alarms.open_alarms()
    assert opened.kind == KIND_BY_NAME["no worker"]
    assert services.alarms.close(opened.kind, opened.subject, NOW)
    closed = {alarm.kind.name for alarm in services.alarms.closed_alarms(10)}
    assert closed == {"no worker", "export failed"}
    services.close()


def test_a_run_for_a_past_day_does_not_move_the_covered_days_back(
    state: Database, settings: Settings
) -> None:
    migrate(state, "0004")
    for hours, day in enumerate(("2026-01-04", "2026-01-05", "2025-11-20")):
        add_old_run(state, f"r{hours}", "PersonRecordStatusJob", day, hours=hours)
    add_old_run(state, "dry", "PersonRecordStatusJob", "2026-02-01", dry_run=True)
    state.close()
    services = Services(settings, lambda: NOW)
    assert services.history.covered_until("PersonRecordStatusJob") == date(2026, 1, 5)
    services.close()
