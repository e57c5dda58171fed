"""All checks by name, and their examination: run them, and report what each of them finds.

`tis-sync doctor` and the Health page show the findings. Nothing is changed, except that a probe
file is written to the export destination and removed again, and that messages which our consumer
ignores are sent to its queues.
"""

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial

from tis_sync import logs
from tis_sync.doctor.configuration import check_channels, check_settings
from tis_sync.doctor.esr import check_broker, check_destination, check_layouts
from tis_sync.doctor.finding import MISSING, NOT_CHECKED, Finding
from tis_sync.doctor.operation import (
    ALARMS,
    check_alarms,
    check_clock,
    check_schedules,
    check_successes,
)
from tis_sync.doctor.search import check_search
from tis_sync.doctor.state import check_state_privileges, check_state_schema
from tis_sync.doctor.tcs import check_privileges, check_schema
from tis_sync.durable.model import Schedule
from tis_sync.errors import TisSyncError
from tis_sync.runs.services import Services

LONGEST_REASON = 160  # characters of an unexpected error that are shown
SEE_REASON = "fix the cause that the message names"  # for a check that could not run
# The names of checks that need special treatment.
BROKER, DESTINATION, PRIVILEGES = "broker", "export destination", "TCS privileges"
SCHEDULES, SEARCH, SUCCESSES = "schedules", "search", "last successes"
# These send probes. How often a worker runs them anyway.
WRITING = {DESTINATION: "every hour", BROKER: "every half minute"}
Check = Callable[[Services], Iterator[Finding]]
CHECKS: dict[str, Check] = {
    "settings": check_settings,
    "notifications": check_channels,
    "layouts": check_layouts,
    "TCS schema": check_schema,
    PRIVILEGES: check_privileges,
    "state schema": check_state_schema,
    "state privileges": check_state_privileges,
    SEARCH: check_search,
    DESTINATION: check_destination,
    BROKER: check_broker,
    "clock": check_clock,
    SCHEDULES: partial(check_schedules, ()),  # `examine` knows what must be scheduled
    SUCCESSES: check_successes,
    ALARMS: check_alarms,
}


def examine(
    s: Services,
    schedules: Sequence[Schedule],
    names: Collection[str] | None = None,
    *,
    writes: bool = True,
) -> list[Finding]:
    """Run the checks.

    Args:
        s: settings, clock and servers.
        schedules: everything that must be scheduled.
        names: keys of `CHECKS`. None: all of them.
        writes: whether to run the checks that send probes; otherwise they are NOT_CHECKED.

    Returns:
        The findings; a check that cannot run is MISSING, with the reason. Nothing is raised.

    """
    findings: list[Finding] = []
    checks: dict[str, Check] = {**CHECKS, SCHEDULES: partial(check_schedules, schedules)}
    for name, check in checks.items():
        if names is not None and name not in names:
            continue
        if name in WRITING and not writes:
            findings += _left_out(s, name)
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


def _left_out(s: Services, name: str) -> Iterator[Finding]:
    if name != BROKER or s.settings.broker_url is not None:
        message = f"this check sends a probe; a worker runs it {WRITING[name]}, and raises an alarm"
        yield Finding(name, NOT_CHECKED, message, "to check it now, run `tis-sync doctor`")
