"""The program `tis-sync`: run a command, and turn an error into one line and an exit code.

Exit codes: 0 success, 1 failure, 2 wrong usage, 3 held by the guard, 130 interrupted.
"""

import sys

from tis_sync import logs
from tis_sync.cli.app import app
from tis_sync.cli.output import error as print_error
from tis_sync.cli.process import is_debug, note_interrupts
from tis_sync.errors import TisSyncError
from tis_sync.settings.loading import load_settings, unknown_setting_hint, unknown_settings
from tis_sync.settings.model import Settings

INTERRUPTED = 130  # 128 + SIGINT, as shells report it
INTERRUPTED_MESSAGE = (
    "Interrupted. A worker continues what is in progress; if none runs, repeat the command."
)
LONGEST_REASON = 300  # characters of an unexpected error that are shown


def main() -> None:
    """Run the command that the arguments of the process name.

    Raises:
        SystemExit: the command failed; the code says how.

    """
    try:
        level = "DEBUG" if is_debug() else logs.SILENT
        # Settings that cannot be read are reported too. Without this, structlog would show the
        # values of all variables in the traceback, and a password among them.
        logs.configure(Settings.model_construct(), stream=sys.stderr, level=level)
        logs.configure(load_settings(), stream=sys.stderr, level=level)
        for name, similar in unknown_settings().items():
            hint = unknown_setting_hint(similar)
            print_error(f"{name} is not a setting and is ignored; {hint}")
        note_interrupts()
        app()
    except TisSyncError as error:
        _fail(str(error), error.exit_code, error)
    except (KeyboardInterrupt, SystemExit) as ended:
        # Typer turns the interrupt of a command into this exit code, and says nothing.
        if isinstance(ended, SystemExit) and ended.code != INTERRUPTED:
            raise
        _fail(INTERRUPTED_MESSAGE, INTERRUPTED, ended)
    except Exception as error:  # noqa: BLE001  a traceback only where asked for
        reason = logs.reason_of(error)[:LONGEST_REASON]
        _fail(
            f"Unexpected {type(error).__name__}: {reason}. For details, repeat the command with "
            "--debug in front of it.",
            1,
            error,
        )


def _fail(message: str, code: int, error: BaseException) -> None:
    if is_debug():
        logs.report("the command failed", error)
    print_error(message)
    raise SystemExit(code)
