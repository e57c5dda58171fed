"""E1, 2019-05-07: a changeover of 47,000 placements ran out of memory; the job only knew "today".

That 47,000 at once stay within bounds, `python -m benchmarks.esr` measures.
"""

from datetime import timedelta
from pathlib import Path

from tests.conftest import NOW, TODAY, Clock
from tests.exporting import check_books, export, said, states
from tests.running import working
from tests.starters import person, placement, post, starters, together
from tests.world import World
from tis_sync.esr.deaneries import DNC
from tis_sync.esr.files import files
from tis_sync.esr.plan import EXPORTED
from tis_sync.settings import Settings


def test_days_on_which_nobody_made_the_notifications_are_made_good(
    embedded_tcs: World, tmp_path: Path
) -> None:
    starts = {number: TODAY - timedelta(days=number) for number in (1, 2, 3, 4)}
    places = [placement(n, n, n, day, siteCode="A") for n, day in starts.items()]
    parts = [part for n in starts for part in (person(n), post(n))]
    embedded_tcs.fill(together(*parts, {"Placement": places}))
    settings = Settings(home=tmp_path, tcs_url=embedded_tcs.url)
    clock = Clock(NOW - timedelta(days=3))
    with working(settings, clock) as s:
        export(s, "WES", file_type=DNC)
        first = said(settings, files(s.state)[0]).body
        assert first["deaneryPostNumber"].to_list() == ["WES/RHM01/3/F2/003"]
        clock.forward(days=3)
        export(s, "WES", file_type=DNC)
        made_good = said(settings, files(s.state)[0]).body
        assert made_good["deaneryPostNumber"].to_list() == [
            "WES/RHM01/2/F2/003", "WES/RHM01/1/F2/003",
        ]  # fmt: skip
        assert set(made_good["notificationTitleCode"]) == {"1"}


def test_any_past_day_can_be_exported(embedded_tcs: World, tmp_path: Path) -> None:
    embedded_tcs.fill(starters(3))
    settings = Settings(home=tmp_path, tcs_url=embedded_tcs.url)
    day = TODAY - timedelta(days=5)
    with working(settings) as s:
        (done,) = export(s, "WES", day=day)
        assert done.file == f"DE_WES_APP_{day:%Y%m%d}_00000001.DAT"
        assert states(s) == {EXPORTED: 3}
        check_books(s, embedded_tcs)
