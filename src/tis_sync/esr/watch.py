"""Silence is failure: alarms for what should have gone to ESR and did not; closed when mended.

| kind | subject | meaning |
|---|---|---|
| at risk | deanery | starters whom the next export cannot hold any more |
| too late | placement | it became known too late for any export (raised by a generation) |
| stuck | deanery | records that were due with an export that is over |
| no file | type, deanery | half an hour after its time, the day's file is not written |
| invalid | deanery | records with INVALID_DATA for longer than a day |
| TCS not told | file | an hour after it was written, TCS has not been told |
| dead | type, deanery | an export command that failed for good (raised when it dies) |
| stale | records | records have not been brought up to date for a while |

Scheduled commands that were never given, since nobody worked at their time, are given here.
"""

from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime, timedelta

import sqlalchemy as sa

from tis_sync.esr.commands import Commands
from tis_sync.esr.deaneries import APP, DEANERIES, EXPORT_AT, due, last_due, london_day
from tis_sync.esr.generations import first_start, last_success
from tis_sync.esr.plan import INVALID, TO_EXPORT
from tis_sync.esr.records import at_risk
from tis_sync.esr.workflows import ask_for_day, start
from tis_sync.runs.registry import REGISTRY
from tis_sync.runs.services import Services
from tis_sync.state import esr as t

FILE_MINUTES = 30  # after its time, the file of each deanery has to be there
INVALID_HOURS = 24
TOLD_MINUTES = 60
STALE_FACTOR = 4  # so many times the interval without a generation
NAMED = 5  # records named in one alarm; all are counted


def watch(s: Services) -> None:
    """Give commands that were missed; raise and close the alarms of the export."""
    if not s.settings.esr:
        return
    now = s.clock()
    since = first_start(s.state)
    if since is None:
        return
    for file_type in EXPORT_AT:
        catch_up(s, file_type, now, since)
        _without_file(s, file_type, now, since)
    _stale(s, now)
    _at_risk(s, now)
    _stuck(s, now, since)
    _invalid(s, now)
    _not_told(s, now)


def catch_up(s: Services, file_type: str, now: datetime, since: datetime) -> None:
    """Give today's commands, where their time is over and nobody gave them."""
    today = london_day(now)
    moment = due(file_type, today)
    if moment > now or moment < since:
        return
    keys = [f"{file_type}/{deanery}/{today}" for deanery in DEANERIES]
    if len(Commands(s.state).with_key(keys)) < len(keys):
        asked = ask_for_day(s, file_type, today, "catch-up", s.worker_id)
        start([command for command in asked if command.state == "queued"])


def _without_file(s: Services, file_type: str, now: datetime, since: datetime) -> None:
    """A deanery without its file: an absent file must mean that something is broken."""
    moment = last_due(file_type, now)
    day = london_day(moment)
    with s.state.connect() as connection:
        there = set(
            connection.scalars(
                sa.select(t.file.c.deanery).where(
                    t.file.c.file_type == file_type,
                    t.file.c.day == day,
                    t.file.c.written_at.is_not(None),
                )
            )
        )
    late = now >= moment + timedelta(minutes=FILE_MINUTES) and moment >= since
    for deanery in DEANERIES:
        subject = f"{file_type} {deanery}"
        if deanery in there:
            s.alarms.close("no file", subject, now)
        elif late:
            kind = "app" if file_type == APP else "notification"
            s.alarms.raise_(
                "no file",
                subject,
                f"{deanery} has no {file_type} file for {day}, which was due at "
                f"{moment:%H:%M} UTC: ESR hears nothing of its starters. Make it: "
                f"`tis-sync esr export {deanery} --type {kind} --date {day}`.",
                now,
            )


def _stale(s: Services, now: datetime) -> None:
    last = last_success(s.state)
    longest = timedelta(minutes=STALE_FACTOR * s.settings.esr_generate_minutes)
    if last is not None and last.started_at >= now - longest:
        s.alarms.close("stale", "records", now)
        return
    when = "never" if last is None else f"{last.started_at:%Y-%m-%d %H:%M} UTC"
    s.alarms.raise_(
        "stale",
        "records",
        f"Records for ESR were last brought up to date {when}; new starters are not known to the "
        "export. See why: `tis-sync esr generate`.",
        now,
    )


