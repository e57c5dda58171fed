"""Control characters never reach a file for ESR: the record is INVALID_DATA, and says why."""

from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest
import sqlalchemy as sa

from tests.conftest import NOW, TODAY
from tests.exporting import export, generate
from tests.running import working
from tests.world import World
from tis_sync.alarms.catalogue import INVALID_NOTIFICATIONS
from tis_sync.demo import generate as demo
from tis_sync.esr.deaneries import FileType
from tis_sync.esr.files.columns import layout_of
from tis_sync.esr.files.flat_file import unfit
from tis_sync.esr.files.store import find_files, get_file
from tis_sync.esr.records import RecordState, find_records
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.tcs import tables as t

CONTROLS = ["\r", "\n", "\r\nAPP,", "\x1b[2J", "\x00", "\t", "\x7f", "\x85", "\x9b", "\u2028"]


@pytest.mark.parametrize("control", CONTROLS)
def test_a_text_with_a_control_character_does_not_fit_any_layout(control: str) -> None:
    for file_type in FileType:
        body = layout_of(file_type, Settings()).body
        texts = [field for field in body.fields if field.is_text]
        assert texts
        for field in texts:
            values: dict[str, list[str | None]] = {other.column: [None] for other in body.fields}
            values[field.column] = [f"a{control}b"[: max(field.size, 3)]]
            frame = pl.DataFrame(values, schema=dict.fromkeys(values, pl.String()))
            (reasons,) = frame.select(reasons=unfit(body))["reasons"].to_list()
            (found,) = [reason for reason in reasons if "control character" in reason]
            assert found.startswith(f"{field.name} 'a\\")
            assert found.isprintable(), found


@pytest.fixture
def s(embedded_tcs: World, tmp_path: Path) -> Iterator[Services]:
    demo.generate(embedded_tcs.database, demo.Size(300), TODAY)
    with working(Settings(home=tmp_path, tcs_url=embedded_tcs.url)) as services:
        yield services


def data_of(s: Services, name: str) -> bytes:
    return Path(s.settings.export().removeprefix("file://"), name).read_bytes()


def test_a_record_with_a_control_character_is_invalid_and_names_the_reason(s: Services) -> None:
    with s.tcs().write() as connection:
        connection.execute(
            sa.update(t.ContactDetails).values(address1="1 High St\r\nFlat 2", postCode="\x1bX")
        )
    generate(s)
    invalid = find_records(s.state, states=[RecordState.INVALID_DATA], limit=None)
    assert find_records(s.state, states=[RecordState.TO_EXPORT], limit=None) == []
    reasons = [str(record.reason) for record in invalid]
    known = [reason for reason in reasons if "lastName is missing" not in reason]
    assert len(known) > len(reasons) / 2  # some people have no contact details at all
    for reason in known:
        assert "address1 '1 High St\\r\\nFlat 2' contains a control character" in reason
        assert "postcode '\\x1bX' is not a UK postcode" in reason
        assert reason.isprintable()
    for command in export(s, "WES", "LDN", "NWN"):
        lines = data_of(s, str(command.file)).split(b"\r\n")
        assert [line[:3] for line in lines] == [b"HDR", b"TRL", b""]


def test_white_space_around_a_value_is_still_removed(s: Services) -> None:
    with s.tcs().write() as connection:
        connection.execute(sa.update(t.ContactDetails).values(address1="\t1 High St\r\n"))
    generate(s)
    assert find_records(s.state, states=[RecordState.TO_EXPORT], limit=None)


def notification(world: Services, **values: object) -> None:
    texts = [c.name for c in t.EsrNotification.columns if isinstance(c.type, sa.String)]
    row = dict.fromkeys(texts, "12") | {
        "notificationTitleCode": "4", "managingDeaneryBodyCode": "LDN",
        "deaneryPostNumber": "LDN/RVY/126/ST6/026",
        "createdDate": NOW.replace(tzinfo=None),
    }  # fmt: skip
    with world.tcs().write() as connection:
        connection.execute(sa.insert(t.EsrNotification).values(row | values))


def test_a_notification_with_a_control_character_is_left_out_and_is_an_alarm_until_corrected(
    s: Services,
) -> None:
    with s.tcs().write() as connection:
        connection.execute(sa.delete(t.EsrNotification))
    notification(s, id=900001, deaneryPostNumber="LDN/RVY\r\nTRL,0")
    notification(s, id=900002, deaneryPostNumber="LDN/RVY/2")
    export(s, "LDN", file_type=FileType.DNC)
    (file,) = find_files(s.state)
    assert b"LDN/RVY/2" in data_of(s, file.name)
    assert b"TRL,0" not in data_of(s, file.name)
    (alarm,) = s.alarms.open_alarms(INVALID_NOTIFICATIONS)
    assert alarm.subject == "LDN"
    assert "EsrNotification 900001: deaneryPostNumber contains a control character" in alarm.text
    assert "RVY" not in alarm.text
    with s.tcs().write() as connection:
        bad = t.EsrNotification.c.id == 900001
        connection.execute(
            sa.update(t.EsrNotification).where(bad).values(deaneryPostNumber="LDN/RVY/1")
        )
    (second,) = export(s, "LDN", file_type=FileType.DNC, new=True)
    assert get_file(s.state, str(second.file)).records == 1
    assert s.alarms.open_alarms(INVALID_NOTIFICATIONS) == []
