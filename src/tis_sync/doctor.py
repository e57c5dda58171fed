"""Is everything in place that we rely on? A checklist, each with how to mend it.

Runs by `tis-sync doctor`, and in a worker at its start and every hour (the broker: with every look
of the watch): what is not as it should be is an alarm (`drift`), closed when it is mended. Nothing
is changed, but for a probe file that is written to the export's destination and removed.
"""

import asyncio
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory

from tis_sync.errors import TisSyncError
from tis_sync.esr.broker.listen import last_heard
from tis_sync.esr.broker.look import look
from tis_sync.esr.broker.topology import NAMES
from tis_sync.esr.broker.watch import SILENT_SECONDS
from tis_sync.esr.deaneries import DEANERIES, FILE_TYPES, LONDON, london_day
from tis_sync.esr.destination import Destination, shown
from tis_sync.esr.eligible import READS
from tis_sync.esr.generations import last_success
from tis_sync.esr.rotation import reads as rotation_reads
from tis_sync.esr.sources import layout_of
from tis_sync.jobs.base import IndexProduct, TableProduct
from tis_sync.jobs.catalogue import JOBS
from tis_sync.runs import control
from tis_sync.runs.registry import REGISTRY
from tis_sync.runs.schedule import PREFIX, schedule_name
from tis_sync.runs.services import Services
from tis_sync.state.database import MIGRATIONS, VERSION_TABLE
from tis_sync.tcs import schema
from tis_sync.tcs import tables as tcs
from tis_sync.tcs.connect import explained

State = Literal["ok", "drifted", "missing"]
EVERY = timedelta(hours=1)
CLOCK_SECONDS = 30.0  # by which the clocks of TCS and of this machine may differ
SUCCESS_HOURS = 25.0  # a nightly job whose last success is older is not well
KIND = "drift"  # of alarm


@dataclass(frozen=True)
class Finding:
    """One line of the checklist.

    Attributes:
        name: what was looked at.
        state: ok; drifted: there, but not as it should be; missing: not there, or not to be seen.
        said: what was found.
        mend: what to do; None where all is well.

    """

    name: str
    state: State
    said: str
    mend: str | None = None


def examine(s: Services, names: Collection[str] | None = None) -> list[Finding]:
    """Look at everything, or at some of `CHECKS`.

    A check that cannot be made is told as missing, with the reason.
    """
    found: list[Finding] = []
    for name, check in CHECKS.items():
        if names is not None and name not in names:
            continue
        try:
            found += check(s)
        except TisSyncError as error:
            found.append(Finding(name, "missing", str(error), "see the reason"))
        except Exception as error:  # noqa: BLE001  one check that fails must not hide the others
            reason = " ".join(str(error).split())[:160]
            found.append(Finding(name, "missing", f"cannot be checked: {reason}", "see the reason"))
    return found


def _layouts(s: Services) -> Iterator[Finding]:
    for file_type in FILE_TYPES.values():
        layout = layout_of(file_type, s.settings)
        yield Finding(f"layout {file_type}", "ok", f"{len(layout.body.fields)} fields")


def _settings(s: Services) -> Iterator[Finding]:
    unknown = sorted(set(s.settings.esr_deaneries.values()) - set(DEANERIES))
    if unknown:
        yield Finding(
            "setting TIS_SYNC_ESR_DEANERIES", "drifted", f"no deaneries: {', '.join(unknown)}",
            f"name some of {', '.join(DEANERIES)}",
        )  # fmt: skip
    strange = sorted(set(s.settings.esr_first_numbers) - set(FILE_TYPES.values()))
    if strange:
        yield Finding(
            "setting TIS_SYNC_ESR_FIRST_NUMBERS", "drifted", f"no types: {', '.join(strange)}",
            f"name some of {', '.join(FILE_TYPES.values())}",
        )  # fmt: skip
    if s.settings.clock_offset_seconds:
        yield Finding(
            "setting TIS_SYNC_CLOCK_OFFSET_SECONDS", "drifted",
            f"the program's clock is {s.settings.clock_offset_seconds:,.0f} s ahead: a rehearsal",
            "unset it",
        )  # fmt: skip
    waits = s.settings.esr_retry_seconds
    if waits:
        yield Finding("retry policy", "ok", f"{len(waits)} retries, {sum(waits):,.0f} s in all")
    else:
        yield Finding(
            "retry policy", "drifted", "an export command is never tried again",
            "set TIS_SYNC_ESR_RETRY_SECONDS, or leave it to its default",
        )  # fmt: skip