def _at_risk(s: Services, now: datetime) -> None:
    found: Mapping[str, list[str]] = defaultdict(list)
    for record in at_risk(s.state, now):
        name = f"placement {record.placement_id} (starts {record.start})"
        found[record.deanery or "?"].append(name)
    _each_deanery(
        s,
        "at risk",
        found,
        now,
        "The next export comes too late for {count} of {deanery}: {names}. Send what can go now: "
        "`tis-sync esr export {deanery} --new`; why one cannot: `tis-sync esr explain PLACEMENT`.",
    )


def _stuck(s: Services, now: datetime, since: datetime) -> None:
    """Records that were there when an export was due, and are TO_EXPORT after it."""
    moment = last_due(APP, now)
    found: Mapping[str, list[str]] = defaultdict(list)
    if moment >= since and now >= moment + timedelta(minutes=FILE_MINUTES):
        waiting = sa.select(t.record.c.deanery, t.record.c.placement_id, t.record.c.held).where(
            t.record.c.state == TO_EXPORT, t.record.c.changed_at < moment
        )
        with s.state.connect() as connection:
            for deanery, placement, held in connection.execute(waiting):
                found[deanery].append(f"placement {placement}" + (" (held)" if held else ""))
    _each_deanery(
        s,
        "stuck",
        found,
        now,
        f"{{count}} of {{deanery}} are TO_EXPORT although the export of {moment:%Y-%m-%d %H:%M} "
        "UTC is over: {names}. Send them: `tis-sync esr export {deanery} --new`; why: `tis-sync "
        "esr dead list`.",
    )


def _invalid(s: Services, now: datetime) -> None:
    old = sa.select(t.record.c.deanery, t.record.c.placement_id, t.record.c.reason).where(
        t.record.c.state == INVALID, t.record.c.changed_at < now - timedelta(hours=INVALID_HOURS)
    )
    found: Mapping[str, list[str]] = defaultdict(list)
    with s.state.connect() as connection:
        for deanery, placement, reason in connection.execute(old):
            found[deanery or "?"].append(f"placement {placement} ({reason})")
    _each_deanery(
        s,
        "invalid",
        found,
        now,
        "{count} of {deanery} have had INVALID_DATA for more than a day: {names}. Correct them in "
        "TIS; they then go by themselves. All of them: `tis-sync esr records --state "
        "INVALID_DATA`.",
    )


def _not_told(s: Services, now: datetime) -> None:
    waiting = sa.select(t.file.c.name, t.file.c.written_at).where(
        t.file.c.told_at.is_(None), t.file.c.written_at < now - timedelta(minutes=TOLD_MINUTES)
    )
    with s.state.connect() as connection:
        found = {row.name: row.written_at for row in connection.execute(waiting)}
    for name, written_at in found.items():
        s.alarms.raise_(
            "TCS not told",
            name,
            f"{name} went to ESR at {written_at:%Y-%m-%d %H:%M} UTC, but TCS has not been told: "
            "users see a question mark beside its placements. See `tis-sync esr dead list`; then "
            "`tis-sync esr dead retry --all`.",
            now,
        )
    s.alarms.close_others("TCS not told", found, now)


def _each_deanery(
    s: Services, kind: str, found: Mapping[str, list[str]], now: datetime, text: str
) -> None:
    """One alarm a deanery that has some; the others' alarms are closed."""
    for deanery, names in found.items():
        shown = ", ".join(names[:NAMED]) + (" and more" if len(names) > NAMED else "")
        said = text.format(count=len(names), deanery=deanery, names=shown)
        s.alarms.raise_(kind, deanery, said, now)
    s.alarms.close_others(kind, found, now)


REGISTRY.watches.append(watch)
