"""What has to be there at the broker, declared once: exchanges, queues, bindings, retry policy.

Every queue is a quorum queue: it survives a broker that is killed. A message that is delivered
`DELIVERY_LIMIT` times and never acknowledged goes to the dead letters, at least once: the queue
gives it up only when the dead letters have confirmed it. All of that stands in the queues' own
arguments and not in policies of the broker, which a migration can lose.
"""

from dataclasses import dataclass
from typing import Any

from faststream.rabbit import ExchangeType, QueueType, RabbitExchange, RabbitQueue

from tis_sync.settings import Settings

RECORDS = "esr.queue.apprecord.generated"
APP_COMMANDS = "esr.queue.appfile.command"
NOTIFICATION_COMMANDS = "esr.queue.notificationfile.command"
RECORD_EXPORTED = "esr.apprecord.exported"
FILE_GENERATED = "esr.file.generated"
LETTERS = "esr.dlq"
EXCHANGE = "esr.exchange"
DEAD_EXCHANGE = "esr.dlx"
NAMES = (
    EXCHANGE, DEAD_EXCHANGE, RECORDS, APP_COMMANDS, NOTIFICATION_COMMANDS, RECORD_EXPORTED,
    FILE_GENERATED, LETTERS,
)  # fmt: skip

DELIVERY_LIMIT = 20  # deliveries without acknowledgement: each is a crash or a lost connection
# Dead letters have nowhere else to go. Said, since a newer broker has a limit of its own.
LETTERS_DELIVERY_LIMIT = 1_000_000
EVENT_DAYS = 14  # what nobody has fetched by then becomes a dead letter, and so an alarm


@dataclass(frozen=True)
class Topology:
    """The exchanges and queues under the names that the settings give them.

    Attributes:
        exchange: where all messages are published; a queue's name is its routing key.
        dead_exchange: where messages go that died in a queue.
        taken: the queues that we take from, by their names in this module.
        events: the queues that others take from, likewise.
        letters: the dead letters.

    """

    exchange: RabbitExchange
    dead_exchange: RabbitExchange
    taken: dict[str, RabbitQueue]
    events: dict[str, RabbitQueue]
    letters: RabbitQueue

    def queues(self) -> dict[str, RabbitQueue]:
        """All queues, by their names in this module."""
        return self.taken | self.events | {LETTERS: self.letters}

    def consumed(self) -> list[RabbitQueue]:
        """The queues that a listener takes from."""
        return [*self.taken.values(), self.letters]

    def bindings(self) -> set[tuple[str, str, str]]:
        """Exchange, queue and routing key of every binding."""
        named = [queue.name for queue in (self.taken | self.events).values()]
        bound = {(self.exchange.name, name, name) for name in named}
        return bound | {(self.dead_exchange.name, self.letters.name, "")}


def topology(settings: Settings) -> Topology:
    """What has to be there, under the names of the settings."""

    def name(ours: str) -> str:
        return settings.broker_names.get(ours, ours)

    def queue(ours: str, **more: Any) -> RabbitQueue:
        arguments: dict[str, Any] = {
            "x-delivery-limit": DELIVERY_LIMIT,
            "x-dead-letter-exchange": name(DEAD_EXCHANGE),
            "x-dead-letter-strategy": "at-least-once",
            "x-overflow": "reject-publish",  # which that strategy asks for
        }
        return RabbitQueue(name(ours), queue_type=QueueType.QUORUM, arguments=arguments | more)  # type: ignore[call-overload,no-any-return]

    milliseconds = EVENT_DAYS * 24 * 3600 * 1000
    return Topology(
        RabbitExchange(name(EXCHANGE), type=ExchangeType.DIRECT, durable=True),
        RabbitExchange(name(DEAD_EXCHANGE), type=ExchangeType.FANOUT, durable=True),
        {ours: queue(ours) for ours in (RECORDS, APP_COMMANDS, NOTIFICATION_COMMANDS)},
        {
            ours: queue(ours, **{"x-message-ttl": milliseconds})
            for ours in (RECORD_EXPORTED, FILE_GENERATED)
        },
        RabbitQueue(
            name(LETTERS),
            queue_type=QueueType.QUORUM,
            arguments={"x-delivery-limit": LETTERS_DELIVERY_LIMIT},
        ),
    )
