"""The process of the program `tis-sync`, also for `python -m tis_sync`."""

from tis_sync.cli import main as run_command
from tis_sync.cli.process import leave
from tis_sync.private_files import keep_new_files_private


def main() -> None:
    """Run the command that the arguments name, and end the process."""
    keep_new_files_private()
    code: object = 0
    try:
        run_command()
    except SystemExit as ended:
        code = ended.code
    leave(code if isinstance(code, int) else int(code is not None))


if __name__ == "__main__":
    main()
