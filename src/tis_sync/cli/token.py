"""Commands for the tokens that machines use to call the API."""

from typing import Annotated

import typer

from tis_sync.audit import audited
from tis_sync.cli.output import Json, as_json, error, out, table
from tis_sync.cli.process import actor
from tis_sync.runs.services import Services
from tis_sync.settings.loading import load_settings
from tis_sync.web.auth import tokens
from tis_sync.web.auth.identity import VIEW, Role

DAYS = 365


def create(
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
    print(secret)
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


def revoke(name: Annotated[str, typer.Argument(help="The token's name.")]) -> None:
    """Revoke a token: requests with it are refused from now on."""
    s = Services(load_settings())
    with audited(s.state, s.clock(), actor(), "revoke token", name):
        tokens.revoke(s.state, name, s.clock())
    out.print(f"Token {name!r} is revoked.", markup=False)
