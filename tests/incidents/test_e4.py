"""E4, 2020-07-01: a malformed postcode that we sent broke the confirmations; re-runs duplicated."""

from pathlib import Path

from tests.exporting import check_consistency, export, parsed_file, states
from tests.running import working
from tests.starters import starters
from tests.world import World
from tis_sync.esr.deaneries import FileType
from tis_sync.esr.files.columns import layout_of
from tis_sync.esr.files.flat_file import parse
from tis_sync.esr.files.store import find_files
from tis_sync.esr.records import RecordState, find_records
from tis_sync.settings.model import Settings


def test_a_malformed_postcode_costs_one_record_with_a_reason_and_reruns_send_nothing_twice(
    embedded_tcs: World, tmp_path: Path
) -> None:
    rows = starters(3)
    rows["ContactDetails"][1]["postCode"] = "SW1A\\1AA"
    embedded_tcs.fill(rows)
    settings = Settings(home=tmp_path, tcs_url=embedded_tcs.url)
    with working(settings) as s:
        for _ in range(3):
            export(s, "WES")
        (file,) = find_files(s.state)
        assert parsed_file(s, file).records.height == 2
        assert states(s) == {RecordState.EXPORTED: 2, RecordState.INVALID_DATA: 1}
        (invalid,) = find_records(s.state, states=[RecordState.INVALID_DATA])
        assert invalid.reason == "postcode 'SW1A\\1AA' is not a UK postcode"
        check_consistency(s, embedded_tcs)


def test_one_bad_line_of_a_file_costs_one_line(embedded_tcs: World, tmp_path: Path) -> None:
    embedded_tcs.fill(starters(3))
    settings = Settings(home=tmp_path, tcs_url=embedded_tcs.url)
    with working(settings) as s:
        export(s, "WES")
        (file,) = find_files(s.state)
    path = Path(settings.export().removeprefix("file://"), file.name)
    lines = path.read_bytes().split(b"\r\n")
    lines[2] = lines[2].replace(b'"', b"", 1)
    parsed = parse(layout_of(FileType.APP, settings), b"\r\n".join(lines))
    assert parsed.records["line"].to_list() == [2, 4]
    assert [(bad.number, bad.reason) for bad in parsed.bad] == [(3, "its quotes are not paired")]
