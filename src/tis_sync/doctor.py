"""Check everything that the service relies on; each failed check comes with its remedy.

`tis-sync doctor` and the Health page show the checks. A worker runs them when it starts and then
every hour (the broker checks every half minute), and raises an alarm for each failed check. Nothing
is changed, except that a probe file is written to the export destination and removed again.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from tis_sync import retention
from tis_sync.alarms.catalogue import DRIFT
from tis_sync.alarms.check_state import CheckState
from tis_sync.errors import TisSyncError
from tis_sync.esr.applicants.generations import last_success
from tis_sync.esr.calendar import LONDON, london_day
from tis_sync.esr.deaneries import DEANERIES, FileType
from tis_sync.esr.export import workflow as export_workflow
from tis_sync.esr.export.needs import export_needs
from tis_sync.esr.files.columns import layout_of
from tis_sync.esr.files.destination import Destination, redacted_url
from tis_sync.esr.messaging.consumer import last_contact
from tis_sync.esr.messaging.drift import examine_broker
from tis_sync.esr.messaging.monitor import SILENT_SECONDS
from tis_sync.esr.messaging.topology import NAMES
from tis_sync.jobs.base import IndexTarget
from tis_sync.jobs.catalogue import JOBS
from tis_sync.runs.schedule import PREFIX, job_schedules, schedule_states
from tis_sync.runs.services import Services
from tis_sync.state import privileges as state_privileges
from tis_sync.state.database import MIGRATIONS, VERSION_TABLE
from tis_sync.state.privileges import DBOS_SCHEMA
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

EXAMINE_EVERY = timedelta(hours=1)  # how often a worker runs the checks
CLOCK_SECONDS = 30.0  # how far TCS's clock may differ from ours
SUCCESS_HOURS = 25.0  # a nightly job must have succeeded within a day and a late start
RECORDS_HOURS = 1.0  # records for ESR are refreshed four times an hour
LONGEST_REASON = 160  # characters of an unexpected error that are shown
LIFT_BLOCK = "free disk space on the search server, and lift the block of the index"
SEE_REASON = "fix the cause that the message names"  # for a check that could not run

OK, DRIFTED, MISSING = CheckState.OK, CheckState.DRIFTED, CheckState.MISSING


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        name: what was checked.
        state: OK, DRIFTED or MISSING.
        message: what was found.
        remedy: what to do, as a phrase that begins with a verb; None if the check passed.

    """

    name: str
    state: CheckState
    message: str
    remedy: str | None = None


def examine(s: Services, names: Collection[str] | None = None) -> list[Finding]:
    """Run the checks.

    Args:
        s: settings, clock and servers.
        names: keys of `CHECKS`. None: all of them.

    Returns:
        The findings; a check that cannot run is MISSING, with the reason. Nothing is raised.

    """
    findings: list[Finding] = []
    for name, check in CHECKS.items():
        if names is not None and name not in names:
            continue
        try:
            findings += check(s)
        except TisSyncError as error:
            findings.append(Finding(name, MISSING, str(error), SEE_REASON))
        except Exception as error:  # noqa: BLE001  one check that fails must not hide the others
            reason = " ".join(str(error).split())[:LONGEST_REASON]
            findings.append(Finding(name, MISSING, f"cannot be checked: {reason}", SEE_REASON))
    return findings


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


def _settings(s: Services) -> Iterator[Finding]:
    settings = s.settings
    deaneries = sorted(set(settings.esr_deaneries.values()) - set(DEANERIES))
    if deaneries:
        yield Finding(
            "setting TIS_SYNC_ESR_DEANERIES", DRIFTED, f"not deaneries: {', '.join(deaneries)}",
            f"name some of {', '.join(DEANERIES)}",
        )  # fmt: skip
    file_types = sorted(set(settings.esr_last_numbers) - set(FileType))
    if file_types:
        yield Finding(
            "setting TIS_SYNC_ESR_LAST_NUMBERS", DRIFTED,
            f"not file types: {', '.join(file_types)}",
            f"name some of {', '.join(FileType)}",
        )  # fmt: skip
    if settings.clock_offset_seconds:
        yield Finding(
            "setting TIS_SYNC_CLOCK_OFFSET_SECONDS", DRIFTED,
            f"this is a rehearsal: the clock is shifted by {settings.clock_offset_seconds:,.0f} s",
            "unset it",
        )  # fmt: skip
    waits = settings.esr_retry_seconds
    if waits:
        yield Finding("retry policy", OK, f"{len(waits)} retries in {sum(waits):,.0f} s")
    else:
        yield Finding(
            "retry policy", DRIFTED, "a failed export command is never retried",
            "set TIS_SYNC_ESR_RETRY_SECONDS, or unset it to use the default",
        )  # fmt: skip


