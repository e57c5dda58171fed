"""Charts: positions of the boxes and arrows of the job graph, and lengths of bars."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import median, quantiles

from tis_sync.jobs.base import Job
from tis_sync.jobs.catalogue import JOB_BY_NAME, JOBS, upstream

BOX_WIDTH, BOX_HEIGHT = 330, 66
GAP_X, GAP_Y = 70, 18
BORDER = 1  # for half of a box's outline
MIN_NIGHTS = 2  # before durations have a spread
BAR_WIDTH = 200

# Column and row of each job's box. A job stands to the right of the jobs that it waits for, and no
# arrow, which runs along the row where it begins, may cross a box.
POSITIONS: dict[str, tuple[int, int]] = {
    "PersonOwnerRebuildJob": (0, 0),
    "PersonPlacementEmployingBodyTrustJob": (0, 1),
    "PersonPlacementTrainingBodyTrustJob": (1, 1),
    "PersonRecordStatusJob": (0, 2),
    "PersonElasticSearchSyncJob": (2, 1),
    "PostEmployingBodyTrustJob": (0, 3),
    "PostTrainingBodyTrustJob": (1, 3),
    "PostFundingStatusSyncJob": (0, 4),
    "PostElasticSearchSyncJob": (2, 3),
}


@dataclass(frozen=True)
class Box:
    """A job in the graph, with the upper left corner of its box."""

    job: Job
    x: int
    y: int


@dataclass(frozen=True)
class Graph:
    """The graph of the jobs, in SVG units.

    Attributes:
        width: of the whole picture.
        height: of the whole picture.
        boxes: one for each job.
        arrows: SVG paths, each from the right side of a box to the left side of one that waits
            for it.

    """

    width: int
    height: int
    boxes: tuple[Box, ...]
    arrows: tuple[str, ...]


@dataclass(frozen=True)
class Usual:
    """The usual duration of a job, from its last nights.

    Attributes:
        nights: number of nights.
        median: in seconds.
        low: lower quartile, in seconds.
        high: upper quartile, in seconds.

    """

    nights: int
    median: float
    low: float
    high: float


def title_of(job: Job) -> str:
    """Return a job's name in words: PersonOwnerRebuildJob is "Person owner rebuild"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", job.name.removesuffix("Job")).capitalize()


@cache
def graph() -> Graph:
    """Return the graph of the jobs; arrows that a longer path implies are left out."""
    boxes = {
        job.name: Box(
            job,
            BORDER + POSITIONS[job.name][0] * (BOX_WIDTH + GAP_X),
            BORDER + POSITIONS[job.name][1] * (BOX_HEIGHT + GAP_Y),
        )
        for job in JOBS
    }
    return Graph(
        width=max(box.x for box in boxes.values()) + BOX_WIDTH + BORDER,
        height=max(box.y for box in boxes.values()) + BOX_HEIGHT + BORDER,
        boxes=tuple(boxes.values()),
        arrows=tuple(
            _arrow(boxes[other], boxes[job.name])
            for job in JOBS
            for other in _directly_ahead(job.name)
        ),
    )


def _ahead_of(name: str) -> set[str]:
    """All jobs that a job waits for, directly or indirectly."""
    direct = upstream(JOB_BY_NAME[name])
    return direct.union(*map(_ahead_of, direct))


def _directly_ahead(name: str) -> list[str]:
    """The jobs that a job waits for, without those that it also waits for through another."""
    direct = upstream(JOB_BY_NAME[name])
    return sorted(direct.difference(*map(_ahead_of, direct)))


def _arrow(start: Box, end: Box) -> str:
    y1, y2 = start.y + BOX_HEIGHT // 2, end.y + BOX_HEIGHT // 2
    bend = end.x - GAP_X
    middle = end.x - GAP_X // 2
    return f"M{start.x + BOX_WIDTH},{y1} H{bend} C{middle},{y1} {middle},{y2} {end.x - 2},{y2}"


def usual(seconds: Sequence[float]) -> Usual | None:
    """Return the usual duration, from the durations of the last nights; None: there were none."""
    if not seconds:
        return None
    low = high = seconds[0]
    if len(seconds) >= MIN_NIGHTS:
        low, _, high = quantiles(seconds, n=4, method="inclusive")
    return Usual(len(seconds), median(seconds), low, high)


def scaled(value: float, longest: float, width: int = BAR_WIDTH) -> float:
    """Return the length of a bar for a value, where the longest bar fills the width."""
    return round(width * value / longest, 1) if longest else 0.0