def _schema(s: Services) -> Iterator[Finding]:
    needed: dict[sa.Table, set[str]] = {}
    for job in JOBS:
        for table, columns in job.needed().items():
            needed.setdefault(table, set()).update(columns)
    for read in (*READS, *rotation_reads(london_day(s.clock()))):
        needed.setdefault(read.table, set()).update(read.columns)
    lacking = schema.check(s.tcs(), {t: sorted(names) for t, names in needed.items()})
    if not lacking:
        yield Finding("TCS schema", "ok", f"{len(needed)} tables have what is needed")
    for finding in lacking:
        yield Finding(
            "TCS schema", "missing" if finding.problem == "is missing" else "drifted",
            str(finding), "compare with `tis-sync schema check`; ask who changed TCS",
        )  # fmt: skip


def _rights(s: Services) -> Iterator[Finding]:
    """Statements that change nothing, rolled back: the server checks the rights all the same."""
    written = [job.product.target for job in JOBS if isinstance(job.product, TableProduct)]
    nothing = sa.false()
    statements: dict[str, sa.Executable] = {}
    for target in written:
        table = target.table
        if target.columns_only:
            same = {name: table.c[name] for name in target.values}
            statements[f"UPDATE {table.name}"] = sa.update(table).where(nothing).values(same)
        else:
            statements[f"DELETE {table.name}"] = sa.delete(table).where(nothing)
            statements[f"INSERT {table.name}"] = _insert_nothing(table)
    for table in (tcs.PlacementEsrEvent, tcs.EsrNotification):
        statements[f"INSERT {table.name}"] = _insert_nothing(table)
    for what, statement in statements.items():
        with (
            explained(s.tcs(), name="TCS", setting="TIS_SYNC_TCS_URL"),
            s.tcs().execution_options(writes=True).connect() as connection,
        ):
            connection.execute(statement)
            connection.rollback()
        yield Finding(f"right to {what}", "ok", "granted")


def _insert_nothing(table: sa.Table) -> sa.Insert:
    columns = list(table.columns)
    return sa.insert(table).from_select(columns, sa.select(*columns).where(sa.false()))


def _state(s: Services) -> Iterator[Finding]:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    head = ScriptDirectory.from_config(config).get_current_head()
    version = sa.table(VERSION_TABLE, sa.column("version_num"))
    with s.state.connect() as connection:
        found = connection.scalar(sa.select(version.c.version_num))
    if found == head:
        yield Finding("state schema", "ok", f"version {found}")
    else:
        yield Finding(
            "state schema", "drifted", f"version {found}, this program wants {head}",
            "a newer tis-sync has used this state: update this one",
        )  # fmt: skip


def _search(s: Services) -> Iterator[Finding]:
    s.search().check()
    for job in JOBS:
        if not isinstance(job.product, IndexProduct):
            continue
        spec = job.product.spec
        live = s.search().live(spec)
        if live is None:
            yield Finding(
                f"index {spec.alias}", "missing", "no such alias", f"`tis-sync run {job.name}`"
            )
        elif not live.ours or live.version != spec.version:
            yield Finding(
                f"index {spec.alias}", "drifted",
                f"{live.name} is not of this version's mapping" if live.ours else
                f"{live.name} was not built by tis-sync", f"`tis-sync run {job.name}`",
            )  # fmt: skip
        else:
            yield Finding(f"index {spec.alias}", "ok", f"{live.documents:,} documents")


def _destination(s: Services) -> Iterator[Finding]:
    Destination(s.settings.export(), s.settings.export_options).probe()
    yield Finding("export destination", "ok", f"{shown(s.settings.export())} can be written to")


def _broker(s: Services) -> Iterator[Finding]:
    if s.settings.broker_url is None:
        return
    unknown = sorted(set(s.settings.broker_names) - set(NAMES))
    if unknown:
        yield Finding(
            "setting TIS_SYNC_BROKER_NAMES", "drifted", f"unknown: {', '.join(unknown)}",
            f"name some of {', '.join(NAMES)}",
        )  # fmt: skip
    for seen in asyncio.run(look(s.settings)):
        yield Finding(f"broker: {seen.name}", seen.state, seen.said, seen.mend)
    last = last_heard(s.state)
    if last is not None and s.clock() - last < timedelta(seconds=SILENT_SECONDS):
        yield Finding("broker: listener", "ok", f"heard {last:%H:%M:%S} UTC")
    else:
        when = "never heard" if last is None else f"last heard {last:%Y-%m-%d %H:%M:%S} UTC"
        mend = "start `tis-sync work`, or `tis-sync esr listen`"
        yield Finding("broker: listener", "missing", when, mend)