def _layouts(s: Services) -> Iterator[Finding]:
    for file_type in FileType:
        layout = layout_of(file_type, s.settings)
        yield Finding(f"layout {file_type}", OK, f"{len(layout.body.fields)} fields")


def _schema(s: Services) -> Iterator[Finding]:
    needed = needed_columns(s)
    problems = schema.check(s.tcs(), needed)
    if not problems:
        yield Finding("TCS schema", OK, f"{len(needed)} tables have all columns that we need")
    for problem in problems:
        yield Finding(
            "TCS schema", MISSING if problem.is_missing else DRIFTED, str(problem),
            "see all problems with `tis-sync schema check`, and ask who changed TCS",
        )  # fmt: skip


def _privileges(s: Services) -> Iterator[Finding]:
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


def _state(s: Services) -> Iterator[Finding]:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    newest = ScriptDirectory.from_config(config).get_current_head()
    table = sa.table(VERSION_TABLE, sa.column("version_num"))
    with s.state.read() as connection:
        version = connection.scalar(sa.select(table.c.version_num))
    if version == newest:
        yield Finding("state schema", OK, f"version {version}")
    else:
        yield Finding(
            "state schema", DRIFTED, f"version {version}; this program needs version {newest}",
            "update this tis-sync; a newer version has used this state database",
        )  # fmt: skip


def _state_privileges(s: Services) -> Iterator[Finding]:
    if s.state.dialect != "postgresql":
        return
    for name, schema_name in (("state privileges", None), ("DBOS privileges", DBOS_SCHEMA)):
        missing = state_privileges.lacking(s.state, schema_name)
        for grant in missing:
            yield Finding(
                name, MISSING, f"the user lacks {grant}",
                f"GRANT {grant} TO the user of TIS_SYNC_STATE_URL",
            )  # fmt: skip
        if not missing:
            yield Finding(name, OK, "granted")


def _search(s: Services) -> Iterator[Finding]:
    s.search().check()
    for job in JOBS:
        if not isinstance(job.target, IndexTarget):
            continue
        spec = job.target.spec
        name, remedy = f"index {spec.alias}", f"run the job: `tis-sync run {job.name}`"
        live = s.search().live(spec)
        if live is None:
            yield Finding(name, MISSING, "the alias does not exist", remedy)
        elif len(live.names) > 1:
            indexes = f"the alias stands for {len(live.names)} indexes: {', '.join(live.names)}"
            yield Finding(name, DRIFTED, indexes, remedy)
        elif live.name == spec.alias:
            concrete = "an index, not an alias, has this name; it was not built by tis-sync"
            yield Finding(name, DRIFTED, concrete, remedy)
        elif not live.ours:
            yield Finding(name, DRIFTED, f"{live.name} was not built by tis-sync", remedy)
        elif live.version != spec.version:
            yield Finding(name, DRIFTED, f"{live.name} has the mapping of another version", remedy)
        elif live.blocks:
            blocked = f"the server refuses changes of {live.name}: {', '.join(live.blocks)}"
            yield Finding(name, DRIFTED, blocked, LIFT_BLOCK)
        else:
            # TCS writes such documents at every edit, so by day they are no drift.
            note = f", {live.foreign:,} of them written by others" if live.foreign else ""
            yield Finding(name, OK, f"{live.documents:,} documents{note}")


def _destination(s: Services) -> Iterator[Finding]:
    url = s.settings.export()
    Destination(url, s.settings.export_options).probe()
    yield Finding("export destination", OK, f"{redacted_url(url)} accepts files")


def _broker(s: Services) -> Iterator[Finding]:
    if s.settings.broker_url is None:
        return
    unknown = sorted(set(s.settings.broker_names) - set(NAMES))
    if unknown:
        yield Finding(
            "setting TIS_SYNC_BROKER_NAMES", DRIFTED, f"unknown names: {', '.join(unknown)}",
            f"name some of {', '.join(NAMES)}",
        )  # fmt: skip
    for result in asyncio.run(examine_broker(s.settings)):
        yield Finding(f"broker: {result.name}", result.state, result.message, result.remedy)
    contact = last_contact(s.state)
    if contact is not None and s.clock() - contact < timedelta(seconds=SILENT_SECONDS):
        yield Finding(CONSUMER, OK, f"last contact {contact:%H:%M:%S} UTC")
    else:
        yield Finding(
            CONSUMER, MISSING,
            "has never reached the broker" if contact is None
            else f"last contact {contact:%Y-%m-%d %H:%M:%S} UTC",
            "start `tis-sync work` or `tis-sync esr listen`",
        )  # fmt: skip


