"""E11, 2022-10-04: notifications were a day late; a backlog must be sent automatically."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.conftest import NOW, Clock
from tests.exporting import generate, parsed_file, wait_until_ended
from tests.running import working
from tests.world import World
from tis_sync.esr.deaneries import FileType
from tis_sync.esr.export.commands import Commands, CommandState
from tis_sync.esr.export.monitor import check_export
from tis_sync.esr.files.store import find_files
from tis_sync.settings.model import Settings


def test_a_backlog_of_three_silent_days_is_sent_with_the_next_file_in_order(
    embedded_tcs: World, tmp_path: Path
) -> None:
    backlog: list[dict[str, Any]] = [
        {"id": n, "notificationTitleCode": "4", "managingDeaneryBodyCode": "WES",
         "deaneryPostNumber": f"WES/{n}",
         "createdDate": NOW.replace(tzinfo=None) - timedelta(days=n % 3, minutes=n)}
        for n in range(1, 31)
    ]  # fmt: skip
    embedded_tcs.fill({"EsrNotification": backlog})
    settings = Settings(home=tmp_path, tcs_url=embedded_tcs.url)
    clock = Clock(NOW - timedelta(days=4))
    with working(settings, clock) as s:
        generate(s)
        clock.now = NOW.replace(hour=15, minute=1)
        check_export(s)
        started = (CommandState.QUEUED, CommandState.RUNNING, CommandState.DONE)
        wait_until_ended(s, [command.id for command in Commands(s.state).in_state(*started)])
        (file,) = find_files(s.state, deanery="WES", file_type=FileType.DNC)
        sent = parsed_file(s, file).records["deaneryPostNumber"].to_list()
    in_order = sorted(backlog, key=lambda row: row["createdDate"])
    assert sent == [row["deaneryPostNumber"] for row in in_order]
