"""Names, numbers and addresses go after their time, or on request; numbers and states stay."""

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.conftest import NOW, Clock
from tests.exporting import check_consistency, export, generate, states, tcs_events
from tests.running import working
from tests.starters import combined, person, placement, post
from tests.world import World
from tis_sync import actions, audit, logs, retention
from tis_sync.alarms.catalogue import FAILED
from tis_sync.audit import Actor, Channel
from tis_sync.errors import NotFoundError, UsageError
from tis_sync.esr.deaneries import FileType
from tis_sync.esr.export.commands import CommandState
from tis_sync.esr.export.explain import explain
from tis_sync.esr.files.store import file_bytes, find_files, get_file, read_contents
from tis_sync.esr.records import RecordState, find_records
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.state import esr_tables as t
from tis_sync.tcs import tables as tcs

ANN = Actor("ann", Channel.LOCAL)
START = NOW.date() + timedelta(days=20)
# Of each person: what must not be found any more.
PEOPLE = {
    number: {
        "surname": f"Quixworth{number}",
        "forenames": f"Zephyrine{number}",
        "email": f"zephyrine{number}@example.org",
        "address1": f"{number} Marmalade Parade",
        "mobileNumber": f"0770090000{number}",
    }
    for number in (1, 2, 3)
}
NI_NUMBERS = {1: "AB123451C", 2: "AB123452C", 3: "AB123453C"}


def traces_of(number: int) -> set[str]:
    return {*PEOPLE[number].values(), NI_NUMBERS[number], f"{7_000_000 + number}"}


@pytest.fixture(params=["embedded", pytest.param("postgresql", marks=pytest.mark.servers)])
def settings(
    request: pytest.FixtureRequest, embedded_tcs: World, tmp_path: Path
) -> Iterator[Settings]:
    url = request.getfixturevalue("postgresql") if request.param == "postgresql" else None
    embedded_tcs.fill(people())
    found = Settings(
        home=tmp_path / "home",
        tcs_url=embedded_tcs.url,
        state_url=url,
        log_file=tmp_path / "sync.log",
        esr_retry_seconds=(0.1,),
        night_start_hours=(0, 0),
    )
    logs.configure(found)
    yield found
    logs.configure(Settings(home=tmp_path))


def people() -> dict[str, list[dict[str, Any]]]:
    """Two people who can be exported, one with a wrong postcode, and a notification about two."""
    parts: list[Any] = []
    for number, contact in PEOPLE.items():
        details = person(number, **contact)
        details["PersonalDetails"][0]["nationalInsuranceNumber"] = NI_NUMBERS[number]
        parts += [
            details,
            post(number),
            {"Placement": [placement(number, number, number, START)]},
        ]
    parts[6]["ContactDetails"][0]["postCode"] = "Marmalade"
    notification = {
        "id": 1, "managingDeaneryBodyCode": "WES", "createdDate": NOW.replace(tzinfo=None),
        "currentTraineeFirstName": PEOPLE[1]["forenames"],
        "currentTraineeLastName": PEOPLE[1]["surname"],
        "nextAppointmentTraineeGmcNumber": f"{7_000_002}",
    }  # fmt: skip
    return combined(*parts, {"EsrNotification": [notification]})


def export_all(s: Services) -> None:
    generate(s)
    for file_type in (FileType.APP, FileType.DNC):
        (command,) = export(s, "WES", file_type=file_type)
        assert command.state == CommandState.DONE, command.error


def add_letter_and_alarm(s: Services) -> None:
    """A dead letter and an alarm that quote the first person."""
    body = json.dumps({"nino": NI_NUMBERS[1], "name": PEOPLE[1]["surname"]}).encode()
    with s.state.write() as connection:
        connection.execute(
            sa.insert(t.dead_letter).values(
                id="letter", queue="q", reason="unusable", died_at=s.clock(),
                received_at=s.clock(), properties="{}", body=body,
            )
        )  # fmt: skip
    s.alarms.open(FAILED, "job", f"{NI_NUMBERS[1].lower()} was odd", s.clock(), impact="")
    s.alarms.close(FAILED, "job", s.clock())


def stored(s: Services) -> str:
    """Everything that is stored anywhere but in TCS and at the destination, as one text."""
    texts = []
    for url in {s.settings.state(), s.settings.dbos()}:
        engine = sa.create_engine(url)
        inspector = sa.inspect(engine)
        with engine.connect() as connection:
            for schema in ("public", "dbos") if engine.dialect.name == "postgresql" else (None,):
                for name in inspector.get_table_names(schema):
                    table = sa.Table(name, sa.MetaData(), schema=schema, autoload_with=engine)
                    for row in connection.execute(sa.select(table)):
                        texts += [
                            v.decode(errors="replace") if isinstance(v, bytes) else str(v)
                            for v in row
                        ]
        engine.dispose()
    kept = [s.settings.home, *Path(s.settings.home.parent).glob("sync.log*")]
    for path in kept:
        for file in path.rglob("*") if path.is_dir() else [path]:
            if file.is_file() and file.parent.name != "esr" and "search" not in file.parts:
                texts.append(file.read_bytes().decode("latin-1"))
    return "\n".join(texts)


