"""Check everything that the service relies on; each failed check comes with its remedy.

`tis-sync doctor` and the Health page show the checks. One worker runs them half a minute after it
starts and then every hour (the broker checks every half minute), and raises an alarm for each
failed check. Nothing is changed, except that a probe file is written to the export destination and
removed again, and that messages which our consumer ignores are sent to its queues.
"""

import asyncio
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial

import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from tis_sync import logs
from tis_sync.alarms.catalogue import DRIFT, Severity
from tis_sync.alarms.check_state import CheckState
from tis_sync.alarms.delivery import channels_of, waiting
from tis_sync.durable.model import Schedule
from tis_sync.errors import TisSyncError
from tis_sync.esr.applicants.generations import last_success
from tis_sync.esr.calendar import LONDON, london_day
from tis_sync.esr.deaneries import DEANERIES, FileType
from tis_sync.esr.export.needs import export_needs
from tis_sync.esr.files.columns import layout_of
from tis_sync.esr.files.destination import Destination, redacted_url
from tis_sync.esr.messaging.consumer import last_contact
from tis_sync.esr.messaging.drift import examine_broker
from tis_sync.esr.messaging.monitor import SILENT_SECONDS
from tis_sync.esr.messaging.topology import NAMES
from tis_sync.jobs.base import IndexTarget, Job
from tis_sync.jobs.catalogue import JOBS
from tis_sync.runs.run import NIGHT, Run
from tis_sync.runs.schedule import PREFIX, schedule_states
from tis_sync.runs.services import Services
from tis_sync.search.model import IndexSpec
from tis_sync.settings import Settings, unknown_setting_hint, unknown_settings
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

EXAMINE_SECONDS = 3600.0  # how often a worker runs the checks
EXAMINE_LIMIT_SECONDS = 300.0  # how long they may take
CLOCK_SECONDS = 30.0  # how far TCS's clock may differ from ours
SUCCESS_HOURS = 25.0  # a nightly job must have succeeded within a day and a late start
RECORDS_HOURS = 1.0  # records for ESR are refreshed four times an hour
LONGEST_REASON = 160  # characters of an unexpected error that are shown
LIFT_BLOCK = "free disk space on the search server, and lift the block of the index"
SEE_REASON = "fix the cause that the message names"  # for a check that could not run
NAMED = 3  # open alarms that a finding names

OK, DRIFTED, MISSING = CheckState.OK, CheckState.DRIFTED, CheckState.MISSING
NOT_CHECKED = CheckState.NOT_CHECKED
FAILED = {DRIFTED, MISSING}


@dataclass(frozen=True)
class Finding:
    """The result of one check.

    Attributes:
        name: what was checked.
        state: OK, DRIFTED, MISSING or NOT_CHECKED.
        message: what was found.
        remedy: what to do, as a phrase that begins with a verb; None if the check passed.

    """

    name: str
    state: CheckState
    message: str
    remedy: str | None = None


def examine(
    s: Services, schedules: Sequence[Schedule], names: Collection[str] | None = None
) -> list[Finding]:
    """Run the checks.

    Args:
        s: settings, clock and servers.
        schedules: everything that must be scheduled.
        names: keys of `CHECKS`. None: all of them.

    Returns:
        The findings; a check that cannot run is MISSING, with the reason. Nothing is raised.

    """
    findings: list[Finding] = []
    checks: dict[str, Check] = {**CHECKS, SCHEDULES: partial(_schedules, schedules)}
    for name, check in checks.items():
        if names is not None and name not in names:
            continue
        try:
            findings += check(s)
        except TisSyncError as error:
            findings.append(Finding(name, MISSING, str(error), SEE_REASON))
        except Exception as error:  # noqa: BLE001  one check that fails must not hide the others
            logs.report("check failed", error, check=name)
            reason = logs.reason_of(error)[:LONGEST_REASON]
            findings.append(Finding(name, MISSING, f"cannot be checked: {reason}", SEE_REASON))
    return findings


