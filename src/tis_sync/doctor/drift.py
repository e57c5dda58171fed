"""Drift: the checks as monitors, which open an alarm for each failed check.

One worker runs them half a minute after it starts and then every hour; the checks of the broker run
every half minute.
"""

from collections.abc import Callable, Sequence
from datetime import datetime

from tis_sync.alarms.catalogue import DRIFT, Severity
from tis_sync.doctor.esr import CONSUMER
from tis_sync.doctor.examination import (
    BROKER,
    CHECKS,
    PRIVILEGES,
    SEARCH,
    SEE_REASON,
    SUCCESSES,
    examine,
)
from tis_sync.doctor.finding import DRIFTED, FAILED, MISSING, OK, Finding
from tis_sync.doctor.operation import ALARMS
from tis_sync.durable.model import Schedule
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings

EXAMINE_SECONDS = 3600.0  # how often a worker runs the checks
EXAMINE_LIMIT_SECONDS = 300.0  # how long they may take
# An overdue job, and a broker that cannot be reached, raise alarms of other kinds.
OTHER_ALARMS = {BROKER, CONSUMER}
HOURLY = set(CHECKS) - {BROKER, SUCCESSES, ALARMS}
# How the names of the findings of a check begin, if the check cannot run under its own name.
PREFIX_OF_FINDINGS = {SEARCH: "index ", BROKER: "broker: ", PRIVILEGES: "privileges on "}
NAMED = 5  # findings of one name that an alarm names; all of them are counted
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
    failed: dict[str, list[Finding]] = {}
    for finding in findings:
        if finding.state in FAILED and finding.name not in OTHER_ALARMS:
            failed.setdefault(finding.name, []).append(finding)
    for name, same in failed.items():
        _open(s, name, same, now)
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


def _open(s: Services, name: str, findings: Sequence[Finding], now: datetime) -> None:
    """Open the alarm about the findings of one name, of which there may be several."""
    state = MISSING if any(finding.state is MISSING for finding in findings) else DRIFTED
    messages = [finding.message.rstrip(".") for finding in findings]
    more = f", and {len(messages) - NAMED:,} more" if len(messages) > NAMED else ""
    details = f"{name}: {'; '.join(messages[:NAMED])}{more} ({state})."
    remedies = dict.fromkeys(_sentence(f.remedy or SEE_REASON) for f in findings[:NAMED])
    s.alarms.open(DRIFT, name, details, now, severity=SEVERITY[state], remedy=". ".join(remedies))


def _sentence(phrase: str) -> str:
    return phrase[:1].upper() + phrase[1:]
