"""The program `tis-sync`: run a command; turn what goes wrong into a line and an exit code.

Exit codes: 0 done, 1 failed, 2 wrong usage, 3 held by the guard.
"""

import sys
import traceback

from tis_sync import console, logs
from tis_sync.cli import dead, doing, esr, health, looking, serve, token
from tis_sync.cli.app import app
from tis_sync.errors import AlreadyRunningError, TisSyncError
from tis_sync.settings import load_settings

INTERRUPTED = 130
# Importing them registers their commands.
COMMANDS = (doing, looking, esr, dead, health, serve, token)


def main() -> None:
    """The program `tis-sync`: run a command; turn what goes wrong into a line and an exit code."""
    debug = "--debug" in sys.argv
    try:
        logs.configure(load_settings(), stream=sys.stderr, level="DEBUG" if debug else "CRITICAL")
        app()
    except TisSyncError as error:
        code = error.exit_code if not isinstance(error, AlreadyRunningError) else 1
        _fail(str(error), code, debug=debug)
    except KeyboardInterrupt:
        _fail(
            "interrupted; what was under way goes on at the next start.", INTERRUPTED, debug=debug
        )
    except Exception as error:  # noqa: BLE001  a traceback only where asked for
        reason = " ".join(str(error).split())[:300]
        _fail(
            f"unexpected {type(error).__name__}: {reason}. Run again with --debug before the "
            "command for the details.",
            1,
            debug=debug,
        )


def _fail(message: str, code: int, *, debug: bool) -> None:
    if debug:
        traceback.print_exc()
    console.error(message)
    raise SystemExit(code)
