"""Is the broker as `topology` declares it? Passively: nothing is made, changed or taken.

A passive declaration tells whether a queue is there. One that is there is then declared with the
arguments that it should have: the broker refuses that, and names the argument, where they differ,
and does nothing where they are the same. What no client can see (bindings, policies that override
the queues' own arguments) is asked of the management API, where its URL is set.
"""

import json
from base64 import b64encode
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, Literal
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

from aio_pika.abc import AbstractConnection
from aiormq.exceptions import ChannelNotFoundEntity, ChannelPreconditionFailed
from faststream.rabbit import RabbitQueue

from tis_sync.errors import UnreachableError, UsageError
from tis_sync.esr.broker.connect import connected, url_of, vhost_of
from tis_sync.esr.broker.topology import DELIVERY_LIMIT, Topology, topology
from tis_sync.settings import Settings

API_SECONDS = 10
MEND = (
    "let the senders pause, wait until it is empty, delete it at the broker; the listener "
    "declares it anew within seconds"
)
# What a policy of the broker may not change in queues of ours.
RETRY_POLICY = {
    "delivery-limit", "dead-letter-exchange", "dead-letter-routing-key", "dead-letter-strategy",
    "message-ttl", "expires", "max-length", "max-length-bytes", "overflow",
}  # fmt: skip

State = Literal["ok", "drifted", "missing"]


@dataclass(frozen=True)
class Seen:
    """One thing at the broker: its name, its state, what was found, how to mend it."""

    name: str
    state: State
    said: str
    mend: str | None = None


@dataclass(frozen=True)
class Queue:
    """A queue that is there: how many messages wait in it, and how many consumers it has."""

    messages: int
    consumers: int


async def counts(connection: AbstractConnection, queue: RabbitQueue) -> Queue | None:
    """What waits in a queue; None if there is no such queue."""
    channel = await connection.channel()
    try:
        found = await channel.declare_queue(queue.name, passive=True)
    except ChannelNotFoundEntity:
        return None
    await channel.close()
    return Queue(
        found.declaration_result.message_count or 0, found.declaration_result.consumer_count or 0
    )


async def look(settings: Settings) -> list[Seen]:
    """Compare the broker with what is declared.

    Raises:
        UsageError: a URL is missing or malformed.
        UnreachableError: the broker, or its management API, does not answer.

    """
    wanted = topology(settings)
    async with connected(settings) as connection:
        found = [
            await _exchange(connection, exchange.name, exchange.type.value)
            for exchange in (wanted.exchange, wanted.dead_exchange)
        ]
        queues = {q.name: await _queue(connection, q) for q in wanted.queues().values()}
    found += queues.values()
    if settings.broker_api_url is not None:
        there = {name for name, seen in queues.items() if seen.state != "missing"}
        found += _by_api(settings, wanted, there)
    return found


async def _exchange(connection: AbstractConnection, name: str, kind: str) -> Seen:
    channel = await connection.channel()
    title = f"exchange {name}"
    try:
        await channel.declare_exchange(name, kind, passive=True)
    except ChannelNotFoundEntity:
        return Seen(title, "missing", "not there", "`tis-sync work` or `esr listen` declares it")
    try:
        await channel.declare_exchange(name, kind, durable=True)
    except ChannelPreconditionFailed as error:
        return Seen(title, "drifted", _difference(error), "delete it at the broker")
    await channel.close()
    return Seen(title, "ok", kind)


async def _queue(connection: AbstractConnection, queue: RabbitQueue) -> Seen:
    title = f"queue {queue.name}"
    there = await counts(connection, queue)
    if there is None:
        return Seen(title, "missing", "not there", "`tis-sync work` or `esr listen` declares it")
    channel = await connection.channel()
    try:
        await channel.declare_queue(queue.name, durable=True, arguments=queue.arguments)
    except ChannelPreconditionFailed as error:
        return Seen(title, "drifted", _difference(error), MEND)
    await channel.close()
    limit = queue.arguments["x-delivery-limit"]
    policy = f", {limit} deliveries, then dead letters" if limit == DELIVERY_LIMIT else ""
    return Seen(title, "ok", f"quorum{policy}; {there.messages:,} wait")


def _difference(error: BaseException) -> str:
    """What the broker said of the difference, without the code in front."""
    return str(error).removeprefix("PRECONDITION_FAILED - ")


def _by_api(settings: Settings, wanted: Topology, there: Collection[str]) -> Iterator[Seen]:
    """Bindings and policies of the queues that are there."""
    vhost = quote(vhost_of(url_of(settings)), safe="")
    bound = {
        (row["source"], row["destination"], row["routing_key"])
        for row in _ask(settings, f"bindings/{vhost}")
        if row["destination_type"] == "queue"
    }
    bindings = {binding for binding in wanted.bindings() if binding[1] in there}
    for exchange, queue, key in sorted(bindings - bound):
        yield Seen(
            f"binding of {queue}", "missing", f"{exchange} does not lead to it with key {key!r}",
            "restart `tis-sync work` or `esr listen`: it binds",
        )  # fmt: skip
    if bindings <= bound:
        yield Seen("bindings", "ok", f"{len(bindings)} as declared")
    overridden = False
    for row in _ask(settings, f"queues/{vhost}"):
        effective = row.get("effective_policy_definition") or {}
        changed = {k: effective[k] for k in sorted(RETRY_POLICY & set(effective))}
        if row["name"] in there and changed:
            overridden = True
            names = [n for n in (row.get("policy"), row.get("operator_policy")) if n]
            yield Seen(
                f"policy on {row['name']}", "drifted",
                f"{', '.join(names)} overrides what is declared: {json.dumps(changed)}",
                "take our queues out of that policy's pattern",
            )  # fmt: skip
    if not overridden:
        yield Seen("policies", "ok", "none overrides what is declared")


def _ask(settings: Settings, path: str) -> list[dict[str, Any]]:
    assert settings.broker_api_url is not None
    parts = urlsplit(settings.broker_api_url.get_secret_value())
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError(
            "TIS_SYNC_BROKER_API_URL is not a URL; expected for example "
            "http://USER:PASSWORD@HOST:15672."
        )
    port = f":{parts.port}" if parts.port else ""
    where = f"{parts.scheme}://{parts.hostname}{port}"
    login = b64encode(f"{parts.username or ''}:{parts.password or ''}".encode()).decode()
    request = Request(  # noqa: S310  the scheme has just been looked at
        f"{where}{parts.path.rstrip('/')}/api/{path}", headers={"Authorization": f"Basic {login}"}
    )
    try:
        with urlopen(request, timeout=API_SECONDS) as reply:  # noqa: S310
            answer: list[dict[str, Any]] = json.load(reply)
            return answer
    except HTTPError as error:
        raise UnreachableError(
            f"The broker's management API at {where} answers {error.code} {error.reason}; check "
            "user, password and rights in TIS_SYNC_BROKER_API_URL."
        ) from error
    except (URLError, OSError, ValueError) as error:
        raise UnreachableError(
            f"The broker's management API at {where} does not answer ({error}); check "
            "TIS_SYNC_BROKER_API_URL."
        ) from error
