"""E14, 2024-05-31: more than 40 applicants for one post, and one applicant repeated."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.conftest import TODAY
from tests.exporting import check_books, export, generate, states
from tests.running import working
from tests.starters import person, placement, post, starters, together
from tests.world import World
from tis_sync.esr.explain import explain
from tis_sync.esr.files import files
from tis_sync.esr.plan import EXPORTED, TO_EXPORT
from tis_sync.esr.records import records
from tis_sync.settings import Settings


@pytest.fixture
def settings(embedded_tcs: World, tmp_path: Path) -> Settings:
    return Settings(home=tmp_path, tcs_url=embedded_tcs.url)


def test_more_than_forty_records_of_a_post_wait_for_the_next_file_and_say_so(
    settings: Settings, embedded_tcs: World
) -> None:
    people = [person(number) for number in range(1, 46)]
    places = [
        placement(number, number, 1, TODAY + timedelta(days=10 + number)) for number in range(1, 46)
    ]
    embedded_tcs.fill(together(*people, post(1), {"Placement": places}))
    with working(settings) as s:
        export(s, "WES")
        (file,) = files(s.state)
        assert file.records == 40
        waiting = [r for r in records(s.state, limit=None) if r.state == TO_EXPORT]
        assert [r.placement_id for r in waiting] == [41, 42, 43, 44, 45]
        why = f"ESR would quarantine the whole file {file.name}; this one goes with the next"
        assert {r.held for r in waiting} == {f"more than 40 records for one post: {why}"}
        assert any("held: more than 40" in line for line in explain(s, 41).lines)
        export(s, "WES", new=True)
        assert states(s) == {EXPORTED: 45}
        assert {r.held for r in records(s.state, limit=None)} == {None}
        check_books(s, embedded_tcs)


def test_a_record_that_comes_again_is_in_one_file_only(
    settings: Settings, embedded_tcs: World
) -> None:
    rows = starters(1)
    rows["PostEsrEvent"] *= 3
    embedded_tcs.fill(rows)
    with working(settings) as s:
        for _ in range(3):
            generate(s)
            export(s, "WES", new=True)
        assert [file.records for file in files(s.state)] == [0, 0, 1]
        check_books(s, embedded_tcs)