def summary(findings: Sequence[Finding]) -> str:
    """Return how many checks passed, failed, and were not made, as a sentence."""
    count = Counter(finding.state for finding in findings)
    parts = [f"{count[OK]} of {len(findings)} checks passed"]
    if failed := count[DRIFTED] + count[MISSING]:
        parts.append(f"{failed} failed")
    if count[NOT_CHECKED]:
        parts.append(f"{count[NOT_CHECKED]} not checked")
    return ", ".join(parts) + "."


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
    for name, similar in unknown_settings().items():
        yield Finding(
            f"setting {name}", DRIFTED, "is not a setting and is ignored",
            f"unset it; {unknown_setting_hint(similar)}",
        )  # fmt: skip
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
    unknown = sorted(set(settings.broker_names) - set(NAMES))
    if unknown:
        yield Finding(
            "setting TIS_SYNC_BROKER_NAMES", DRIFTED, f"unknown names: {', '.join(unknown)}",
            f"name some of {', '.join(NAMES)}",
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


def _notifications(s: Services) -> Iterator[Finding]:
    """Check the channels without sending anything; their URLs contain secrets and are not shown."""
    channels = channels_of(s.settings.notification_urls)
    if not channels:
        yield Finding(
            "notification channels", NOT_CHECKED, "none is configured: alarms are only logged",
            "set TIS_SYNC_NOTIFICATION_URLS",
        )  # fmt: skip
    late = waiting(s.state, channels)
    for channel in channels:
        name = f"notification {channel.label}"
        if channel.service() is None:
            yield Finding(
                name, DRIFTED, "not an Apprise URL: it receives no alarms",
                "correct it in TIS_SYNC_NOTIFICATION_URLS",
            )  # fmt: skip
        elif channel in late:
            found = late[channel]
            yield Finding(
                name, DRIFTED,
                f"has not accepted {found.count:,} notifications, the oldest of "
                f"{found.since:%Y-%m-%d %H:%M} UTC; they are sent again automatically",
                "check the service behind the channel, and its URL in TIS_SYNC_NOTIFICATION_URLS",
            )  # fmt: skip
        else:
            yield Finding(name, OK, "no notification is waiting")


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
        # Before the index and after it: a run may end, or begin, in between.
        building = _run_of(s, job)
        finding = _index(s, job, job.target.spec)
        building = building or _run_of(s, job)
        if finding.state in FAILED and building is not None:
            message = f"{finding.message}; run {building.id[:8]} of {building.job} may change that"
            remedy = f"wait for the run: `tis-sync show {building.id[:8]}`"
            finding = Finding(finding.name, NOT_CHECKED, message, remedy)
        yield finding


def _run_of(s: Services, job: Job) -> Run | None:
    """The active run that builds or changes the index of a job: its own, or the night's."""
    runs = s.history.active_of([job.name, NIGHT])
    return runs[0] if runs else None


def _index(s: Services, job: Job, spec: IndexSpec) -> Finding:
    """Check whether the index of a job exists and is ours."""
    name, remedy = f"index {spec.alias}", f"run the job: `tis-sync run {job.name}`"
    live = s.search().live(spec)
    if live is None:
        return Finding(name, MISSING, "the alias does not exist", remedy)
    if len(live.names) > 1:
        indexes = f"the alias stands for {len(live.names)} indexes: {', '.join(live.names)}"
        return Finding(name, DRIFTED, indexes, remedy)
    if live.name == spec.alias:
        concrete = "an index, not an alias, has this name; it was not built by tis-sync"
        return Finding(name, DRIFTED, concrete, remedy)
    if not live.ours:
        return Finding(name, DRIFTED, f"{live.name} was not built by tis-sync", remedy)
    if live.version != spec.version:
        return Finding(name, DRIFTED, f"{live.name} has the mapping of another version", remedy)
    if live.blocks:
        blocked = f"the server refuses changes of {live.name}: {', '.join(live.blocks)}"
        return Finding(name, DRIFTED, blocked, LIFT_BLOCK)
    # TCS writes such documents at every edit, so by day they are no drift.
    note = f", {live.foreign:,} of them written by others" if live.foreign else ""
    return Finding(name, OK, f"{live.documents:,} documents{note}")


def _destination(s: Services) -> Iterator[Finding]:
    url = s.settings.export()
    Destination(url, s.settings.export_options).probe()
    yield Finding("export destination", OK, f"{redacted_url(url)} accepts files")


def _broker(s: Services) -> Iterator[Finding]:
    if s.settings.broker_url is None:
        return
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


def _schedules(schedules: Sequence[Schedule], s: Services) -> Iterator[Finding]:
    expected = {schedule.name for schedule in schedules}
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


def _alarms(s: Services) -> Iterator[Finding]:
    alarms = s.alarms.open_alarms()
    if not alarms:
        yield Finding(ALARMS, OK, "none is open")
        return
    named = [f"{alarm.subject}: {alarm.kind.name}" for alarm in alarms[:NAMED]]
    if len(alarms) > NAMED:
        named.append(f"{len(alarms) - NAMED} more")
    message = f"{len(alarms)} open: {'; '.join(named)}"
    yield Finding(ALARMS, DRIFTED, message, "see them with `tis-sync status`")


ALARMS, BROKER, CONSUMER = "alarms", "broker", "broker: consumer"
SCHEDULES, SEARCH, SUCCESSES = "schedules", "search", "last successes"
Check = Callable[[Services], Iterator[Finding]]
CHECKS: dict[str, Check] = {
    "settings": _settings,
    "notifications": _notifications,
    "layouts": _layouts,
    "TCS schema": _schema,
    "TCS privileges": _privileges,
    "state schema": _state,
    "state privileges": _state_privileges,
    SEARCH: _search,
    "export destination": _destination,
    BROKER: _broker,
    "clock": _clock,
    SCHEDULES: partial(_schedules, ()),  # `examine` knows what must be scheduled
    SUCCESSES: _successes,
    ALARMS: _alarms,
}
# An overdue job, and a broker that cannot be reached, raise alarms of other kinds.
OTHER_ALARMS = {BROKER, CONSUMER}
HOURLY = set(CHECKS) - {BROKER, SUCCESSES, ALARMS}
# How the names of the findings of a check begin, if the check cannot run under its own name.
PREFIX_OF_FINDINGS = {SEARCH: "index ", BROKER: "broker: ", "TCS privileges": "privileges on "}
SEVERITY = {MISSING: Severity.FAILURE, DRIFTED: Severity.WARNING}


def check_drift(schedules: Callable[[Settings], Sequence[Schedule]], s: Services) -> None:
    """Open an alarm for each failed check except those of the broker, and close the others.

    Args:
        schedules: returns everything that must be scheduled.
        s: settings, clock and servers.

    """
    findings = examine(s, schedules(s.settings), HOURLY)
    _update_alarms(s, findings, is_broker=False)


def check_broker_drift(s: Services) -> None:
    """Open an alarm for each failed check of the broker, and close the others.

    This is checked often, because drift at the broker turns messages into dead letters.
    """
    if s.settings.broker_url is not None:
        _update_alarms(s, examine(s, (), {BROKER}), is_broker=True)


def _update_alarms(s: Services, findings: Sequence[Finding], *, is_broker: bool) -> None:
    now = s.clock()
    for finding in findings:
        if finding.state in FAILED and finding.name not in OTHER_ALARMS:
            details = f"{finding.name}: {finding.message.rstrip('.')} ({finding.state})."
            s.alarms.open(
                DRIFT,
                finding.name,
                details,
                now,
                severity=SEVERITY[finding.state],
                remedy=_sentence(finding.remedy or SEE_REASON),
            )
    # Nothing is known about what was not checked, or what a check would find that cannot run.
    not_passed = {finding.name for finding in findings if finding.state != OK}
    unknown = tuple(
        PREFIX_OF_FINDINGS[name] for name in sorted(not_passed & set(PREFIX_OF_FINDINGS))
    )
    for alarm in s.alarms.open_alarms(DRIFT):
        subject = alarm.subject
        is_of_broker = subject == BROKER or subject.startswith(PREFIX_OF_FINDINGS[BROKER])
        is_known = subject not in not_passed and not subject.startswith(unknown)
        if is_of_broker == is_broker and is_known:
            s.alarms.close(DRIFT, subject, now)


def _sentence(phrase: str) -> str:
    return phrase[:1].upper() + phrase[1:]
