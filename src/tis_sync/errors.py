"""The errors that this package raises on purpose.

Every message is one line that says what was wrong, with what value, and what to do. The command
line prints it and sets an exit code; the console turns it into a page or a problem document.
"""


class TisSyncError(Exception):
    """Something went wrong that a person can understand and fix.

    Attributes:
        exit_code: the exit code of the command line.
        transient: whether the cause may disappear without help, so that a retry makes sense.
        harms_users: whether a run that fails of it leaves its work undone, so that it is an alarm.

    """

    exit_code = 1
    transient = False
    harms_users = True


class UsageError(TisSyncError):
    """The caller asked for something that does not exist or makes no sense."""

    exit_code = 2


class PreviewNeededError(UsageError):
    """The request cannot be undone, and the caller has not confirmed what it would do.

    It is confirmed with the number that the preview shows.
    """


class NotFoundError(UsageError):
    """The caller named something that does not exist: a job, a run, a file."""


class UnreachableError(TisSyncError):
    """A server does not answer or refuses access: a problem of network, address or password."""

    transient = True


class SchemaError(TisSyncError):
    """A database or a search cluster does not have the schema or the version that we need."""


class SourceError(TisSyncError):
    """A read from TCS failed in a way that setting aside single records cannot fix."""


class PlanOutdatedError(TisSyncError):
    """TCS or the index changed after a plan was made, so the plan must be made again."""


class DeliveryError(TisSyncError):
    """A search server kept refusing a chunk; the build was abandoned and the old index stays."""

    transient = True


class IncompleteBuildError(DeliveryError):
    """A new index does not contain exactly the documents that were sent to it."""


class IndexUnavailableError(TisSyncError):
    """An index is blocked, closed or gone, or the disk of its server is full."""

    transient = True


class DestinationError(TisSyncError):
    """The destination refuses access, or contains another file of that name."""


class DestinationSettingError(DestinationError, UsageError):
    """The settings of the destination are malformed or unsafe; nothing was contacted."""

    exit_code = UsageError.exit_code


class StorageFullError(TisSyncError):
    """A disk is full: ours, or a server's."""

    transient = True


class AlreadyRunningError(TisSyncError):
    """The job, or the night, has an active run; `run_id` names it."""

    def __init__(self, message: str, run_id: str | None = None) -> None:
        super().__init__(message)
        self.run_id = run_id


class HeldError(TisSyncError):
    """The guard holds a plan that would remove too much.

    What was judged before may have been applied: a plan is judged again if it is made again.
    """

    exit_code = 3


class LockedError(TisSyncError):
    """Another transaction holds a lock that we need."""

    transient = True


class JavaRunsError(LockedError):
    """The Java service is running the job, so its work is done all the same."""

    harms_users = False


def is_panic(error: BaseException) -> bool:
    """Whether a library written in Rust has panicked.

    A panic is a `BaseException`: no handler for `Exception` sees it, so it would end a thread in
    silence. Each library has a class of its own for it, which cannot be imported.
    """
    return type(error).__name__ == "PanicException"
