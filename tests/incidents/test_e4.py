"""E4, 2020-07-01: one malformed postcode, sent by us, broke the confirmations; re-runs doubled."""

from pathlib import Path

from tests.exporting import check_books, export, said, states
from tests.running import working
from tests.starters import starters
from tests.world import World
from tis_sync.esr.deaneries import APP
from tis_sync.esr.files import files
from tis_sync.esr.lines import parse
from tis_sync.esr.plan import EXPORTED, INVALID
from tis_sync.esr.records import records
from tis_sync.esr.sources import layout_of
from tis_sync.settings import Settings


def test_a_malformed_postcode_costs_one_record_which_says_so_and_reruns_double_nothing(
    embedded_tcs: World, tmp_path: Path
) -> None:
    rows = starters(3)
    rows["ContactDetails"][1]["postCode"] = "SW1A\\1AA"
    embedded_tcs.fill(rows)
    settings = Settings(home=tmp_path, tcs_url=embedded_tcs.url)
    with working(settings) as s:
        for _ in range(3):
            export(s, "WES")
        (file,) = files(s.state)
        assert said(settings, file).body.height == 2
        assert states(s) == {EXPORTED: 2, INVALID: 1}
        (bad,) = records(s.state, states=[INVALID])
        assert bad.reason == "postcode 'SW1A\\1AA' is no UK postcode"
        check_books(s, embedded_tcs)


def test_one_bad_line_of_a_file_costs_one_line(embedded_tcs: World, tmp_path: Path) -> None:
    embedded_tcs.fill(starters(3))
    settings = Settings(home=tmp_path, tcs_url=embedded_tcs.url)
    with working(settings) as s:
        export(s, "WES")
        (file,) = files(s.state)
    path = Path(settings.export().removeprefix("file://"), file.name)
    lines = path.read_bytes().split(b"\r\n")
    lines[2] = lines[2].replace(b'"', b"", 1)
    parsed = parse(layout_of(APP, settings), b"\r\n".join(lines))
    assert parsed.body["line"].to_list() == [2, 4]
    assert [(bad.number, bad.reason) for bad in parsed.bad] == [(3, "its quotes are not paired")]
