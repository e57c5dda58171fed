"""DBOS's tables, the log and alarms contain no personal data, whatever happens."""

import base64
import binascii
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.error import HTTPError
from uuid import uuid4

import pytest
import sqlalchemy as sa

from tests.conftest import NOW, TODAY, Clock
from tests.exporting import generate
from tests.running import run_job, run_night, working
from tests.search_server import send
from tests.starters import starters
from tests.world import World
from tis_sync.alarms.catalogue import INVALID_RECORDS
from tis_sync.demo import generate as demo
from tis_sync.demo.legacy_state import legacy_tables
from tis_sync.esr.export.monitor import check_export
from tis_sync.jobs.catalogue import JOBS
from tis_sync.runs.run import RunState
from tis_sync.search.response import Refusal, Response
from tis_sync.settings.model import Settings
from tis_sync.tcs import tables as t

SHORTEST_NAME = 5  # characters; shorter surnames may be parts of other words
ON_POSTGRESQL = pytest.param(True, marks=pytest.mark.servers)


@pytest.fixture(params=[False, ON_POSTGRESQL], ids=["embedded", "postgresql"])
def settings(request: pytest.FixtureRequest, embedded_tcs: World, tmp_path: Path) -> Settings:
    demo.generate(embedded_tcs.database, demo.Size(200), TODAY, legacy_tables)
    return Settings(
        home=tmp_path / "home",
        tcs_url=embedded_tcs.url,
        state_url=request.getfixturevalue("postgresql") if request.param else None,
        partition_keys=80,
        rebuild_share=1,
    )


def personal_data(tcs: World) -> set[str]:
    """The surnames and GMC numbers of all people."""
    with tcs.database.read() as connection:
        surnames = connection.scalars(sa.select(t.ContactDetails.c.surname))
        numbers = connection.scalars(sa.select(t.GmcDetails.c.gmcNumber))
        return {
            text
            for text in (*surnames, *numbers)
            if text is not None and len(text) >= SHORTEST_NAME
        }


def stored(settings: Settings) -> Iterator[str]:
    """Every value in DBOS's tables as text: as it is, and decoded."""
    engine = sa.create_engine(settings.dbos())
    inspector = sa.inspect(engine)
    schema = None if settings.embedded_state else "dbos"
    with engine.connect() as connection:
        for name in inspector.get_table_names(schema):
            table = sa.Table(name, sa.MetaData(), schema=schema, autoload_with=engine)
            for row in connection.execute(sa.select(table)):
                for value in row:
                    yield from readings(value)
    engine.dispose()


def readings(value: object) -> Iterator[str]:
    """The texts that a stored value may stand for."""
    yield str(value)
    data = value if isinstance(value, bytes) else str(value).encode()
    try:
        decoded = base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return
    yield decoded.decode(errors="replace")


def found(settings: Settings, tcs: World) -> set[str]:
    texts = "\n".join(stored(settings))
    assert '"considered":' in texts  # what steps return is there, and can be read
    return {text for text in personal_data(tcs) if text in texts}


def change_somebody(tcs: World) -> None:
    with tcs.database.write() as connection:
        connection.execute(sa.delete(t.PersonOwner).where(t.PersonOwner.c.id < 20))
        connection.execute(
            sa.update(t.ContactDetails).where(t.ContactDetails.c.id < 20).values(forenames="New")
        )


def a_night(settings: Settings, tcs: World) -> None:
    with working(settings) as services:
        for _ in range(2):
            night, *runs = run_night(services)
            assert night.state == RunState.SUCCEEDED, night.error
            assert any(run.written for run in runs)
            assert not any(run.detail.sample for run in runs)
            change_somebody(tcs)


def dry_runs(settings: Settings, tcs: World) -> None:
    with working(settings) as services:
        for build_first in (False, True):
            if build_first:
                run_night(services)
                change_somebody(tcs)
            for job in JOBS:
                (run,) = run_job(services, job.name, dry_run=True)
                assert run.state == RunState.SUCCEEDED, run.error
                assert bool(run.detail.sample) == bool(run.written)
                assert all(len(rows) <= 5 for rows in run.detail.sample.values())
            person = run_job(services, "PersonElasticSearchSyncJob", dry_run=True)[0]
            assert any(text in str(person.detail.sample) for text in personal_data(tcs))


@pytest.mark.parametrize("act", [a_night, dry_runs])
def test_no_name_and_no_gmc_number_reaches_the_tables_of_dbos(
    act: Callable[[Settings, World], None], settings: Settings, embedded_tcs: World
) -> None:
    act(settings, embedded_tcs)
    assert found(settings, embedded_tcs) == set()


def test_a_record_that_the_export_cannot_use_is_logged_without_its_value(
    embedded_tcs: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    embedded_tcs.fill(starters(1))
    embedded_tcs.execute("UPDATE PersonalDetails SET dateOfBirth = '1972-02-31'")
    with working(Settings(home=tmp_path, tcs_url=embedded_tcs.url)) as s:
        generate(s)
    (line,) = [r.msg for r in caplog.records if "set aside" in r.getMessage()]
    assert isinstance(line, dict)
    assert {line[name] for name in ("table", "column", "reason")} == {
        "PersonalDetails", "dateOfBirth", "is not a date"
    }  # fmt: skip
    assert line["key"]
    assert "1972-02" not in caplog.text


def test_an_alarm_about_invalid_records_names_placements_and_quotes_nothing(
    embedded_tcs: World, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = starters(1)
    rows["ContactDetails"][0]["postCode"] = "nowhere"
    embedded_tcs.fill(rows)
    clock = Clock(NOW)
    with working(Settings(home=tmp_path, tcs_url=embedded_tcs.url), clock) as s:
        generate(s)
        clock.forward(days=2)
        check_export(s)
        (alarm,) = s.alarms.open_alarms(INVALID_RECORDS)
    assert "placement 1" in alarm.text
    assert "nowhere" not in (alarm.text + caplog.text).lower()


@pytest.mark.servers
@pytest.mark.parametrize("kind", ["elasticsearch", "opensearch"])
def test_the_reason_of_a_refused_document_quotes_none_of_its_values(
    kind: str, request: pytest.FixtureRequest
) -> None:
    address = str(request.getfixturevalue(kind))
    index = f"reasons-{uuid4().hex[:12]}"
    fields = {"number": {"type": "long"}, "name": {"type": "keyword"}, "day": {"type": "date"}}
    send(address, "PUT", f"/{index}", {"mappings": {"dynamic": "strict", "properties": fields}})
    documents = [
        {"number": "O'Brien"},
        {"number": {"surname": 'Smi"th'}},
        {"name": ["Jones", {"surname": "Smith"}]},
        {"name": "Miller" * 10_000},
        {"day": "1972-02-31"},
    ]
    try:
        answers = []
        for document in documents:
            try:
                send(address, "POST", f"/{index}/_doc", document)
            except HTTPError as error:
                answers.append(Response(error.code, json.load(error)))
    finally:
        send(address, "DELETE", f"/{index}")
    assert len(answers) == len(documents)
    for answer in answers:
        assert answer.refusal == Refusal.DOCUMENT
        for value in ("Brien", "Smi", "Jones", "Miller", "1972", "77, 105"):
            assert value not in answer.reason
    reasons = [answer.reason for answer in answers]
    assert "failed to parse field [number] of type [long]" in reasons[0]
    assert "Preview" not in reasons[0]
