"""The chart of the jobs, and what is usual: the data behind the pictures of the console."""

import re

from hypothesis import given
from hypothesis import strategies as st

from tis_sync.jobs.catalogue import JOB_BY_NAME, JOBS, upstream
from tis_sync.web.presenters.charts import BOX_HEIGHT, BOX_WIDTH, POSITIONS, graph, usual


def test_every_job_has_a_position_of_its_own_to_the_right_of_its_upstream_jobs() -> None:
    assert set(POSITIONS) == set(JOB_BY_NAME)
    assert len(set(POSITIONS.values())) == len(JOBS)
    for job in JOBS:
        column, _ = POSITIONS[job.name]
        assert all(POSITIONS[name][0] < column for name in upstream(job)), job.name


def test_every_box_is_in_the_picture_and_no_arrow_crosses_a_box() -> None:
    picture = graph()
    assert all(box.x + BOX_WIDTH <= picture.width for box in picture.boxes)
    assert all(box.y + BOX_HEIGHT <= picture.height for box in picture.boxes)
    assert picture.arrows
    for arrow in picture.arrows:
        begin, y, bend = (int(part) for part in re.findall(r"\d+", arrow)[:3])
        crossed = [b for b in picture.boxes if b.y < y < b.y + BOX_HEIGHT and begin <= b.x < bend]
        assert crossed == [], arrow


@given(st.lists(st.floats(0, 1e5), max_size=40))
def test_what_is_usual_lies_between_the_extremes(seconds: list[float]) -> None:
    result = usual(seconds)
    if not seconds:
        assert result is None
        return
    assert result is not None
    slack = 1e-6 * max(seconds)
    assert min(seconds) - slack <= result.low <= result.median + slack
    assert result.median - slack <= result.high <= max(seconds) + slack
    assert result.nights == len(seconds)
