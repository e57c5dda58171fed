"""E11, 2022-10-04: notifications a day late: a backlog drains by itself, in order."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.conftest import NOW, Clock
from tests.exporting import ended, generate, said
from tests.running import working
from tests.world import World
from tis_sync.esr import watch as esr_watch
from tis_sync.esr.commands import Commands
from tis_sync.esr.deaneries import DNC
from tis_sync.esr.files import files
from tis_sync.settings import Settings


def test_what_gathered_over_three_days_of_silence_goes_with_the_next_file_in_order(
    embedded_tcs: World, tmp_path: Path
) -> None:
    made: list[dict[str, Any]] = [
        {"id": n, "notificationTitleCode": "4", "managingDeaneryBodyCode": "WES",
         "deaneryPostNumber": f"WES/{n}",
         "createdDate": NOW.replace(tzinfo=None) - timedelta(days=n % 3, minutes=n)}
        for n in range(1, 31)
    ]  # fmt: skip
    embedded_tcs.fill({"EsrNotification": made})
    settings = Settings(home=tmp_path, tcs_url=embedded_tcs.url)
    clock = Clock(NOW - timedelta(days=4))
    with working(settings, clock) as s:
        generate(s)
        clock.now = NOW.replace(hour=15, minute=1)
        esr_watch.watch(s)
        asked = Commands(s.state).in_state("queued", "running", "done")
        ended(s, [command.id for command in asked])
        (file,) = files(s.state, deanery="WES", file_type=DNC)
        sent = said(settings, file).body["deaneryPostNumber"].to_list()
    in_order = sorted(made, key=lambda row: row["createdDate"])
    assert sent == [row["deaneryPostNumber"] for row in in_order]
