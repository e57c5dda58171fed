"""Why a person or post is not in search, or differs from TCS: compare TCS and the index."""

from dataclasses import dataclass

import sqlalchemy as sa

from tis_sync.jobs.base import Job
from tis_sync.jobs.person_index import PERSON_INDEX, PERSONS
from tis_sync.jobs.post_index import POST_INDEX, POSTS
from tis_sync.runs.services import Services
from tis_sync.tcs import tables as tcs
from tis_sync.web.presenters.index_comparison import Comparison, compare

INDEXES = {"persons": PERSONS, "posts": POSTS}
INDEX_JOBS = {"persons": PERSON_INDEX, "posts": POST_INDEX}
MAX_RECORDS = 10
Record = tuple[int, str | None, str | None, bool]  # id, name, status, complete
LARGEST_ID = 2**63 - 1  # of a database's integers


@dataclass(frozen=True)
class Diagnosis:
    """Whether search contains a record of TCS as it is now, and why not.

    Attributes:
        id: its number in TCS.
        name: the person's name, or the post's number.
        documents: the ids of its documents in the index.
        is_current: whether these documents say what TCS contains now.
        differing: the names of the fields in which they differ from TCS.
        lines: the explanation, one sentence each.

    """

    id: int
    name: str
    documents: list[str]
    is_current: bool
    differing: list[str]
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
    job = INDEX_JOBS[index]
    comparisons = compare(s, job, [row.id for row in rows])
    last_run = _last_run(s, job)
    return [_diagnosis(index, row, comparisons[row.id], last_run) for row in rows]


def _diagnosis(
    index: str, row: sa.Row[Record], compared: Comparison, last_run: str | None
) -> Diagnosis:
    documents = compared.documents + compared.foreign
    explain = _explain_documents if documents else _explain_absence
    return Diagnosis(
        id=row.id,
        name=row.name or f"number {row.id}",
        documents=documents,
        is_current=bool(documents) and compared.is_current,
        differing=sorted({name for names in compared.differing.values() for name in names}),
        lines=[
            f"In TCS: yes, with the status {row.status or '(none)'}.",
            *explain(index, row, compared, last_run),
        ],
    )


def _persons(text: str) -> sa.Select[Record]:
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


def _posts(text: str) -> sa.Select[Record]:
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


def _last_run(s: Services, job: Job) -> str | None:
    last = s.history.last_success(job.name)
    return None if last is None else f"{last.started_at or last.created_at:%Y-%m-%d %H:%M} UTC"


def _explain_documents(
    index: str, _: sa.Row[Record], compared: Comparison, last_run: str | None
) -> list[str]:
    """What is right and wrong with the documents of a record."""
    job = INDEX_JOBS[index].name
    lines = []
    if compared.documents:
        lines.append(f"In the index {index}: yes, as {', '.join(compared.documents)}.")
    for document, fields in compared.differing.items():
        lines.append(f"The document {document} differs from TCS in {', '.join(fields)}.")
    if compared.foreign:
        count = len(compared.foreign)
        documents = "1 document" if count == 1 else f"{count} documents"
        lines.append(
            f"TCS or another program wrote {documents} about it since the last run. The next run "
            f"replaces {'it' if count == 1 else 'them'}."
        )
    elif compared.missing:
        lines.append(f"Missing documents: {', '.join(compared.missing)}.")
    if compared.surplus:
        lines.append(f"Surplus documents: {', '.join(compared.surplus)}.")
    if compared.is_current:
        lines.append("Search matches TCS.")
        lines.append(
            "If a user does not see it, check its owner and its trusts: the user may lack access."
        )
    else:
        since = "" if last_run is None else f", which began at {last_run}"
        lines.append(f"TCS has changed since the last run{since}. Run {job}: it corrects search.")
    return lines


def _explain_absence(
    index: str, row: sa.Row[Record], _: Comparison, last_run: str | None
) -> list[str]:
    """Why a record has no documents."""
    job = INDEX_JOBS[index].name
    lines = [f"In the index {index}: no."]
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
