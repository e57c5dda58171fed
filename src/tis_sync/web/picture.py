"""Pictures: where the boxes and arrows of the jobs' graph go, and how long a bar is."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from statistics import median, quantiles

from tis_sync.jobs.base import Job
from tis_sync.jobs.catalogue import JOBS, upstream

BOX_WIDTH, BOX_HEIGHT = 286, 66
GAP_X, GAP_Y = 51, 18
NIGHTS_NEEDED = 2  # before there is a spread
BAR_WIDTH = 240


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
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", job.name.removesuffix("Job")).split()
    return " ".join([words[0], *(word.lower() for word in words[1:])])


@cache
def graph() -> Graph:
    """Every job in a column behind those that it waits for; the columns in the middle."""
    column: dict[str, int] = {}
    for name in TopologicalSorter({job.name: upstream(job) for job in JOBS}).static_order():
        ahead = upstream(next(job for job in JOBS if job.name == name))
        column[name] = 1 + max((column[other] for other in ahead), default=-1)
    columns = [
        [job for job in JOBS if column[job.name] == i] for i in range(max(column.values()) + 1)
    ]
    tallest = max(len(jobs) for jobs in columns)
    boxes = {}
    for i, jobs in enumerate(columns):
        top = (tallest - len(jobs)) * (BOX_HEIGHT + GAP_Y) // 2
        for j, job in enumerate(jobs):
            boxes[job.name] = Box(
                job, 1 + i * (BOX_WIDTH + GAP_X), 1 + top + j * (BOX_HEIGHT + GAP_Y)
            )
    arrows = [
        _arrow(boxes[name], box) for box in boxes.values() for name in sorted(upstream(box.job))
    ]
    return Graph(
        width=len(columns) * (BOX_WIDTH + GAP_X) - GAP_X + 2,
        height=tallest * (BOX_HEIGHT + GAP_Y) - GAP_Y + 2,
        boxes=tuple(boxes.values()),
        arrows=tuple(arrows),
    )


def _arrow(source: Box, target: Box) -> str:
    x1, y1 = source.x + BOX_WIDTH, source.y + BOX_HEIGHT // 2
    x2, y2 = target.x - 2, target.y + BOX_HEIGHT // 2
    bend = max(30, (x2 - x1) // 2)
    return f"M{x1},{y1} C{x1 + bend},{y1} {x2 - bend},{y2} {x2},{y2}"


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
