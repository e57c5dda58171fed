"""The command line: every command is a thin call into the packages below."""

from tis_sync.cli.program import main

__all__ = ["main"]
