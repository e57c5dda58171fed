"""E13, 2023-07-23: the broker was out of memory; the publisher never looked at confirms."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.brokers import Broker, eventually
from tests.conftest import NOW
from tests.exporting import export, generate
from tests.listening import ELSEWHERE, taken
from tests.running import ticking, working
from tests.starters import starters
from tests.world import World
from tis_sync.esr.broker import application, outbox
from tis_sync.esr.broker.listen import last_heard, listening
from tis_sync.esr.broker.topology import FILE_GENERATED, RECORD_EXPORTED, RECORDS
from tis_sync.esr.broker.watch import watch
from tis_sync.runs.services import Services
from tis_sync.settings import Settings


def alarms(s: Services) -> set[str]:
    """The kinds of open alarms, after another look."""
    watch(s)
    return {alarm.kind for alarm in s.alarms.open()}


@pytest.mark.servers
def test_what_the_broker_does_not_confirm_is_unsent_alarmed_and_sent_when_it_can(
    broker: Broker, embedded_tcs: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "CONFIRM_SECONDS", 3.0)
    embedded_tcs.fill(starters(5))
    settings = Settings(home=tmp_path, tcs_url=embedded_tcs.url, broker_url=broker.url)
    real, ahead = ticking(NOW), timedelta(0)

    def clock() -> datetime:
        return real() + ahead

    with working(settings, clock) as s, listening(s):
        eventually(lambda: last_heard(s.state))
        broker.send(RECORDS, ELSEWHERE)
        eventually(lambda: taken(s) == 1)
        broker.node.ctl("set_vm_memory_high_watermark", "0.0000001")
        try:
            generate(s)
            (done,) = export(s, "WES")
            assert done.state == "done"
            ahead = timedelta(minutes=6)
            eventually(lambda: alarms(s) >= {"events unsent", "not heard"})
            assert outbox.oldest_unsent(s.state)[0] == 7
        finally:
            broker.node.ctl("set_vm_memory_high_watermark", "0.4")
        eventually(lambda: outbox.oldest_unsent(s.state)[0] == 0)
        eventually(lambda: alarms(s) == set())
    sent = [*broker.take(RECORD_EXPORTED), *broker.take(FILE_GENERATED)]
    assert len({message.message_id for message in sent}) == 7
