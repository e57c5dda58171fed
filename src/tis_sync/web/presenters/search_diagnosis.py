"""Why a person or post is not in search: is it in TCS, does it belong in the index, is it there?"""

from dataclasses import dataclass

import sqlalchemy as sa

from tis_sync.jobs.base import Job
from tis_sync.jobs.person_index import PERSON_INDEX, PERSONS
from tis_sync.jobs.post_index import POST_INDEX, POSTS
from tis_sync.runs.services import Services
from tis_sync.search.model import KEYS_PER_BUCKET
from tis_sync.tcs import tables as tcs

INDEXES = {"persons": PERSONS, "posts": POSTS}
INDEX_JOBS = {"persons": PERSON_INDEX, "posts": POST_INDEX}
MAX_RECORDS = 10
LARGEST_ID = 2**63 - 1  # of a database's integers


@dataclass(frozen=True)
class Diagnosis:
    """Whether search contains a record of TCS, and why not.

    Attributes:
        id: its number in TCS.
        name: the person's name, or the post's number.
        documents: the ids of its documents in the index.
        lines: the explanation, one sentence each.

    """

    id: int
    name: str
    documents: list[str]
    lines: list[str]

    @property
    def in_search(self) -> bool:
        """Whether search contains it."""
        return bool(self.documents)


def diagnose(s: Services, index: str, text: str) -> list[Diagnosis]:
    """Look up the records of TCS that a text names, and explain whether search contains them.

    Args:
        s: the services.
        index: "persons" or "posts".
        text: a person's number, GMC number or surname; a post's number or national post number.

    Raises:
        UnreachableError: TCS or the search server does not answer.

    """
    statement = (_persons if index == "persons" else _posts)(text.strip())
    with s.tcs().read() as connection:
        rows = connection.execute(statement.limit(MAX_RECORDS)).all()
    documents = _documents(s, index, [row.id for row in rows])
    last_run = _last_run(s, INDEX_JOBS[index])
    diagnoses = []
    for row in rows:
        own = sorted(d for d in documents if d.partition("-")[0] == str(row.id))
        lines = _explanation(index, row, own, last_run)
        diagnoses.append(Diagnosis(row.id, row.name or f"number {row.id}", own, lines))
    return diagnoses


def _persons(text: str) -> sa.Select[tuple[int, str | None, str | None, bool]]:
    person, contact, gmc = tcs.Person, tcs.ContactDetails, tcs.GmcDetails
    matches = sa.or_(contact.c.surname == text, gmc.c.gmcNumber == text)
    if _is_id(text):
        matches = sa.or_(matches, person.c.id == int(text))
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
        .where(matches)
        .order_by(person.c.id)
    )


def _posts(text: str) -> sa.Select[tuple[int, str | None, str | None, bool]]:
    post = tcs.Post
    matches: sa.ColumnElement[bool] = post.c.nationalPostNumber == text
    if _is_id(text):
        matches = sa.or_(matches, post.c.id == int(text))
    return (
        sa.select(
            post.c.id,
            post.c.nationalPostNumber.label("name"),
            post.c.status,
            sa.true().label("complete"),
        )
        .where(matches)
        .order_by(post.c.id)
    )


def _is_id(text: str) -> bool:
    return text.isascii() and text.isdecimal() and int(text) <= LARGEST_ID


def _documents(s: Services, index: str, ids: list[int]) -> list[str]:
    live = s.search().live(INDEXES[index])
    if live is None or not live.ours or not ids:
        return []
    buckets = sorted({key // KEYS_PER_BUCKET for key in ids})
    return s.search().hashes(live.name, buckets)["id"].to_list()


def _last_run(s: Services, job: Job) -> str | None:
    last = s.history.last_success(job.name)
    return None if last is None else f"{last.started_at or last.created_at:%Y-%m-%d %H:%M} UTC"


def _explanation(
    index: str,
    row: sa.Row[tuple[int, str | None, str | None, bool]],
    documents: list[str],
    last_run: str | None,
) -> list[str]:
    job = INDEX_JOBS[index].name
    lines = [f"In TCS: yes, with the status {row.status or '(none)'}."]
    if documents:
        lines.append(f"In the index {index}: yes, as {', '.join(documents)}.")
        lines.append(
            "If a user does not see it, check its owner and its trusts: the user may lack access."
        )
        return lines
    lines.append(f"In the index {index}: no.")
    if not row.complete:
        lines.append(
            "Why: TCS has no contact details for this person, and persons without contact details "
            f"are left out. Add them in TIS; the next run of {job} then adds the person."
        )
    elif last_run is None:
        lines.append(f"Why: the index has never been built. Run {job}.")
    else:
        lines.append(
            f"Why: it was added after the last run, which began at {last_run}, or that run could "
            f"not use it (the page of the run lists the records it set aside). Run {job}: it adds "
            "what is missing."
        )
    return lines
