"""E13, 2023-07-23: the broker was out of memory; the publisher ignored confirms."""

from datetime import timedelta
from pathlib import Path

import pytest

from tests.brokers import Broker
from tests.consuming import EXTERNAL_RECORD, age, consuming, received
from tests.exporting import export, generate
from tests.running import working
from tests.starters import starters
from tests.waiting import eventually
from tests.world import World
from tis_sync.alarms.catalogue import BROKER_SILENT, EVENTS_UNSENT, AlarmKind
from tis_sync.esr.messaging import application, outbox
from tis_sync.esr.messaging.consumer import last_contact
from tis_sync.esr.messaging.monitor import check_messages
from tis_sync.esr.messaging.topology import FILE_GENERATED, RECORD_EXPORTED, RECORDS
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings


def alarms(s: Services) -> set[AlarmKind]:
    """The kinds of open alarms, after another check."""
    check_messages(s)
    return {alarm.kind for alarm in s.alarms.open_alarms()}


@pytest.mark.servers
def test_an_unconfirmed_event_opens_an_alarm_and_is_sent_when_the_broker_recovers(
    broker: Broker, embedded_tcs: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(application, "CONFIRM_SECONDS", 3.0)
    embedded_tcs.fill(starters(5))
    settings = Settings(home=tmp_path, tcs_url=embedded_tcs.url, broker_url=broker.url)
    with working(settings) as s, consuming(s):
        eventually(lambda: last_contact(s.state))
        broker.send(RECORDS, EXTERNAL_RECORD)
        eventually(lambda: received(s) == 1)
        broker.node.ctl("set_vm_memory_high_watermark", "0.0000001")
        try:
            generate(s)
            (done,) = export(s, "WES")
            assert done.state == "done"
            age(s, timedelta(minutes=6))
            eventually(lambda: alarms(s) >= {EVENTS_UNSENT, BROKER_SILENT})
            assert outbox.unsent(s.state)[0] == 7
        finally:
            broker.node.ctl("set_vm_memory_high_watermark", "0.4")
        eventually(lambda: outbox.unsent(s.state)[0] == 0)
        eventually(lambda: alarms(s) == set())
    sent = [*broker.take(RECORD_EXPORTED), *broker.take(FILE_GENERATED)]
    assert len({message.message_id for message in sent}) == 7
