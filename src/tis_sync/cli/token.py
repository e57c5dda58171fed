"""Tokens by which machines call the console's API."""

from typing import Annotated

import typer

from tis_sync.cli.app import Json, app, who
from tis_sync.console import as_json, error, out, table
from tis_sync.runs.services import Services
from tis_sync.settings import load_settings
from tis_sync.web import audit, tokens
from tis_sync.web.who import VIEW

token_app = typer.Typer(help="Tokens by which machines call the API.", no_args_is_help=True)
app.add_typer(token_app, name="token")
DAYS = 365


@token_app.command()
def create(
    name: Annotated[
        str, typer.Argument(help="What it is for; shown in the list, and in the audit log.")
    ],
    *,
    role: Annotated[str, typer.Option(help="view, or update.")] = VIEW,
    days: Annotated[int, typer.Option(min=1, help="How long it is taken.")] = DAYS,
) -> None:
    """Make a token, and print it: this once, as only its hash is kept."""
    s = Services(load_settings())
    detail = {"role": role, "days": days}
    with audit.audited(
        s.state, s.clock(), who=who(), how="command line", action="create token", subject=name,
        detail=detail,
    ):  # fmt: skip
        secret = tokens.create(s.state, name, role, days, who(), s.clock())
    print(secret)
    error(f"token {name!r}, role {role}, for {days} days. Keep it now: it is not shown again.")


@token_app.command("list")
def list_(*, json: Json = False) -> None:
    """List all tokens, without their secrets."""
    s = Services(load_settings())
    found = tokens.tokens(s.state)
    if json:
        as_json(found)
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
        for token in found
    ]
    columns = ("token", "role", "state", "made by", "made (UTC)", "until (UTC)", "last used (UTC)")
    table(None, columns, rows)


@token_app.command()
def revoke(name: Annotated[str, typer.Argument(help="Which one.")]) -> None:
    """Have a token be refused from now on."""
    s = Services(load_settings())
    with audit.audited(
        s.state, s.clock(), who=who(), how="command line", action="revoke token", subject=name
    ):
        tokens.revoke(s.state, name, s.clock())
    out.print(f"Token {name!r} is refused from now on.", markup=False)