def _clock(s: Services) -> Iterator[Finding]:
    now = s.clock()
    yield Finding("time zone", OK, f"London: {now.astimezone(LONDON):%Y-%m-%d %H:%M %Z}")
    if s.tcs().dialect == "sqlite" or s.settings.clock_offset_seconds:
        return
    with s.tcs().read() as connection:
        tcs_now: datetime = connection.exec_driver_sql("SELECT UTC_TIMESTAMP()").scalar_one()
    seconds = abs((tcs_now - now.replace(tzinfo=None)).total_seconds())
    message = f"{seconds:,.0f} s from TCS's clock"
    if seconds <= CLOCK_SECONDS:
        yield Finding("clock", OK, message)
    else:
        yield Finding("clock", DRIFTED, message, "synchronise the clocks of the machines (NTP)")


def _schedules(s: Services) -> Iterator[Finding]:
    expected = {
        schedule.name
        for schedule in (
            *job_schedules(s.settings),
            *export_workflow.schedules(s.settings),
            retention.SCHEDULE,
        )
    }
    states = schedule_states(s)
    missing = sorted(name.removeprefix(PREFIX) for name in expected - set(states))
    if missing:
        message = "none is registered" if len(missing) == len(expected) else ", ".join(missing)
        remedy = "start a worker: `tis-sync work` registers them"
        yield Finding("schedules", MISSING, message, remedy)
    paused = sorted(name for name in expected if states.get(name) == "PAUSED")
    for name in paused:
        job = name.removeprefix(PREFIX)
        remedy = f"unpause it: `tis-sync unpause {job}`"
        yield Finding(f"schedule {job}", DRIFTED, "is paused", remedy)
    if not missing and not paused:
        yield Finding("schedules", OK, f"{len(expected)} are registered")


def _successes(s: Services) -> Iterator[Finding]:
    for job in JOBS:
        last = s.history.last_success(job.name)
        at = None if last is None else last.created_at
        remedy = f"run the job: `tis-sync run {job.name}`"
        yield _success(s, job.name, "succeeded", at, SUCCESS_HOURS, remedy)
    if s.settings.esr:
        generation = last_success(s.state)
        at = None if generation is None else generation.started_at
        remedy = "refresh them with `tis-sync esr generate`, and check that a worker is running"
        yield _success(s, "records for ESR", "refreshed", at, RECORDS_HOURS, remedy)


def _success(
    s: Services, name: str, verb: str, at: datetime | None, hours: float, remedy: str
) -> Finding:
    if at is None:
        return Finding(name, MISSING, f"never {verb}", remedy)
    message = f"last {verb} {at:%Y-%m-%d %H:%M} UTC"
    if s.clock() - at <= timedelta(hours=hours):
        return Finding(name, OK, message)
    return Finding(name, DRIFTED, message, remedy)


BROKER, CONSUMER, SUCCESSES = "broker", "broker: consumer", "last successes"
CHECKS: dict[str, Callable[[Services], Iterator[Finding]]] = {
    "settings": _settings,
    "layouts": _layouts,
    "TCS schema": _schema,
    "TCS privileges": _privileges,
    "state schema": _state,
    "state privileges": _state_privileges,
    "search": _search,
    "export destination": _destination,
    BROKER: _broker,
    "clock": _clock,
    "schedules": _schedules,
    SUCCESSES: _successes,
}
# An overdue job, and a broker that cannot be reached, raise alarms of other kinds.
OTHER_ALARMS = {SUCCESSES, BROKER, CONSUMER}
HOURLY = set(CHECKS) - {BROKER} - OTHER_ALARMS


class DriftMonitor:
    """A monitor that raises an alarm for each failed check.

    The checks run when a worker first calls the monitor and then every hour. The broker checks run
    every time, because drift at the broker turns messages into dead letters.
    """

    def __init__(self) -> None:
        self._worker_id: str | None = None
        self._examined_at: datetime | None = None
        self._findings: list[Finding] = []

    def __call__(self, s: Services) -> None:
        """Open an alarm for each failed check, and close the alarms of checks that pass again."""
        now = s.clock()
        is_due = self._examined_at is None or now - self._examined_at >= EXAMINE_EVERY
        if is_due or self._worker_id != s.worker_id:
            self._findings = examine(s, HOURLY)
            self._worker_id, self._examined_at = s.worker_id, now
        failed = {
            finding.name: finding
            for finding in (*self._findings, *examine(s, {BROKER}))
            if finding.state != OK and finding.name not in OTHER_ALARMS
        }
        for name, finding in failed.items():
            details = f"{name}: {finding.message.rstrip('.')} ({finding.state})."
            s.alarms.open(DRIFT, name, details, now, remedy=_sentence(finding.remedy or SEE_REASON))
        s.alarms.close_others(DRIFT, failed, now)


def _sentence(phrase: str) -> str:
    return phrase[:1].upper() + phrase[1:]


check_drift = DriftMonitor()
