"""Services whose clock is that of the state database, and two notification channels for them."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.channels import ChannelServer, channel_server
from tests.conftest import Clock
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.state.clock import time_of


@pytest.fixture(params=["sqlite", "postgresql"])
def services(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Services]:
    url = None if request.param == "sqlite" else request.getfixturevalue("postgresql")
    services = Services(Settings(home=tmp_path, state_url=url), clock)
    clock.now = time_of(services.state)  # notifications are due by that clock
    yield services
    services.close()


@pytest.fixture
def servers() -> Iterator[list[ChannelServer]]:
    """Two channels."""
    with ExitStack() as stack:
        yield [stack.enter_context(channel_server()) for _ in range(2)]
