"""The connection to the broker that the settings name."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from tis_sync import extras
from tis_sync.errors import UsageError
from tis_sync.settings.model import Settings

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

SETTING = "TIS_SYNC_BROKER_URL"
EXAMPLE = "amqp://USER:PASSWORD@HOST:5672/VHOST"


def url_of(settings: Settings) -> str:
    """Return the URL of the broker, with its password.

    Raises:
        UsageError: it is not set, or it is not a URL of RabbitMQ.

    """
    if settings.broker_url is None:
        raise UsageError(f"No broker is configured. Set {SETTING}, for example {EXAMPLE}.")
    url = settings.broker_url.get_secret_value()
    try:
        parts = urlsplit(url)
        valid = parts.scheme in {"amqp", "amqps"} and parts.hostname and (parts.port or True)
    except ValueError:
        valid = False
    if not valid:
        raise UsageError(f"{SETTING} is not a URL of RabbitMQ. Example: {EXAMPLE}.")
    return url


def vhost_of(url: str) -> str:
    """Return the virtual host in a URL; "/" if it names none."""
    return unquote(urlsplit(url).path[1:]) or "/"


def redacted_url(url: str) -> str:
    """Return a URL that is safe to show: asterisks replace the password."""
    parts = urlsplit(url)
    user = f"{parts.username}:***@" if parts.username else ""
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{user}{parts.hostname}{port}{parts.path}"


@asynccontextmanager
async def connected(settings: Settings) -> "AsyncIterator[AbstractConnection]":
    """Connect to the broker, and close the connection at the end of the block.

    Raises:
        UsageError: the URL is missing or malformed, or the extra `rabbitmq` is not installed.
        UnreachableError: the broker does not answer, or refuses access.

    """
    url = url_of(settings)
    with extras.needs(extras.RABBITMQ):
        from tis_sync.esr.messaging import amqp
    async with amqp.connect(url) as connection:
        yield connection
