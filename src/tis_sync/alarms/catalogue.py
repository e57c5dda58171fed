"""The catalogue of alarm kinds: what each one means, what users see, and how to fix it.

Monitors only raise alarms of these kinds. The tables of the runbook, the metrics and the remedies
on the pages are derived from this list.
"""

import re
from dataclasses import dataclass
from enum import Enum, StrEnum


class Severity(StrEnum):
    """How serious a notification or an open alarm is; an open alarm's severity never falls."""

    INFO = "info"  # nothing is wrong
    SUCCESS = "success"  # a problem was resolved
    WARNING = "warning"  # something is unusual, or is still being retried
    FAILURE = "failure"  # someone has to act


class Resolution(StrEnum):
    """Why an alarm was closed."""

    RESOLVED = "resolved"  # the problem has gone
    EXPIRED = "expired"  # the problem was not fixed in time, and it is too late for that now
    SUPERSEDED = "superseded"  # what the alarm was about has changed or no longer exists


class Action(Enum):
    """What the button of an alarm does."""

    RUN_JOB = "run the job"
    RUN_NIGHT = "run the night"
    EXPORT_UNSENT = "export what is unsent, with a new number"
    EXPORT_FILE = "export the missing file"


@dataclass(frozen=True)
class AlarmKind:
    """One kind of alarm.

    `impact` and `remedy` are templates: `{subject}` stands for what the alarm is about, and other
    names for values that the monitor passes to `Alarms.open`.

    Attributes:
        name: unique; shown to users, and used in metrics and in the API.
        subject: what the alarm is about ("job", "deanery", "file").
        meaning: what is wrong, in one sentence, for the runbook.
        impact: what users see until it is fixed.
        remedy: what to do, with the command.
        closing: what is reported when the problem has gone.
        closing_title: the same in a few words, after the subject.
        action: what the button on a page does. None: there is no button.
        runbook: the document in `docs/` that lists the kind.
        severity: how serious an alarm of this kind is, unless the monitor says otherwise.

    """

    name: str
    subject: str
    meaning: str
    impact: str
    remedy: str
    closing: str
    closing_title: str
    action: Action | None = None
    runbook: str = "runbook"
    severity: Severity = Severity.FAILURE

    @property
    def anchor(self) -> str:
        """The id of the row in the runbook that describes the kind."""
        return re.sub(r"[^\w-]", "", self.name.lower().replace(" ", "-"))

    def text(self, subject: str, details: str, **values: object) -> str:
        """Return the text of an alarm: details, impact and remedy.

        Args:
            subject: what the alarm is about.
            details: what was found, in whole sentences.
            values: what the templates of this kind need besides the subject.

        """
        parts = [part.format(subject=subject, **values) for part in (self.impact, self.remedy)]
        return " ".join(part for part in (details, *parts) if part)


