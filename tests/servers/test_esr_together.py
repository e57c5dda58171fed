"""What happens at the same time, or amid something else, on PostgreSQL."""

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy.engine import make_url

from tests.conftest import NOW, TODAY
from tests.exporting import check_books, ended
from tests.listening import ELSEWHERE
from tests.running import working
from tests.starters import placement, starters
from tests.wire import Wire
from tests.world import World
from tis_sync.esr.broker.messages import AppRecord
from tis_sync.esr.commands import Commands
from tis_sync.esr.deaneries import APP, DEANERIES
from tis_sync.esr.destination import Destination
from tis_sync.esr.elsewhere import Told, take
from tis_sync.esr.files import claim, settle, written
from tis_sync.esr.generate import generate
from tis_sync.esr.plan import EXPORTED
from tis_sync.esr.records import counts
from tis_sync.esr.sources import layout_of
from tis_sync.esr.workflows import start
from tis_sync.settings import Settings
from tis_sync.state.database import open_state
from tis_sync.tcs import tables as tcs

pytestmark = pytest.mark.servers
ROUNDS = 10


def test_generations_claims_and_messages_at_the_same_time_never_wait_for_each_other_in_a_circle(
    embedded_tcs: World, postgresql: str, tmp_path: Path
) -> None:
    settings = Settings(home=tmp_path, tcs_url=embedded_tcs.url, state_url=postgresql)
    embedded_tcs.fill(starters(100, DEANERIES))
    layout = layout_of(APP, settings)
    engines = [open_state(settings) for _ in range(5)]
    told = [
        Told(f"m{n}", "q", AppRecord.model_validate(ELSEWHERE | {"placementId": n}), None)
        for n in range(50)
    ]

    def generating(state: sa.Engine) -> None:
        cause = str(uuid4())
        generate(state, embedded_tcs.engine, layout, {}, TODAY, NOW, cause)

    def claiming(state: sa.Engine) -> None:
        for deanery in DEANERIES:
            file = claim(
                state, command_id=str(uuid4()), file_type=APP, deanery=deanery, day=TODAY, now=NOW,
                new=True,
            )  # fmt: skip
            written(state, file, b"", NOW)
            settle(state, file, NOW)

    def taking(state: sa.Engine) -> None:
        take(state, told, layout=layout, prefixes={}, day=TODAY, now=NOW)

    for round_ in range(ROUNDS):
        more = [
            placement(1000 + 100 * round_ + n, n + 1, n + 1, TODAY + timedelta(days=30))
            for n in range(100)
        ]
        embedded_tcs.execute(sa.insert(tcs.Placement).values(more))
        told = [replace(one, message_id=f"{round_}-{n}") for n, one in enumerate(reversed(told))]
        acts = (generating, generating, generating, claiming, taking)
        with ThreadPoolExecutor(len(acts)) as pool:
            for ended_ in [pool.submit(a, e) for a, e in zip(acts, engines, strict=True)]:
                ended_.result()
    generating(engines[0])
    claiming(engines[0])
    assert counts(engines[0]).keys() == {(deanery, EXPORTED) for deanery in DEANERIES}
    assert sum(counts(engines[0]).values()) == 100 + ROUNDS * 100 + len(told)
    for engine in engines:
        engine.dispose()


def test_a_state_that_goes_away_amid_an_export_is_waited_for(
    embedded_tcs: World, postgresql: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded_tcs.fill(starters(2))
    url = make_url(postgresql)
    wire = Wire(url.host or "127.0.0.1", url.port or 5432)
    through = url.set(host="127.0.0.1", port=wire.port).render_as_string(hide_password=False)
    settings = Settings(
        home=tmp_path, tcs_url=embedded_tcs.url, state_url=through, esr_retry_seconds=(0.2,) * 50
    )
    put, joined = Destination.put, threading.Event()

    def join() -> None:
        wire.join()
        joined.set()

    def put_and_cut(self: Destination, name: str, data: bytes) -> None:
        put(self, name, data)
        monkeypatch.setattr(Destination, "put", put)
        wire.cut()
        threading.Timer(2, join).start()

    with working(settings) as s:
        asked = Commands(s.state).ask(
            file_type=APP, deanery="WES", day=TODAY, trigger="manual", who="test", now=s.clock()
        )
        monkeypatch.setattr(Destination, "put", put_and_cut)
        start([asked])
        assert joined.wait(30)
        (done,) = ended(s, [asked.id])
        assert (done.state, done.error) == ("done", None)
        check_books(s, embedded_tcs)
    wire.close()
