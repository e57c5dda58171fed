"""Drift: whether the broker is as `topology` declares it. Nothing is changed or consumed.

A passive declaration shows whether a queue exists. An existing queue is then declared with the
expected arguments. If they differ, the broker refuses the declaration and names the argument;
otherwise it does nothing.

Bindings, and policies that override the arguments of a queue, are only visible in the management
API. If its URL is not configured, a ping is sent through each binding to a queue that we consume:
the broker returns it if there is no binding. The consumer acknowledges pings without handling them,
also those that expire and become dead letters. No ping is sent to a queue without a consumer, where
pings would pile up, or to the queues of events, whose consumers are other systems; an event that is
returned because its binding is missing makes our consumer declare it again. What was not checked is
reported as such.
"""

import json
from base64 import b64encode
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError, URLError
from urllib.parse import quote, urlsplit
from urllib.request import Request, urlopen

from tis_sync.alarms.check_state import CheckState
from tis_sync.errors import UnreachableError, UsageError
from tis_sync.esr.messaging.connection import connected, url_of, vhost_of
from tis_sync.esr.messaging.contract import PING
from tis_sync.esr.messaging.topology import DELIVERY_LIMIT, Exchange, Queue, Topology, topology
from tis_sync.settings.model import Settings

if TYPE_CHECKING:
    from aio_pika.abc import AbstractConnection

    from tis_sync.esr.messaging.amqp import QueueCounts

API_SECONDS = 10
API_SETTING = "TIS_SYNC_BROKER_API_URL"
API_EXAMPLE = "http://USER:PASSWORD@HOST:15672"
DECLARE = "start `tis-sync work` or `tis-sync esr listen`, which declares it"
BIND = "restart `tis-sync work` or `tis-sync esr listen`, which binds it"
START = "start `tis-sync work` or `tis-sync esr listen`"
SET_API = "set TIS_SYNC_BROKER_API_URL to have it checked"
NO_PING = "only a ping shows whether the binding exists, and a page sends none"
PING_IT = "have it checked: `tis-sync doctor`"
RECREATE = (
    "pause its senders, wait until it is empty, and delete it at the broker; the consumer declares "
    "it again within seconds"
)
# What a policy of the broker must not change in our queues.
RETRY_POLICY = {
    "delivery-limit", "dead-letter-exchange", "dead-letter-routing-key", "dead-letter-strategy",
    "message-ttl", "expires", "max-length", "max-length-bytes", "overflow",
}  # fmt: skip


@dataclass(frozen=True)
class BrokerFinding:
    """The result of one check of the broker.

    Attributes:
        name: what was checked.
        state: the result.
        message: what was found.
        remedy: how to fix it; None if it is as declared.

    """

    name: str
    state: CheckState
    message: str
    remedy: str | None = None


async def queue_counts(connection: "AbstractConnection", queue: str) -> "QueueCounts | None":
    """Count the messages and consumers of a queue; None if it does not exist.

    Args:
        connection: a connection to the broker.
        queue: the name of the queue.

    """
    from tis_sync.esr.messaging import amqp

    return await amqp.queue_counts(connection, queue)


async def examine_broker(settings: Settings, *, pings: bool = True) -> list[BrokerFinding]:
    """Compare the broker with what is declared.

    Args:
        settings: the configuration: the broker, its names and its management API.
        pings: whether to send pings. If not, bindings that only pings show are not checked.

    Raises:
        UsageError: a URL is missing or malformed.
        UnreachableError: the broker or its management API does not answer.

    """
    expected = topology(settings)
    async with connected(settings) as connection:
        findings = [
            await _examine_exchange(connection, exchange)
            for exchange in (expected.exchange, expected.dead_letter_exchange)
        ]
        missing = {f.name for f in findings if f.state == CheckState.MISSING}
        queues = {q.name: await _examine_queue(connection, q) for q in expected.queues()}
        findings += queues.values()
        existing = {name for name, finding in queues.items() if finding.state != CheckState.MISSING}
        if settings.broker_api_url is None:
            for exchange, queue, key in sorted(expected.bindings()):
                if queue in existing and _exchange_title(exchange) not in missing:
                    binding = (exchange, queue, key)
                    findings.append(await _probe(connection, expected, *binding, pings=pings))
    if settings.broker_api_url is None:
        findings.append(
            BrokerFinding(
                "policies",
                CheckState.NOT_CHECKED,
                "only the management API shows whether a policy overrides what is declared",
                SET_API,
            )
        )
    else:
        findings += _examine_bindings(settings, expected, existing)
        findings += _examine_policies(settings, existing)
    return findings


async def _examine_exchange(connection: "AbstractConnection", exchange: Exchange) -> BrokerFinding:
    from tis_sync.esr.messaging import amqp

    title = _exchange_title(exchange.name)
    if not await amqp.exchange_exists(connection, exchange):
        return BrokerFinding(title, CheckState.MISSING, "does not exist", DECLARE)
    difference = await amqp.declare_exchange(connection, exchange)
    if difference is not None:
        remedy = "delete it at the broker; the consumer declares it again within seconds"
        return BrokerFinding(title, CheckState.DRIFTED, difference, remedy)
    return BrokerFinding(title, CheckState.OK, exchange.kind)


