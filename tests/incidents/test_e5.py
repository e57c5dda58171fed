"""E5, 2020-08-05: a backslash before a closing quote made a load fail."""

from pathlib import Path

from tests.exporting import export, parsed_file
from tests.running import working
from tests.starters import starters
from tests.world import World
from tis_sync.esr.files.store import find_files
from tis_sync.settings.model import Settings


def test_a_backslash_before_a_closing_quote_is_data(embedded_tcs: World, tmp_path: Path) -> None:
    rows = starters(2)
    rows["ContactDetails"][0] |= {"surname": "O\\", "address1": 'The "Old" House\\'}
    embedded_tcs.fill(rows)
    settings = Settings(home=tmp_path, tcs_url=embedded_tcs.url)
    with working(settings) as s:
        export(s, "WES")
        records = parsed_file(s, find_files(s.state)[0]).records
    assert records["lastName"].to_list() == ["O\\", "O'Brien 2"]
    assert records["address1"].to_list() == ['The "Old" House\\', None]
