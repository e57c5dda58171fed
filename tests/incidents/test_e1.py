"""E1, 2019-05-07: a changeover of 47,000 placements ran out of memory; the job only knew "today".

`python -m benchmarks.esr` measures that 47,000 placements at once stay within bounds.
"""

from datetime import timedelta
from pathlib import Path

from tests.conftest import NOW, TODAY, Clock
from tests.exporting import check_consistency, export, parsed_file, states
from tests.running import working
from tests.starters import combined, person, placement, post, starters
from tests.world import World
from tis_sync.esr.deaneries import FileType
from tis_sync.esr.files.store import find_files
from tis_sync.esr.records import RecordState
from tis_sync.settings.model import Settings


def test_the_notifications_of_missed_days_are_loaded_later(
    embedded_tcs: World, tmp_path: Path
) -> None:
    starts = {number: TODAY - timedelta(days=number) for number in (1, 2, 3, 4)}
    placements = [placement(n, n, n, day, siteCode="A") for n, day in starts.items()]
    parts = [part for n in starts for part in (person(n), post(n))]
    embedded_tcs.fill(combined(*parts, {"Placement": placements}))
    settings = Settings(home=tmp_path, tcs_url=embedded_tcs.url)
    clock = Clock(NOW - timedelta(days=3))
    with working(settings, clock) as s:
        export(s, "WES", file_type=FileType.DNC)
        first = parsed_file(s, find_files(s.state)[0]).records
        assert first["deaneryPostNumber"].to_list() == ["WES/RHM01/3/F2/003"]
        clock.forward(days=3)
        export(s, "WES", file_type=FileType.DNC)
        later = parsed_file(s, find_files(s.state)[0]).records
        assert later["deaneryPostNumber"].to_list() == [
            "WES/RHM01/2/F2/003", "WES/RHM01/1/F2/003",
        ]  # fmt: skip
        assert set(later["notificationTitleCode"]) == {"1"}


def test_any_past_day_can_be_exported(embedded_tcs: World, tmp_path: Path) -> None:
    embedded_tcs.fill(starters(3))
    settings = Settings(home=tmp_path, tcs_url=embedded_tcs.url)
    day = TODAY - timedelta(days=5)
    with working(settings) as s:
        (done,) = export(s, "WES", day=day)
        assert done.file == f"DE_WES_APP_{day:%Y%m%d}_00000001.DAT"
        assert states(s) == {RecordState.EXPORTED: 3}
        check_consistency(s, embedded_tcs)
