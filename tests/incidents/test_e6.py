"""E6, 2021-03-01: a VPD code was sent as 96 instead of 096; pay was at risk."""

from pathlib import Path

from tests.conftest import NOW
from tests.exporting import export, parsed_file
from tests.running import working
from tests.world import World
from tis_sync.esr.deaneries import FileType
from tis_sync.esr.files.store import find_files
from tis_sync.settings.model import Settings


def test_codes_keep_their_declared_width(embedded_tcs: World, tmp_path: Path) -> None:
    codes = ("96", "096", "7", "123")
    embedded_tcs.fill(
        {
            "EsrNotification": [
                {"notificationTitleCode": "1", "managingDeaneryBodyCode": "WES",
                 "deaneryPostNumber": f"WES/{code}", "currentTraineeVpdForNextPlacement": code,
                 "createdDate": NOW.replace(tzinfo=None)}
                for code in codes
            ]
        }
    )  # fmt: skip
    settings = Settings(home=tmp_path, tcs_url=embedded_tcs.url)
    with working(settings) as s:
        export(s, "WES", file_type=FileType.DNC)
        records = parsed_file(s, find_files(s.state)[0]).records
    sent = records["currentTraineeVpdForNextPlacement"].to_list()
    assert sent == ["096", "096", "007", "123"]