def found(s: Services, number: int) -> set[str]:
    text = stored(s).casefold()
    return {trace for trace in traces_of(number) if trace.casefold() in text}


def test_after_their_time_nothing_says_who_anybody_is_and_the_books_balance(
    settings: Settings, embedded_tcs: World, tmp_path: Path
) -> None:
    clock = Clock()
    with working(settings, clock) as s:
        export_all(s)
        add_letter_and_alarm(s)
        invalid = find_records(s.state, states=[RecordState.INVALID_DATA])
        assert "marmalade" in (invalid[0].reason or "").lower()
        for number in PEOPLE:
            assert found(s, number), number
        events = tcs_events(embedded_tcs)
        clock.forward(days=30)
        generate(s)  # it is too late for the third person
        clock.forward(days=900)  # notifications have the time of the state database
        retention.prune(s)
        s.state.discard_deleted()
        assert logs.overwrite(tmp_path / "sync.log", [NI_NUMBERS[1]]) == 1  # of the alarm above
        assert {number: found(s, number) for number in PEOPLE} == {1: set(), 2: set(), 3: set()}
        check_consistency(s, embedded_tcs)
        assert tcs_events(embedded_tcs) == events
        assert states(s) == {RecordState.EXPORTED: 2, RecordState.DELETED_BEFORE_EXPORT: 1}
        assert {record.name for record in find_records(s.state)} == {"content deleted"}
        assert retention.prune(s) == 0
        file = find_files(s.state, file_type=FileType.APP)[0]
        assert file.records == 2
        for use in (file_bytes, read_contents):
            with pytest.raises(NotFoundError, match="deleted on"):
                use(s.state, settings, file)
        assert "content deleted" in " ".join(explain(s, 1).lines)


def test_nothing_is_sent_twice_after_the_content_is_gone(
    settings: Settings, embedded_tcs: World
) -> None:
    clock = Clock()
    with working(settings.model_copy(update={"esr_content_days": 1}), clock) as s:
        export_all(s)
        clock.forward(days=3)
        assert retention.prune(s) > 0
        generate(s)
        for file_type in (FileType.APP, FileType.DNC):
            (command,) = export(s, "WES", file_type=file_type, new=True)
            assert command.state == CommandState.DONE, command.error
            assert find_files(s.state, file_type=file_type)[0].records == 0
        check_consistency(s, embedded_tcs)
        (again,) = export(s, "WES", day=NOW.date())
        assert again.state == CommandState.DEAD
        assert "was deleted on" in (again.error or "")


def test_one_person_is_erased_everywhere_and_the_others_stay(
    settings: Settings, embedded_tcs: World
) -> None:
    with working(settings, Clock()) as s:
        export_all(s)
        add_letter_and_alarm(s)
        erased = actions.erase(s, ANN, [1], [PEOPLE[1]["address1"]])
        assert (erased.records, erased.lines, erased.dead_letters) == (1, 2, 1)
        assert erased.texts >= 1
        assert found(s, 1) == set()
        assert found(s, 2) == traces_of(2)
        check_consistency(s, embedded_tcs)
        assert states(s)[RecordState.EXPORTED] == 2
        (entry,) = [e for e in audit.entries(s.state) if e.action == "erase"]
        assert (entry.subject, entry.outcome) == ("placement 1", audit.DONE)
        assert '"lines": 2' in entry.detail
        generate(s)
        (command,) = export(s, "WES", new=True)
        assert command.state == CommandState.DONE
        assert get_file(s.state, command.file or "").records == 0
        assert found(s, 1) == set()


def test_a_person_without_a_record_is_erased_by_texts(
    settings: Settings, embedded_tcs: World
) -> None:
    with working(settings, Clock()) as s:
        add_letter_and_alarm(s)
        actions.erase(s, ANN, [], [NI_NUMBERS[1]])
        assert found(s, 1) == set()
        assert NI_NUMBERS[1] not in str(audit.entries(s.state))


def test_what_is_still_to_be_sent_and_short_texts_are_refused(
    settings: Settings, embedded_tcs: World
) -> None:
    with working(settings, Clock()) as s:
        generate(s)
        with pytest.raises(UsageError, match="TO_EXPORT, and still to be sent"):
            actions.erase(s, ANN, [1], [])
        with pytest.raises(UsageError, match="fewer than 5 characters"):
            actions.erase(s, ANN, [], ["Li"])
        with pytest.raises(NotFoundError, match="no record of these placements"):
            actions.erase(s, ANN, [99], [])
        assert found(s, 1)


def test_an_open_record_of_the_same_person_is_named(
    settings: Settings, embedded_tcs: World
) -> None:
    with working(settings, Clock()) as s:
        export_all(s)
        more = combined(post(9), {"Placement": [placement(9, 1, 9, START)]})
        embedded_tcs.fill(combined(people(), more))
        generate(s)
        erased = actions.erase(s, ANN, [1], [])
        assert erased.open_placements == (9,)
        with s.tcs().write() as connection:
            connection.execute(sa.delete(tcs.Placement).where(tcs.Placement.c.id == 9))
        generate(s)
        actions.erase(s, ANN, [9], [PEOPLE[1]["address1"]])
        assert found(s, 1) == set()