def _exchange_title(name: str) -> str:
    return f"exchange {name}"


async def _probe(
    connection: "AbstractConnection",
    expected: Topology,
    exchange: str,
    queue: str,
    key: str,
    *,
    pings: bool,
) -> BrokerFinding:
    """Check a binding by sending a ping through it, if that disturbs nobody."""
    from tis_sync.esr.messaging import amqp

    title = f"binding of {queue}"
    if queue not in {consumed.name for consumed in expected.consumed_queues()}:
        message = (
            "only the management API shows the binding of a queue that other systems consume; an "
            "event that the broker cannot route is sent again once the queue is bound"
        )
        return BrokerFinding(title, CheckState.NOT_CHECKED, message, SET_API)
    if not pings:
        return BrokerFinding(title, CheckState.NOT_CHECKED, NO_PING, PING_IT)
    counts = await amqp.queue_counts(connection, queue)
    if counts is None or not counts.consumers:
        message = "nothing consumes the queue at present, so no ping is sent to it"
        return BrokerFinding(title, CheckState.NOT_CHECKED, message, START)
    if not await amqp.is_routed(connection, exchange, key, PING):
        return BrokerFinding(title, CheckState.MISSING, _unbound(exchange, key), BIND)
    return BrokerFinding(title, CheckState.OK, f"{exchange} routes pings")


def _unbound(exchange: str, key: str) -> str:
    return f"{exchange} is not bound to it with the routing key {key!r}"


async def _examine_queue(connection: "AbstractConnection", queue: Queue) -> BrokerFinding:
    from tis_sync.esr.messaging import amqp

    title = f"queue {queue.name}"
    counts = await amqp.queue_counts(connection, queue.name)
    if counts is None:
        return BrokerFinding(title, CheckState.MISSING, "does not exist", DECLARE)
    difference = await amqp.declare_queue(connection, queue)
    if difference is not None:
        return BrokerFinding(title, CheckState.DRIFTED, difference, RECREATE)
    limit = queue.arguments["x-delivery-limit"]
    policy = f", dead letter after {limit} deliveries" if limit == DELIVERY_LIMIT else ""
    return BrokerFinding(title, CheckState.OK, f"quorum{policy}; {counts.messages:,} messages")


def _examine_bindings(
    settings: Settings, expected: Topology, existing: Collection[str]
) -> Iterator[BrokerFinding]:
    """Check the bindings of the queues that exist."""
    actual = {
        (row["source"], row["destination"], row["routing_key"])
        for row in _api(settings, f"bindings/{_vhost(settings)}")
        if row["destination_type"] == "queue"
    }
    bindings = {binding for binding in expected.bindings() if binding[1] in existing}
    for exchange, queue, key in sorted(bindings - actual):
        message = _unbound(exchange, key)
        yield BrokerFinding(f"binding of {queue}", CheckState.MISSING, message, BIND)
    if bindings <= actual:
        yield BrokerFinding("bindings", CheckState.OK, f"{len(bindings)} as declared")


def _examine_policies(settings: Settings, existing: Collection[str]) -> Iterator[BrokerFinding]:
    """Check that no policy overrides the arguments of the queues that exist."""
    overridden = False
    for row in _api(settings, f"queues/{_vhost(settings)}"):
        effective = row.get("effective_policy_definition") or {}
        changed = {k: effective[k] for k in sorted(RETRY_POLICY & set(effective))}
        if row["name"] in existing and changed:
            overridden = True
            names = [n for n in (row.get("policy"), row.get("operator_policy")) if n]
            yield BrokerFinding(
                f"policy on {row['name']}",
                CheckState.DRIFTED,
                f"{', '.join(names)} overrides what is declared: {json.dumps(changed)}",
                "change the pattern of that policy so that it does not match our queues",
            )
    if not overridden:
        yield BrokerFinding("policies", CheckState.OK, "none overrides what is declared")


def _vhost(settings: Settings) -> str:
    return quote(vhost_of(url_of(settings)), safe="")


def _api(settings: Settings, path: str) -> list[dict[str, Any]]:
    """Return the answer of the management API to a GET request."""
    assert settings.broker_api_url is not None
    parts = urlsplit(settings.broker_api_url.get_secret_value())
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise UsageError(f"{API_SETTING} is not a URL. Example: {API_EXAMPLE}.")
    port = f":{parts.port}" if parts.port else ""
    address = f"{parts.scheme}://{parts.hostname}{port}"
    login = b64encode(f"{parts.username or ''}:{parts.password or ''}".encode()).decode()
    request = Request(  # noqa: S310  the scheme has been checked
        f"{address}{parts.path.rstrip('/')}/api/{path}",
        headers={"Authorization": f"Basic {login}"},
    )
    try:
        with urlopen(request, timeout=API_SECONDS) as response:  # noqa: S310  as above
            answer: list[dict[str, Any]] = json.load(response)
            return answer
    except HTTPError as error:
        raise UnreachableError(
            f"The management API of the broker at {address} answers {error.code} {error.reason}; "
            f"check the user, password and permissions in {API_SETTING}."
        ) from error
    except (URLError, OSError, ValueError) as error:
        raise UnreachableError(
            f"The management API of the broker at {address} does not answer ({error}); check "
            f"{API_SETTING}."
        ) from error