FAILED = AlarmKind(
    "failed",
    "job",
    "The last run of the job failed.",
    "Until a run succeeds: {impact}.",
    "Fix the cause, then run the job: `tis-sync run {subject}`.",
    "The job succeeded.",
    "succeeded",
    Action.RUN_JOB,
)
HELD = AlarmKind(
    "held",
    "job",
    "The guard holds the plan of the job because it would remove too much.",
    "Until a plan is applied: {impact}.",
    "If the source is wrong, fix it and run the job again: `tis-sync run {subject}`. If it is "
    "right, approve the plan: `tis-sync run {subject} --approve`.",
    "A plan of the job was applied.",
    "no longer held",
)
OVERDUE = AlarmKind(
    "overdue",
    "job",
    "The job has not succeeded since its last scheduled time, and its due time has passed.",
    "Until it succeeds: {impact}.",
    "Run it: `tis-sync run {subject}`.",
    "The job succeeded.",
    "no longer overdue",
    Action.RUN_JOB,
)
SLOW = AlarmKind(
    "slow",
    "job",
    "A run of the job is taking unusually long.",
    "Nothing: readers never see the work of an unfinished run.",
    "Follow the run: `tis-sync show {run} --log`. Stop it: `tis-sync cancel {run}`.",
    "No run of the job is taking unusually long.",
    "no longer slow",
    severity=Severity.WARNING,
)
UNUSUAL_SIZE = AlarmKind(
    "unusual size",
    "job",
    "The index of the job is about to contain an unusual number of documents.",
    "Nothing is stopped: the index is published.",
    "If the source is right, do nothing. If it is wrong, fix it and run the job again: "
    "`tis-sync run {subject}`.",
    "The index is back to its usual size.",
    "usual size",
    severity=Severity.WARNING,
)
SET_ASIDE = AlarmKind(
    "set aside",
    "job",
    "The job could not use many records.",
    "What depends on these records is missing or out of date.",
    "See which records, and why: `tis-sync show {run}`.",
    "The last run set aside few records, or none.",
    "few records set aside",
    severity=Severity.WARNING,
)
NO_WORKER = AlarmKind(
    "no worker",
    "scheduler",
    "No worker with schedules is alive, or the scheduled times of all jobs passed without a run.",
    "No job starts automatically, so search and all other derived data go out of date.",
    "Start a worker: `tis-sync work`. Then catch up: `tis-sync night`.",
    "A worker is alive.",
    "a worker is alive",
    Action.RUN_NIGHT,
)
DRIFT = AlarmKind(
    "drift",
    "check",
    "`tis-sync doctor` found that something the service relies on is missing, or not as declared.",
    "",
    "{remedy}. See every check: `tis-sync doctor`.",
    "The check passes again.",
    "as declared",
)
MONITOR_FAILED = AlarmKind(
    "monitor failed",
    "monitor",
    "A monitor, or another regular task of a worker, failed or takes too long.",
    "What it watches is not watched, so other alarms may be missing or out of date.",
    "The task is repeated automatically. Find the cause: `tis-sync doctor`; the log of the worker "
    "contains the traceback. If the task hangs, restart the worker.",
    "The task succeeded.",
    "monitor succeeded",
)

