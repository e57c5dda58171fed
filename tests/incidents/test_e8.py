"""E8, 2021-07-30: the broker was deleted while in use; its settings were scattered."""

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
from tis_sync.esr.broker import outbox
from tis_sync.esr.broker.listen import last_heard, listening
from tis_sync.esr.broker.topology import RECORD_EXPORTED, RECORDS
from tis_sync.esr.broker.watch import watch
from tis_sync.settings import Settings


@pytest.mark.servers
def test_a_broker_that_is_gone_is_alarmed_and_work_waits_and_resumes(
    broker: Broker, embedded_tcs: World, tmp_path: Path
) -> None:
    embedded_tcs.fill(starters(2))
    settings = Settings(home=tmp_path, tcs_url=embedded_tcs.url, broker_url=broker.url)
    real, ahead = ticking(NOW), timedelta(0)

    def clock() -> datetime:
        return real() + ahead

    with working(settings, clock) as s, listening(s):
        eventually(lambda: last_heard(s.state))
        watch(s)
        assert s.alarms.open() == []
        broker.drop()
        generate(s)
        (done,) = export(s, "WES")
        assert done.state == "done"
        ahead = timedelta(minutes=1)
        watch(s)
        watch(s)
        (alarm,) = s.alarms.open()
        assert (alarm.kind, alarm.subject) == ("not heard", "broker")
        assert "nothing is lost" in alarm.text
        assert "guest:guest" not in alarm.text
        assert outbox.oldest_unsent(s.state)[0] == 3
        broker.create()
        before = clock()
        eventually(lambda: (last_heard(s.state) or NOW) > before)
        watch(s)
        assert s.alarms.open() == []
        broker.send(RECORDS, ELSEWHERE)
        eventually(lambda: taken(s) == 1)
        eventually(lambda: outbox.oldest_unsent(s.state)[0] == 0)
    assert len(broker.take(RECORD_EXPORTED)) == 2


def test_the_broker_is_one_setting_in_one_place(tmp_path: Path) -> None:
    named = [name for name in Settings.model_fields if "broker" in name]
    assert named == ["broker_url", "broker_api_url", "broker_names"]
    assert Settings(home=tmp_path).broker_url is None
