"""Compare the documents of single people or posts with what TCS contains now."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from tis_sync.jobs.base import AsOf, IndexTarget, Job
from tis_sync.runs.services import Services
from tis_sync.search.documents import encode
from tis_sync.search.model import KEYS_PER_BUCKET, SYNC
from tis_sync.tcs.key_ranges import ALL_KEYS, KeyRange
from tis_sync.tcs.source import Source

Documents = Mapping[str, Mapping[str, Any]]


@dataclass(frozen=True)
class Comparison:
    """The documents of one key (a person or a post), compared with what TCS contains now.

    Attributes:
        documents: the ids of the documents that we wrote.
        foreign: the ids of documents that others wrote, such as TCS at an edit.
        missing: the ids of documents that should exist.
        surplus: the ids of documents of ours that should not exist.
        differing: for each document with an old content, the names of the fields that differ.

    """

    documents: list[str] = field(default_factory=list)
    foreign: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    surplus: list[str] = field(default_factory=list)
    differing: dict[str, list[str]] = field(default_factory=dict)

    @property
    def is_current(self) -> bool:
        """Whether search says about this key what TCS contains now, and nothing else."""
        return not (self.foreign or self.missing or self.surplus or self.differing)


def compare(s: Services, job: Job, keys: list[int]) -> dict[int, Comparison]:
    """Compare the documents of a few keys with what the job derives from TCS now.

    Args:
        s: the services.
        job: the job that maintains the index.
        keys: the ids of people or posts.

    Returns:
        A comparison for each key.

    Raises:
        UnreachableError: TCS or the search server does not answer.

    """
    target = job.target
    assert isinstance(target, IndexTarget)
    existing: Documents = {}
    live = s.search().live(target.spec)
    if live is not None and live.ours and keys:
        existing = s.search().documents(live.name, target.form.key, keys)
    desired = _desired(s, target, keys)
    return {
        key: _compared(
            {name: d for name, d in desired.items() if d[target.form.key] == key},
            {name: d for name, d in existing.items() if d.get(target.form.key) == key},
            target.form.fields,
        )
        for key in keys
    }


def _desired(s: Services, target: IndexTarget, keys: list[int]) -> Documents:
    """The documents that should exist now, by id."""
    as_of = AsOf.on(s.clock().date())
    source = Source(s.tcs(), as_of.today, s.settings.home / "spool")
    whole = [read for read in target.reads if read.partition_column is None]
    partitioned = [read for read in target.reads if read.partition_column is not None]
    buckets = sorted({key // KEYS_PER_BUCKET for key in keys})
    shared = source.load(whole, ALL_KEYS).frames if buckets else {}
    bodies: list[pl.DataFrame] = []
    for bucket in buckets:
        neighbours = KeyRange(bucket * KEYS_PER_BUCKET, (bucket + 1) * KEYS_PER_BUCKET)
        # Fresh reads use the indexes of TCS; others would read whole tables to keep them.
        loaded = source.load(partitioned, neighbours, fresh=True)
        views = target.views({**shared, **loaded.frames}, as_of).collect()
        bodies.append(encode(views.filter(pl.col(target.form.key).is_in(keys)), target.form))
    return {
        name: json.loads(body)
        for frame in bodies
        for name, body in frame.select("id", "body").iter_rows()
    }


def _compared(desired: Documents, existing: Documents, fields: tuple[str, ...]) -> Comparison:
    foreign = {name for name, document in existing.items() if SYNC not in document}
    ours = existing.keys() - foreign
    differing = {
        name: [f for f in fields if desired[name].get(f) != existing[name].get(f)]
        for name in sorted(ours & desired.keys())
    }
    return Comparison(
        documents=sorted(ours),
        foreign=sorted(foreign),
        missing=sorted(desired.keys() - ours),
        surplus=sorted(ours - desired.keys()),
        differing={name: names for name, names in differing.items() if names},
    )
