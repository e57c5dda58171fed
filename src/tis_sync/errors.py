"""The errors that this package raises on purpose: few, and each a line for a person.

Every message says what was wrong, with what value, and what to do about it. The command line turns
each into one line and an exit code; a traceback is shown only with `--debug`.
"""


class TisSyncError(Exception):
    """Something went wrong that a person can understand and mend. Exit code 1."""

    exit_code = 1


class UsageError(TisSyncError):
    """The caller asked for something that does not exist or makes no sense. Exit code 2."""

    exit_code = 2


class NotFoundError(UsageError):
    """The caller named something that is not there: a job, a run, a file. Exit code 2."""


class UnreachableError(TisSyncError):
    """A server did not answer, or refused us: a network, an address or a password. Passes."""


class SchemaError(TisSyncError):
    """A database or a search cluster is not of the form, or of the version, that we need."""


class SourceError(TisSyncError):
    """A read from TCS failed in a way that setting single records aside cannot mend."""


class PlanOutdatedError(TisSyncError):
    """TCS changed what a plan was made for while the plan was applied: plan again."""


class DeliveryError(TisSyncError):
    """A search server kept refusing a chunk; the build was abandoned, the old index serves."""


class DestinationError(TisSyncError):
    """Where files go refuses us, or holds another file of that name. Does not pass by itself."""


class StorageFullError(TisSyncError):
    """A disk that holds our files, or a server's, has no room left."""


class AlreadyRunningError(TisSyncError):
    """The job, or the night, has an active run already; `run_id` names it."""

    def __init__(self, message: str, run_id: str | None = None) -> None:
        super().__init__(message)
        self.run_id = run_id


class HeldError(TisSyncError):
    """The guard holds a plan that removes too much: nothing was written. Exit code 3."""

    exit_code = 3


class LockedError(TisSyncError):
    """Somebody else holds what we need: the Java service a job, a transaction some rows. Passes."""
