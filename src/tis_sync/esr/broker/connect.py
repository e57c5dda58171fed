"""Connections to the broker, and what their failures mean to a person."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import unquote, urlsplit

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPError, ProbableAuthenticationError
from aiormq.exceptions import AuthenticationError, ConnectionNotAllowed

from tis_sync.errors import TisSyncError, UnreachableError, UsageError
from tis_sync.settings import Settings

CONNECT_SECONDS = 10
SETTING = "TIS_SYNC_BROKER_URL"
REFUSED = (AuthenticationError, ProbableAuthenticationError)
FAILURES = (AMQPError, OSError, TimeoutError, RuntimeError)  # aio-pika: RuntimeError once closed


def url_of(settings: Settings) -> str:
    """The URL of the broker, with its password.

    Raises:
        UsageError: there is none, or it is no URL of RabbitMQ.

    """
    if settings.broker_url is None:
        raise UsageError(
            f"No broker is set. Set {SETTING}, for example amqp://USER:PASSWORD@HOST:5672/VHOST."
        )
    url = settings.broker_url.get_secret_value()
    try:
        parts = urlsplit(url)
        well = parts.scheme in {"amqp", "amqps"} and parts.hostname and (parts.port or True)
    except ValueError:
        well = False
    if not well:
        raise UsageError(
            f"{SETTING} is not a URL of RabbitMQ; expected for example "
            "amqp://USER:PASSWORD@HOST:5672/VHOST."
        )
    return url


def vhost_of(url: str) -> str:
    """The virtual host that a URL names; "/" where it names none."""
    return unquote(urlsplit(url).path[1:]) or "/"


def shown(url: str) -> str:
    """The URL as it may be shown: the password replaced by stars."""
    parts = urlsplit(url)
    user = f"{parts.username}:***@" if parts.username else ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{user}{parts.hostname}{port}{parts.path}"


def explained(error: BaseException, url: str) -> TisSyncError:
    """What a failure of the broker means to a person."""
    if isinstance(error, TisSyncError):
        return error
    where = f"The broker at {shown(url)}"
    if isinstance(error, REFUSED):
        return UnreachableError(f"{where} refuses the user or password; check {SETTING}.")
    # Of a virtual host that is not there, the client library knows only an unexpected answer.
    if isinstance(error, ConnectionNotAllowed) or "Connection.OpenOk" in str(error):
        return UnreachableError(
            f"{where} refuses us that virtual host, or has it not; check {SETTING}."
        )
    reason = " ".join(str(error).split()) or type(error).__name__
    if password := urlsplit(url).password:
        reason = reason.replace(password, "***")
    return UnreachableError(f"{where} does not answer ({reason[:200]}); check that it runs.")


@asynccontextmanager
async def connected(settings: Settings) -> AsyncIterator[AbstractConnection]:
    """A connection of its own, closed in the end.

    Raises:
        UsageError: the URL is missing or malformed.
        UnreachableError: no answer, or we are refused.

    """
    url = url_of(settings)
    try:
        connection = await aio_pika.connect(url, timeout=CONNECT_SECONDS)
    except FAILURES as error:
        raise explained(error, url) from error
    try:
        yield connection
    except FAILURES as error:
        raise explained(error, url) from error
    finally:
        await connection.close()
