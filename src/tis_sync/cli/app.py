"""The commands of `tis-sync`: this module lists them all."""

from collections.abc import Callable, Mapping
from typing import Annotated, Any

import typer

from tis_sync import __version__
from tis_sync.cli import access, demo, doctor, esr, esr_dead, inspect, run, serve
from tis_sync.cli.output import print_line


def build() -> typer.Typer:
    """The application, with every command."""
    root = _group(
        "Keep everything derived from TCS correct, and export starters to ESR.",
        {
            "demo": demo.demo,
            "night": run.night,
            "run": run.run,
            "verify": run.verify,
            "cancel": run.cancel,
            "resume": run.resume,
            "pause": run.pause,
            "unpause": run.unpause,
            "work": serve.work,
            "serve": serve.serve,
            "jobs": inspect.list_jobs,
            "status": inspect.status,
            "history": inspect.list_runs,
            "show": inspect.show_run,
            "search": inspect.search,
            "doctor": doctor.doctor,
        },
    )
    root.callback()(_options)
    root.add_typer(
        _group("The schema that TCS must have.", {"check": inspect.check_schema}), name="schema"
    )
    esr_group = _group(
        "The export of starters and notifications to ESR.",
        {
            "generate": esr.generate,
            "records": esr.list_records,
            "explain": esr.explain,
            "at-risk": esr.list_at_risk,
            "export": esr.export,
            "files": esr.list_files,
            "file": esr.show_file,
            "erase": esr.erase,
            "listen": esr.listen,
            "contract": esr.print_contract,
        },
    )
    dead_group = _group(
        "Export commands that failed permanently, and dead letters.",
        {"list": esr_dead.list_dead, "retry": esr_dead.retry, "discard": esr_dead.discard},
    )
    esr_group.add_typer(dead_group, name="dead")
    root.add_typer(esr_group, name="esr")
    root.add_typer(
        _group(
            "API tokens for machines.",
            {
                "create": access.create_token,
                "list": access.list_tokens,
                "revoke": access.revoke_token,
            },
        ),
        name="token",
    )
    root.add_typer(
        _group(
            "Sessions of people who have signed in to the console.",
            {"list": access.list_sessions, "end": access.end_sessions},
        ),
        name="session",
    )
    root.add_typer(
        _group(
            "The audit log: who changed what.",
            {"list": inspect.list_audit_entries, "verify": inspect.verify_audit},
        ),
        name="audit",
    )
    return root


def _group(purpose: str, commands: Mapping[str, Callable[..., Any]]) -> typer.Typer:
    group = typer.Typer(
        help=purpose, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
    )
    for name, command in commands.items():
        group.command(name)(command)
    return group


def _print_version(requested: bool) -> None:
    if requested:
        print_line(f"tis-sync {__version__}")
        raise typer.Exit


def _options(
    *,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show tracebacks and all log lines.")
    ] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version."
        ),
    ] = False,
) -> None:
    """Keep everything derived from TCS correct, and export starters to ESR."""


app = build()
