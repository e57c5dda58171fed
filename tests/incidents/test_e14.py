"""E14, 2024-05-31: more than 40 applicants for one post, and an applicant who was repeated."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.conftest import TODAY
from tests.exporting import check_consistency, export, generate, states
from tests.running import working
from tests.starters import combined, person, placement, post, starters
from tests.world import World
from tis_sync.esr.export.explain import explain
from tis_sync.esr.files.store import find_files
from tis_sync.esr.records import RecordState, find_records
from tis_sync.settings.model import Settings


@pytest.fixture
def settings(embedded_tcs: World, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, tcs_url=embedded_tcs.url)


def test_the_surplus_over_forty_records_of_a_post_is_postponed_to_the_next_file_with_a_reason(
    settings: Settings, embedded_tcs: World
) -> None:
    people = [person(number) for number in range(1, 46)]
    placements = [
        placement(number, number, 1, TODAY + timedelta(days=10 + number)) for number in range(1, 46)
    ]
    embedded_tcs.fill(combined(*people, post(1), {"Placement": placements}))
    with working(settings) as s:
        export(s, "WES")
        (file,) = find_files(s.state)
        assert file.records == 40
        waiting = find_records(s.state, states=[RecordState.TO_EXPORT])
        assert [r.placement_id for r in waiting] == [41, 42, 43, 44, 45]
        reason = (
            f"one file can contain 40 records for a post; {file.name} has that many, so this "
            "record goes into the next file"
        )
        assert {r.postponed for r in waiting} == {reason}
        assert any("postponed: one file can contain 40" in line for line in explain(s, 41).lines)
        export(s, "WES", new=True)
        assert states(s) == {RecordState.EXPORTED: 45}
        assert {r.postponed for r in find_records(s.state, limit=None)} == {None}
        check_consistency(s, embedded_tcs)


def test_a_repeated_record_is_in_only_one_file(settings: Settings, embedded_tcs: World) -> None:
    rows = starters(1)
    rows["PostEsrEvent"] *= 3
    embedded_tcs.fill(rows)
    with working(settings) as s:
        for _ in range(3):
            generate(s)
            export(s, "WES", new=True)
        assert [file.records for file in find_files(s.state)] == [0, 0, 1]
        check_consistency(s, embedded_tcs)