AT_RISK = AlarmKind(
    "at risk",
    "deanery",
    "There are unsent records of people who start too soon for the next export.",
    "Unless the records are sent now, payroll will not know about these starters in time.",
    "Send what can be sent: `tis-sync esr export {subject} --new`. See why a placement cannot be "
    "sent: `tis-sync esr explain PLACEMENT`.",
    "No record of the deanery is at risk.",
    "no longer at risk",
    Action.EXPORT_UNSENT,
    "esr",
)
TOO_LATE = AlarmKind(
    "too late",
    "placement",
    "A placement was entered too late for any export.",
    "Payroll does not know about this starter.",
    "Tell the trust now: it must hire this person in ESR manually. See the history: "
    "`tis-sync esr explain {placement}`.",
    "The placement was sent.",
    "sent",
    runbook="esr",
)
STUCK = AlarmKind(
    "stuck",
    "deanery",
    "Records are still TO_EXPORT after the export that they were due for.",
    "Payroll does not know about these starters.",
    "Send them: `tis-sync esr export {subject} --new`. See what failed: `tis-sync esr dead list`.",
    "No record of the deanery is stuck.",
    "no longer stuck",
    Action.EXPORT_UNSENT,
    "esr",
)
FILE_MISSING = AlarmKind(
    "file missing",
    "file type and deanery",
    "The file of the day has not been written half an hour after it was due.",
    "ESR receives nothing about the starters of this deanery.",
    "Export the file: `tis-sync esr export {deanery} --type {type} --date {day}`.",
    "The file was written.",
    "file written",
    Action.EXPORT_FILE,
    "esr",
)
INVALID_RECORDS = AlarmKind(
    "invalid records",
    "deanery",
    "Records have had INVALID_DATA for more than a day.",
    "Payroll does not know about these starters.",
    "Correct the data in TIS; the records are then sent automatically. List them: "
    "`tis-sync esr records --state INVALID_DATA`.",
    "No record of the deanery has had INVALID_DATA for more than a day.",
    "no invalid records",
    runbook="esr",
    severity=Severity.WARNING,
)
INVALID_NOTIFICATIONS = AlarmKind(
    "invalid notifications",
    "deanery",
    "Notifications were left out of the last file, because values contain control characters.",
    "ESR does not learn about these changes.",
    "Correct the rows of EsrNotification that the alarm names, then send them: "
    "`tis-sync esr export {subject} --type notification --new`.",
    "No notification of the deanery was left out of the last file.",
    "no invalid notifications",
    runbook="esr",
    severity=Severity.WARNING,
)
TCS_NOT_UPDATED = AlarmKind(
    "TCS not updated",
    "file",
    "The export of a file has not been reported to TCS an hour after the file was written.",
    "Users see a question mark beside the placements in the file.",
    "See what failed: `tis-sync esr dead list`. Retry it: `tis-sync esr dead retry --all`.",
    "The export was reported to TCS.",
    "TCS updated",
    runbook="esr",
    severity=Severity.WARNING,
)
EXPORT_FAILED = AlarmKind(
    "export failed",
    "file type and deanery",
    "An export command failed permanently.",
    "Payroll does not know about the starters of this deanery.",
    "Fix the cause, then retry: `tis-sync esr dead retry {command}`.",
    "The export succeeded.",
    "export succeeded",
    runbook="esr",
)
RECORDS_STALE = AlarmKind(
    "records stale",
    "records",
    "The records for ESR have not been refreshed for a while.",
    "The export does not include new starters.",
    "Refresh the records, or see why that fails: `tis-sync esr generate`.",
    "The records were refreshed.",
    "records refreshed",
    runbook="esr",
    severity=Severity.WARNING,
)
BROKER_SILENT = AlarmKind(
    "broker silent",
    "broker",
    "No consumer has reached the broker for a while, or none is running.",
    "Incoming records and commands wait at the broker, and events wait here. Nothing is lost.",
    "Check that the broker is up, and that `tis-sync work` or `tis-sync esr listen` is running. "
    "Find the cause: `tis-sync doctor`.",
    "A consumer has reached the broker.",
    "broker reached",
    runbook="messages",
)
DEAD_LETTERS = AlarmKind(
    "dead letters",
    "queue",
    "Messages that could not be used are waiting for someone to deal with them.",
    "The export does not include what these messages contain.",
    "See the reasons: `tis-sync esr dead list`. Fix the cause, then retry: "
    "`tis-sync esr dead retry --all`. Discard what nobody needs: `tis-sync esr dead discard ID`.",
    "No dead letter of the queue is waiting.",
    "no dead letters",
    runbook="messages",
)
EVENTS_UNSENT = AlarmKind(
    "events unsent",
    "broker",
    "The broker has not confirmed events for a while.",
    "Other systems do not know what was exported.",
    "The events are sent automatically as soon as the broker confirms them. Find the cause "
    "(memory, disk, a missing queue): `tis-sync doctor`.",
    "The broker confirmed all events.",
    "events confirmed",
    runbook="messages",
    severity=Severity.WARNING,
)

KINDS: tuple[AlarmKind, ...] = (
    FAILED,
    HELD,
    OVERDUE,
    SLOW,
    UNUSUAL_SIZE,
    SET_ASIDE,
    NO_WORKER,
    DRIFT,
    MONITOR_FAILED,
    AT_RISK,
    TOO_LATE,
    STUCK,
    FILE_MISSING,
    INVALID_RECORDS,
    INVALID_NOTIFICATIONS,
    TCS_NOT_UPDATED,
    EXPORT_FAILED,
    RECORDS_STALE,
    BROKER_SILENT,
    DEAD_LETTERS,
    EVENTS_UNSENT,
)
KIND_BY_NAME = {kind.name: kind for kind in KINDS}
