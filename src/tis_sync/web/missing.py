"""Somebody is missing from search: are they in TCS, ought they to be in the index, are they?"""

from dataclasses import dataclass

import sqlalchemy as sa

from tis_sync.jobs.base import IndexProduct, Job
from tis_sync.jobs.person_index import PERSON_INDEX, PERSONS
from tis_sync.jobs.post_index import POST_INDEX, POSTS
from tis_sync.runs.services import Services
from tis_sync.search.model import KEYS_A_BUCKET
from tis_sync.tcs import tables as tcs
from tis_sync.tcs.connect import explained

INDEXES = {"persons": PERSONS, "posts": POSTS}
JOBS = {"persons": PERSON_INDEX, "posts": POST_INDEX}
MOST = 10  # records of TCS that are looked into
LARGEST_ID = 2**63 - 1


@dataclass(frozen=True)
class Whereabouts:
    """Where a record of TCS is, and is not.

    Attributes:
        id: its number in TCS.
        name: what people call it.
        documents: the ids of its documents in the index.
        lines: the story, a sentence a line.

    """

    id: int
    name: str
    documents: list[str]
    lines: list[str]

    @property
    def found(self) -> bool:
        """Whether search finds it."""
        return bool(self.documents)


def look_for(s: Services, index: str, text: str) -> list[Whereabouts]:
    """Records of TCS that a text names, and where they are.

    Args:
        s: the servers.
        index: "persons" or "posts".
        text: a person's number, GMC number or surname; a post's number or national post number.

    Raises:
        UnreachableError: TCS or the search server does not answer.

    """
    with (
        explained(s.tcs(), name="TCS", setting="TIS_SYNC_TCS_URL"),
        s.tcs().connect() as connection,
    ):
        statement = (_persons if index == "persons" else _posts)(text.strip())
        rows = connection.execute(statement.limit(MOST)).all()
    documents = _documents(s, index, [row.id for row in rows])
    when = _last_run(s, JOBS[index])
    return [
        Whereabouts(
            row.id,
            row.name or f"number {row.id}",
            mine := sorted(d for d in documents if d.partition("-")[0] == str(row.id)),
            _story(index, row, mine, when),
        )
        for row in rows
    ]


def _persons(text: str) -> sa.Select[tuple[int, str | None, str | None, bool]]:
    person, contact, gmc = tcs.Person, tcs.ContactDetails, tcs.GmcDetails
    named = sa.or_(contact.c.surname == text, gmc.c.gmcNumber == text)
    if _is_id(text):
        named = sa.or_(named, person.c.id == int(text))
    name = contact.c.forenames.concat(" ").concat(contact.c.surname)
    joined = person.outerjoin(contact, contact.c.id == person.c.id)
    return (
        sa.select(
            person.c.id,
            name.label("name"),
            person.c.status,
            contact.c.id.is_not(None).label("complete"),
        )
        .select_from(joined.outerjoin(gmc, gmc.c.id == person.c.id))
        .where(named)
        .order_by(person.c.id)
    )


def _posts(text: str) -> sa.Select[tuple[int, str | None, str | None, bool]]:
    post = tcs.Post
    named: sa.ColumnElement[bool] = post.c.nationalPostNumber == text
    if _is_id(text):
        named = sa.or_(named, post.c.id == int(text))
    return (
        sa.select(
            post.c.id,
            post.c.nationalPostNumber.label("name"),
            post.c.status,
            sa.true().label("complete"),
        )
        .where(named)
        .order_by(post.c.id)
    )


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) <= LARGEST_ID


def _documents(s: Services, index: str, ids: list[int]) -> list[str]:
    live = s.search().live(INDEXES[index])
    if live is None or not live.ours or not ids:
        return []
    buckets = sorted({key // KEYS_A_BUCKET for key in ids})
    return s.search().hashes(live.name, buckets)["id"].to_list()


def _last_run(s: Services, job: Job) -> str | None:
    last = s.history.last_success(job.name)
    return None if last is None else f"{last.started_at or last.created_at:%Y-%m-%d %H:%M} UTC"


def _story(index: str, row: sa.Row[tuple[int, str | None, str | None, bool]],
           documents: list[str], when: str | None) -> list[str]:  # fmt: skip
    job = JOBS[index]
    assert isinstance(job.product, IndexProduct)
    lines = [f"In TCS: yes, status {row.status or '(none)'}."]
    if documents:
        lines.append(f"In the index {index}: yes, as {', '.join(documents)}.")
        lines.append("Who does not see it may lack the right to: look at its owner and trusts.")
        return lines
    lines.append(f"In the index {index}: no.")
    if not row.complete:
        lines.append(
            "Why: TCS has no contact details for this person; who has none is left out. Add them "
            f"in TIS; then it comes with the next run of {job.name}."
        )
    elif when is None:
        lines.append(f"Why: the index has never been made. Run {job.name}.")
    else:
        lines.append(
            f"Why: it came after the last run, of {when}, or could not be used then (the run names "
            f"what it set aside). Run {job.name}: it takes what is missing."
        )
    return lines
