"""The command line: thin commands that present what the lower packages return."""

from tis_sync.cli.program import main

__all__ = ["main"]
