"""Pictures: where the boxes and arrows of the jobs' graph go, and how long a bar is."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from statistics import median, quantiles

from tis_sync.jobs.base import Job
from tis_sync.jobs.catalogue import BY_NAME, JOBS, upstream

BOX_WIDTH, BOX_HEIGHT = 330, 66
GAP_X, GAP_Y = 70, 18
NIGHTS_NEEDED = 2  # before there is a spread
BAR_WIDTH = 200


@dataclass(frozen=True)
class Box:
    """A job in the graph: its upper left corner."""

    job: Job
    x: int
    y: int


@dataclass(frozen=True)
class Graph:
    """The jobs as the graph that they are, in SVG units."""

    width: int
    height: int
    boxes: tuple[Box, ...]
    arrows: tuple[str, ...]
    """Paths, from the right side of a box to the left side of one that waits for it."""


@dataclass(frozen=True)
class Usual:
    """How long a job took in the last nights, in seconds: the middle one, and the middle half."""

    nights: int
    median: float
    low: float
    high: float


def title_of(job: Job) -> str:
    """A job's name in words: PersonOwnerRebuildJob is "Person owner rebuild"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", job.name.removesuffix("Job")).capitalize()


@cache
def graph() -> Graph:
    """Every job in a column behind those that it waits for, and in the row of one of them.

    Arrows that a longer way implies are left out; the others run along rows that are free.
    """
    order = [*TopologicalSorter({job.name: upstream(job) for job in JOBS}).static_order()]
    column: dict[str, int] = {}
    for name in order:
        column[name] = 1 + max((column[other] for other in upstream(BY_NAME[name])), default=-1)
    firsts = [job.name for job in JOBS if not column[job.name]]
    row = {name: i for i, name in enumerate(sorted(firsts, key=_end_of))}
    for name in sorted(order, key=column.__getitem__):
        ahead = [row[n] for n in upstream(BY_NAME[name]) if column[n] == column[name] - 1]
        row.setdefault(name, min(ahead, default=0))
    boxes = {
        name: Box(
            BY_NAME[name],
            1 + column[name] * (BOX_WIDTH + GAP_X),
            1 + row[name] * (BOX_HEIGHT + GAP_Y),
        )
        for name in order
    }
    return Graph(
        width=(1 + max(column.values())) * (BOX_WIDTH + GAP_X) - GAP_X + 2,
        height=(1 + max(row.values())) * (BOX_HEIGHT + GAP_Y) - GAP_Y + 2,
        boxes=tuple(boxes[job.name] for job in JOBS),
        arrows=tuple(
            _arrow(boxes[ahead], boxes[name]) for name in order for ahead in _directly_ahead(name)
        ),
    )


def _end_of(name: str) -> int:
    """The place in the list of jobs of the one that all ways from a job end in."""
    followers = [job.name for job in JOBS if name in upstream(job)]
    return max(map(_end_of, followers), default=JOBS.index(BY_NAME[name]))


def _ahead_of(name: str) -> set[str]:
    """All that a job waits for, directly or not."""
    direct = upstream(BY_NAME[name])
    return direct.union(*map(_ahead_of, direct))


def _directly_ahead(name: str) -> list[str]:
    """What a job waits for, but for what it waits for by way of others."""
    direct = upstream(BY_NAME[name])
    return sorted(direct.difference(*map(_ahead_of, direct)))


def _arrow(source: Box, target: Box) -> str:
    y1, y2 = source.y + BOX_HEIGHT // 2, target.y + BOX_HEIGHT // 2
    bend = target.x - GAP_X
    middle = target.x - GAP_X // 2
    return f"M{source.x + BOX_WIDTH},{y1} H{bend} C{middle},{y1} {middle},{y2} {target.x - 2},{y2}"


def usual(seconds: Sequence[float]) -> Usual | None:
    """What is usual, of the durations of the last nights; None: there were none."""
    if not seconds:
        return None
    low = high = seconds[0]
    if len(seconds) >= NIGHTS_NEEDED:
        low, _, high = quantiles(seconds, n=4, method="inclusive")
    return Usual(len(seconds), median(seconds), low, high)


def scaled(value: float, longest: float, width: int = BAR_WIDTH) -> float:
    """How long a bar for a value is, where the longest fills the width."""
    return round(width * value / longest, 1) if longest else 0.0
