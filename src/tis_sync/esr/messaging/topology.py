"""The exchanges, queues and bindings that must exist at the broker, and the retry policy.

Every queue is a quorum queue, which survives a crash of the broker. A message that is delivered
`DELIVERY_LIMIT` times without being acknowledged becomes a dead letter, at least once: the queue
only drops it after the dead-letter queue has confirmed it. All of this is declared in the arguments
of the queues, not in broker policies, because policies can be lost in a migration.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tis_sync.esr.export.events import EventName
from tis_sync.settings.model import Settings

RECORDS = "esr.queue.apprecord.generated"
APP_COMMANDS = "esr.queue.appfile.command"
NOTIFICATION_COMMANDS = "esr.queue.notificationfile.command"
RECORD_EXPORTED = EventName.RECORD_EXPORTED.value
FILE_GENERATED = EventName.FILE_GENERATED.value
DEAD_LETTER_QUEUE = "esr.dlq"
EXCHANGE = "esr.exchange"
DEAD_LETTER_EXCHANGE = "esr.dlx"
NAMES = (
    EXCHANGE, DEAD_LETTER_EXCHANGE, RECORDS, APP_COMMANDS, NOTIFICATION_COMMANDS, RECORD_EXPORTED,
    FILE_GENERATED, DEAD_LETTER_QUEUE,
)  # fmt: skip

DELIVERY_LIMIT = 20  # deliveries without acknowledgement: each is a crash or a lost connection
# A dead letter has nowhere else to go. Set explicitly because the default in RabbitMQ 4 is 20.
DEAD_LETTER_DELIVERY_LIMIT = 1_000_000
EVENT_DAYS = 14  # an event that is not consumed by then becomes a dead letter, and opens an alarm
MILLISECONDS_PER_DAY = 24 * 3600 * 1000


@dataclass(frozen=True)
class Exchange:
    """A durable exchange; `kind` is "direct" or "fanout"."""

    name: str
    kind: str


@dataclass(frozen=True)
class Queue:
    """A durable quorum queue; `arguments` are those of its declaration."""

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Topology:
    """The exchanges and queues, under the names that the settings give them.

    Attributes:
        exchange: all messages are published here; the name of a queue is its routing key.
        dead_letter_exchange: dead letters are published here.
        inputs: the queues that we consume, by their names in this module.
        events: the queues that other systems consume, by their names in this module.
        dead_letters: the dead-letter queue, which we also consume.

    """

    exchange: Exchange
    dead_letter_exchange: Exchange
    inputs: dict[str, Queue]
    events: dict[str, Queue]
    dead_letters: Queue

    def queues(self) -> list[Queue]:
        """All queues."""
        return [*self.inputs.values(), *self.events.values(), self.dead_letters]

    def consumed_queues(self) -> list[Queue]:
        """The queues that our consumer subscribes to."""
        return [*self.inputs.values(), self.dead_letters]

    def bindings(self) -> set[tuple[str, str, str]]:
        """Exchange, queue and routing key of every binding."""
        names = [queue.name for queue in (*self.inputs.values(), *self.events.values())]
        bindings = {(self.exchange.name, name, name) for name in names}
        return bindings | {(self.dead_letter_exchange.name, self.dead_letters.name, "")}


def topology(settings: Settings) -> Topology:
    """Return what must exist at the broker, under the names of `settings.broker_names`."""

    def name(default: str) -> str:
        return settings.broker_names.get(default, default)

    def queue(default: str, **more: Any) -> Queue:
        arguments: dict[str, Any] = {
            "x-queue-type": "quorum",
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-dead-letter-exchange": name(DEAD_LETTER_EXCHANGE),
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",  # required by that strategy
        }
        return Queue(name(default), arguments | more)

    return Topology(
        Exchange(name(EXCHANGE), "direct"),
        Exchange(name(DEAD_LETTER_EXCHANGE), "fanout"),
        {default: queue(default) for default in (RECORDS, APP_COMMANDS, NOTIFICATION_COMMANDS)},
        {
            default: queue(default, **{"x-message-ttl": EVENT_DAYS * MILLISECONDS_PER_DAY})
            for default in (RECORD_EXPORTED, FILE_GENERATED)
        },
        Queue(
            name(DEAD_LETTER_QUEUE),
            {"x-queue-type": "quorum", "x-delivery-limit": DEAD_LETTER_DELIVERY_LIMIT},
        ),
    )
