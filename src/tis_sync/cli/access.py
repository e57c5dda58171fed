"""Commands for access to the console: tokens of machines, and sessions of people."""

from typing import Annotated

import typer

from tis_sync.audit import audited
from tis_sync.cli.output import Json, as_json, error, print_line, table
from tis_sync.cli.process import actor
from tis_sync.errors import UsageError
from tis_sync.runs.services import Services
from tis_sync.settings.loading import load_settings
from tis_sync.web.auth import sessions, tokens
from tis_sync.web.auth.identity import METRICS, VIEW, Role
from tis_sync.web.auth.sessions import Session

DAYS = 365
ID_SHOWN = 8  # characters of a session's id


def create_token(
    name: Annotated[
        str, typer.Argument(help="What the token is for; shown in the list and the audit log.")
    ],
    *,
    role: Annotated[str, typer.Option(help=f"{', '.join(Role)}.")] = VIEW,
    days: Annotated[int, typer.Option(min=1, help="How many days it is valid.")] = DAYS,
) -> None:
    """Create a token and print its secret. Only a hash is stored: it is not shown again."""
    s = Services(load_settings())
    creator = actor()
    detail = {"role": role, "days": days}
    with audited(s.state, s.clock(), creator, "create token", name, detail):
        secret = tokens.create(s.state, name, role, days, creator.name, s.clock())
    print_line(secret)
    error(f"token {name!r}, role {role}, for {days} days. Keep it now: it is not shown again.")


def list_tokens(*, json: Json = False) -> None:
    """List all tokens, without their secrets."""
    s = Services(load_settings())
    existing = tokens.tokens(s.state)
    if json:
        as_json(existing)
        return
    now = s.clock()
    rows = [
        (
            token.name,
            token.role,
            "revoked" if token.revoked_at else "expired" if token.expires_at <= now else "valid",
            token.created_by,
            token.created_at,
            token.expires_at,
            token.used_at,
        )
        for token in existing
    ]
    columns = (
        "token", "role", "state", "created by", "created (UTC)", "expires (UTC)", "last used (UTC)",
    )  # fmt: skip
    table(None, columns, rows)


def revoke_token(name: Annotated[str, typer.Argument(help="The token's name.")]) -> None:
    """Revoke a token: requests with it are refused from now on."""
    s = Services(load_settings())
    with audited(s.state, s.clock(), actor(), "revoke token", name):
        tokens.revoke(s.state, name, s.clock())
    print_line(f"Token {name!r} is revoked.")


def list_sessions(*, json: Json = False) -> None:
    """List who is signed in, and since when."""
    s = Services(load_settings())
    found = sessions.open_sessions(s.state, s.clock())
    if json:
        as_json(
            [
                {
                    "id": session.id,
                    "user": session.caller.name,
                    "roles": _own_roles(session),
                    "created_at": session.created_at,
                    "checked_at": session.checked_at,
                    "expires_at": session.expires_at,
                }
                for session in found
            ]
        )
        return
    rows = [
        (
            session.id[:ID_SHOWN],
            session.caller.name,
            ", ".join(_own_roles(session)),
            session.created_at,
            session.checked_at,
            session.expires_at,
        )
        for session in found
    ]
    columns = ("session", "user", "roles", "since (UTC)", "confirmed (UTC)", "expires (UTC)")
    table(None, columns, rows)


def end_sessions(
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID...", help="Sessions, as `list` shows them.")
    ] = None,
    *,
    user: Annotated[str | None, typer.Option(help="All sessions of the user of this name.")] = None,
    everyone: Annotated[bool, typer.Option("--all", help="All sessions.")] = False,
) -> None:
    """End sessions: their users have to sign in again, and their live updates stop."""
    if not (ids or user or everyone):
        raise UsageError("Say which sessions to end: ID..., --user NAME or --all.")
    s = Services(load_settings())
    subject = "all" if everyone else user or ", ".join(ids or ())
    with audited(s.state, s.clock(), actor(), "end session", subject):
        ended = sessions.end(s.state, ids or (), user, s.clock(), everyone=everyone)
    for session in ended:
        print_line(f"Ended: {session.id[:ID_SHOWN]} of {session.caller.name}")
    if not ended:
        print_line("There are no sessions.")


def _own_roles(session: Session) -> list[str]:
    return sorted(session.caller.roles - {METRICS})
