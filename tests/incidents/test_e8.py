"""E8, 2021-07-30: the broker was deleted while in use, and its settings were in many places."""

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
from tis_sync.alarms.catalogue import BROKER_SILENT
from tis_sync.esr.messaging import outbox
from tis_sync.esr.messaging.consumer import last_contact
from tis_sync.esr.messaging.monitor import check_messages
from tis_sync.esr.messaging.topology import RECORD_EXPORTED, RECORDS
from tis_sync.settings.model import Settings


@pytest.mark.servers
def test_a_broker_that_is_deleted_opens_an_alarm_and_work_waits_and_resumes(
    broker: Broker, embedded_tcs: World, tmp_path: Path
) -> None:
    embedded_tcs.fill(starters(2))
    settings = Settings(home=tmp_path, tcs_url=embedded_tcs.url, broker_url=broker.url)
    with working(settings) as s, consuming(s):
        eventually(lambda: last_contact(s.state))
        check_messages(s)
        assert s.alarms.open_alarms() == []
        broker.drop()
        generate(s)
        (done,) = export(s, "WES")
        assert done.state == "done"
        age(s, timedelta(minutes=1))
        check_messages(s)
        check_messages(s)
        (alarm,) = s.alarms.open_alarms()
        assert (alarm.kind, alarm.subject) == (BROKER_SILENT, "broker")
        assert "Nothing is lost" in alarm.text
        assert "guest:guest" not in alarm.text
        assert outbox.unsent(s.state)[0] == 3
        broker.create()
        before = last_contact(s.state)
        eventually(lambda: last_contact(s.state) != before)
        check_messages(s)
        assert s.alarms.open_alarms() == []
        broker.send(RECORDS, EXTERNAL_RECORD)
        eventually(lambda: received(s) == 1)
        eventually(lambda: outbox.unsent(s.state)[0] == 0)
    assert len(broker.take(RECORD_EXPORTED)) == 2


def test_the_broker_is_configured_by_one_url(tmp_path: Path) -> None:
    names = [name for name in Settings.model_fields if "broker" in name]
    assert names == ["broker_url", "broker_api_url", "broker_names"]
    assert Settings(home=tmp_path).broker_url is None
