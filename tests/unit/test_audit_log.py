"""Entries of the audit log are only added; whoever changes or removes some is found out."""

import logging
import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.conftest import NOW, ROOT
from tests.demo_runs import ACTOR
from tests.worker_processes import environment
from tis_sync import audit
from tis_sync.db.database import Database
from tis_sync.errors import TisSyncError, UnreachableError
from tis_sync.settings.model import Settings
from tis_sync.state import web_tables as t
from tis_sync.state.database import open_state


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.servers)])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> Settings:
    url = request.getfixturevalue("postgresql") if request.param == "postgresql" else None
    return Settings(home=tmp_path, state_url=url)


@pytest.fixture
def state(settings: Settings) -> Iterator[Database]:
    database = open_state(settings)
    yield database
    database.close()


def fill(state: Database, count: int = 5) -> None:
    for number in range(1, count + 1):
        moment = NOW + timedelta(days=number)
        audit.record(state, moment, ACTOR, "run", f"job {number}", audit.DONE)


def tamper(state: Database, statement: str) -> None:
    """Do what somebody can do who may change the tables of the state database."""
    table = "" if state.dialect == "sqlite" else " ON audit"
    with state.write() as connection:
        connection.execute(sa.text(f"DROP TRIGGER IF EXISTS audit_only_grows{table}"))
        connection.execute(sa.text(statement))


def unreachable(*_: object, **__: object) -> int:
    raise UnreachableError("The state database does not answer.")


def test_an_action_is_there_before_it_begins_and_while_it_lasts(state: Database) -> None:
    detail: dict[str, Any] = {"options": "--rebuild"}
    with audit.audited(state, NOW, ACTOR, "run", "x", detail):
        (running,) = audit.entries(state)
        assert running.outcome == audit.STARTED
        detail["count"] = 3
    (ended,) = audit.entries(state)
    assert (ended.id, ended.outcome) == (running.id, audit.DONE)
    assert "--rebuild" in ended.detail
    assert '"count": 3' in ended.detail
    assert audit.verify(state).faults == ()


def test_what_cannot_be_recorded_is_not_done(
    state: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []
    monkeypatch.setattr(audit, "_append", unreachable)
    with pytest.raises(UnreachableError), audit.audited(state, NOW, ACTOR, "run", "x"):
        done.append("it")
    assert not done


def test_an_action_that_is_done_stays_done_if_its_outcome_cannot_be_recorded(
    state: Database, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with audit.audited(state, NOW, ACTOR, "run", "x"):
        monkeypatch.setattr(audit, "_append", unreachable)
    monkeypatch.undo()
    assert audit.entries(state)[0].outcome == audit.STARTED
    assert "the outcome is not in the audit log" in caplog.text


def test_every_entry_goes_to_the_log_with_its_hash(
    state: Database, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, audit.LOGGER), audit.audited(state, NOW, ACTOR, "run", "x"):
        pass
    begun, ended = [r.msg for r in caplog.records if r.name == audit.LOGGER]
    assert isinstance(begun, dict)
    assert isinstance(ended, dict)
    assert (begun["outcome"], ended["outcome"]) == (audit.STARTED, audit.DONE)
    assert ended["completes"] == begun["entry"]
    assert ended["hash"] == audit.verify(state).last_hash
    assert audit.verify(state, begun["hash"]).faults == ()


def test_the_database_refuses_to_change_an_entry(state: Database) -> None:
    fill(state, 1)
    change = sa.update(t.audit).values(actor="bob")
    with (
        pytest.raises((TisSyncError, sa.exc.DBAPIError), match="cannot be changed"),
        state.write() as connection,
    ):
        connection.execute(change)
    assert audit.entries(state)[0].actor == ACTOR.name


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit SET actor = 'bob' WHERE id = 3",
        "UPDATE audit SET outcome = 'no' WHERE id = 3",
        "UPDATE audit SET hash = NULL WHERE id <= 3",
        "UPDATE audit SET hash = NULL WHERE id = 3",
        "DELETE FROM audit WHERE id = 3",
        "DELETE FROM audit WHERE id <= 2",
        "UPDATE audit SET id = 9 WHERE id = 3",
    ],
)
def test_an_entry_that_was_changed_or_removed_is_named(state: Database, statement: str) -> None:
    fill(state)
    assert audit.verify(state).faults == ()
    tamper(state, statement)
    assert audit.verify(state).faults


def test_an_end_that_was_removed_or_replaced_is_noticed_with_a_hash_from_the_log(
    state: Database,
) -> None:
    fill(state)
    last = audit.verify(state).last_hash
    tamper(state, "DELETE FROM audit WHERE id >= 4")
    assert audit.verify(state).faults == ()
    assert "the end of the audit log was removed" in audit.verify(state, last).faults[0]
    fill(state, 2)
    assert audit.verify(state, last).faults


def test_retention_deletes_the_beginning_and_the_rest_stays_verifiable(state: Database) -> None:
    fill(state)
    assert audit.prune(state, NOW + timedelta(days=402, hours=1), 400) == 2
    assert (audit.verify(state).entries, audit.verify(state).faults) == (3, ())
    assert audit.prune(state, NOW + timedelta(days=900), 400) == 3
    fill(state, 1)
    assert audit.verify(state).faults == ()
    assert [entry.id for entry in audit.entries(state)] == [6]
    tamper(state, "DELETE FROM audit_start")
    assert audit.verify(state).faults


def test_entries_of_earlier_versions_are_kept_and_counted(state: Database) -> None:
    with state.write() as connection:
        connection.execute(
            sa.insert(t.audit).values(
                id=7, at=NOW, actor="ann", channel="local", action="run", subject="x", detail="",
                outcome="done",
            )
        )  # fmt: skip
    fill(state, 2)
    state_of = audit.verify(state)
    assert (state_of.entries, state_of.unprotected, state_of.last_id) == (2, 1, 9)
    assert state_of.faults == ()
    assert audit.prune(state, NOW + timedelta(days=401, hours=1), 400) == 2
    assert audit.verify(state).faults == ()


def test_the_zone_of_a_time_and_odd_characters_do_not_spoil_the_hash(state: Database) -> None:
    elsewhere = NOW.astimezone(timezone(timedelta(hours=5)))
    audit.record(state, elsewhere, ACTOR, "run", "a\0b \udcff é", "x\udcff", {"a": "\udcff"})
    assert audit.verify(state).faults == ()


PROCESS = """
import sys
from tests.conftest import NOW
from tests.demo_runs import ACTOR
from tis_sync import audit
from tis_sync.settings.model import Settings
from tis_sync.state.database import open_state

state = open_state(Settings())
for number in range(25):
    with audit.audited(state, NOW, ACTOR, "run", f"{sys.argv[1]} {number}"):
        pass
"""


def test_several_processes_add_entries_at_once(state: Database, settings: Settings) -> None:
    command = [sys.executable, "-c", PROCESS]
    processes = [
        subprocess.Popen([*command, str(number)], env=environment(settings), cwd=ROOT)
        for number in range(4)
    ]
    assert [process.wait(120) for process in processes] == [0] * 4
    verified = audit.verify(state)
    assert (verified.entries, verified.last_id, verified.faults) == (200, 200, ())
    assert {entry.outcome for entry in audit.entries(state, 500)} == {audit.DONE}
