"""The checks of TCS: whether its schema and our privileges are what the program needs."""

from collections.abc import Iterator

import sqlalchemy as sa

from tis_sync.doctor.finding import DRIFTED, MISSING, OK, Finding
from tis_sync.esr.calendar import london_day
from tis_sync.esr.export.needs import export_needs
from tis_sync.jobs.catalogue import JOBS
from tis_sync.runs.services import Services
from tis_sync.tcs import schema
from tis_sync.tcs import tables as tcs
from tis_sync.tcs.needs import (
    Needs,
    Privilege,
    columns_of,
    lacking,
    merged,
    of_reads,
    of_writes,
)
from tis_sync.tcs.read import Read


def needs_of(s: Services) -> Needs:
    """What the jobs, the export to ESR and the locks of the Java service need of TCS."""
    every = [job.needs() for job in JOBS]
    if s.settings.esr:
        every.append(export_needs(london_day(s.clock())))
    if s.settings.java_shedlock:
        names = [column.name for column in tcs.Shedlock.columns]
        every.append(of_reads([Read(tcs.Shedlock, tuple(names))]))
        every.append(of_writes(tcs.Shedlock, names, Privilege.INSERT, Privilege.UPDATE))
    return merged(every)


def needed_columns(s: Services) -> dict[sa.Table, list[str]]:
    """The columns of TCS that are needed, by table."""
    return columns_of(needs_of(s))


def check_schema(s: Services) -> Iterator[Finding]:
    """Check that TCS has all columns that are needed."""
    needed = needed_columns(s)
    problems = schema.check(s.tcs(), needed)
    if not problems:
        yield Finding("TCS schema", OK, f"{len(needed)} tables have all columns that we need")
    for problem in problems:
        yield Finding(
            "TCS schema", MISSING if problem.is_missing else DRIFTED, str(problem),
            "see all problems with `tis-sync schema check`, and ask who changed TCS",
        )  # fmt: skip


def check_privileges(s: Services) -> Iterator[Finding]:
    """Check that our user has the privileges that are needed on each table."""
    needs = needs_of(s)
    missing = {(one.table, one.privilege): one.reason for one in lacking(s.tcs(), needs)}
    for table in columns_of(needs):
        privileges = [privilege for of, privilege in needs if of is table]
        denied = [privilege for privilege in privileges if (table.name, privilege) in missing]
        name = f"privileges on {table.name}"
        if denied:
            yield Finding(
                name, MISSING, missing[table.name, denied[0]],
                f"GRANT {', '.join(denied)} ON {table.name} TO the user of TIS_SYNC_TCS_URL",
            )  # fmt: skip
        else:
            yield Finding(name, OK, f"{', '.join(privileges)}")