def _clock(s: Services) -> Iterator[Finding]:
    now = s.clock()
    yield Finding("time zone", "ok", f"London: {now.astimezone(LONDON):%Y-%m-%d %H:%M %Z}")
    if s.tcs().dialect.name == "sqlite" or s.settings.clock_offset_seconds:
        return
    with s.tcs().connect() as connection:
        theirs: datetime = connection.exec_driver_sql("SELECT UTC_TIMESTAMP()").scalar_one()
    apart = abs((theirs - now.replace(tzinfo=None)).total_seconds())
    if apart <= CLOCK_SECONDS:
        yield Finding("clock", "ok", f"{apart:.0f} s from TCS's")
    else:
        yield Finding(
            "clock", "drifted", f"{apart:.0f} s from TCS's", "set the machines' clocks (NTP)"
        )


def _schedules(s: Services) -> Iterator[Finding]:
    wanted = {schedule_name(job) for job in JOBS}
    wanted |= {made["schedule_name"] for make in REGISTRY.schedules for made in make(s.settings)}
    there = control.schedules(s)
    missing = sorted(name.removeprefix(PREFIX) for name in wanted - set(there))
    if missing:
        which = "none is registered" if len(missing) == len(wanted) else ", ".join(missing)
        mend = "start a worker: `tis-sync work` registers them"
        yield Finding("schedules", "missing", which, mend)
    paused = sorted(name for name in wanted if there.get(name) == "PAUSED")
    for name in paused:
        job = name.removeprefix(PREFIX)
        yield Finding(f"schedule {job}", "drifted", "is paused", f"`tis-sync resume {job}`")
    if not missing and not paused:
        yield Finding("schedules", "ok", f"{len(wanted)} registered")


def _successes(s: Services) -> Iterator[Finding]:
    longest = timedelta(hours=SUCCESS_HOURS)
    for job in JOBS:
        last = s.history.last_success(job.name)
        if last is not None and last.created_at >= s.clock() - longest:
            yield Finding(job.name, "ok", f"succeeded {last.created_at:%Y-%m-%d %H:%M} UTC")
        else:
            when = "never" if last is None else f"last {last.created_at:%Y-%m-%d %H:%M} UTC"
            yield Finding(
                job.name, "missing" if last is None else "drifted", f"succeeded {when}",
                f"`tis-sync run {job.name}`",
            )  # fmt: skip
    if s.settings.esr:
        made = last_success(s.state)
        if made is not None and made.started_at >= s.clock() - EVERY:
            yield Finding("records for ESR", "ok", f"up to date {made.started_at:%H:%M} UTC")
        else:
            when = "never" if made is None else f"last {made.started_at:%Y-%m-%d %H:%M} UTC"
            yield Finding(
                "records for ESR", "missing" if made is None else "drifted",
                f"brought up to date {when}", "`tis-sync esr generate`; is a worker there?",
            )  # fmt: skip


CHECKS: dict[str, Callable[[Services], Iterator[Finding]]] = {
    "settings": _settings,
    "layouts": _layouts,
    "TCS schema": _schema,
    "TCS rights": _rights,
    "state schema": _state,
    "search": _search,
    "export destination": _destination,
    "broker": _broker,
    "clock": _clock,
    "schedules": _schedules,
    "last successes": _successes,
}

# What is overdue, or not heard, has alarms of its own.
OWN_ALARMS = {"last successes", "broker", "broker: listener"}
OFTEN = {"broker"}  # looked at every time: messages die of what has drifted there
_hourly: dict[str, tuple[datetime, list[Finding]]] = {}  # when, and what, by worker


def watch(s: Services) -> None:
    """At a worker's start and every hour: an alarm for what is not as it should be."""
    now = s.clock()
    examined = _hourly.get(s.worker_id)
    if examined is None or now - examined[0] >= EVERY:
        examined = now, examine(s, set(CHECKS) - OFTEN - OWN_ALARMS)
        _hourly[s.worker_id] = examined
    found = examined[1] + examine(s, OFTEN)
    bad = {f.name: f for f in found if f.state != "ok" and f.name not in OWN_ALARMS}
    for name, finding in bad.items():
        s.alarms.raise_(KIND, name, f"{finding.said} ({finding.state}). {finding.mend}.", now)
    s.alarms.close_others(KIND, bad, now)


REGISTRY.watches.append(watch)
