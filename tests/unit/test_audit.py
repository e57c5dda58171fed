"""The audit log says how an action ended, also if it was interrupted."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytest

from tests.conftest import NOW
from tests.demo_runs import ACTOR, services, settings
from tis_sync import audit
from tis_sync.errors import UsageError
from tis_sync.runs.services import Services

__all__ = ["services", "settings"]


@pytest.mark.parametrize(
    ("ending", "outcome"),
    [
        (None, "done"),
        (UsageError("There is no run x."), "There is no run x."),
        (LookupError("x"), "failed: an error in tis-sync; the log contains the traceback"),
        (KeyboardInterrupt(), "interrupted: it may have been done in part"),
    ],
)
def test_the_outcome_is_how_the_action_ended(
    services: Services, ending: BaseException | None, outcome: str
) -> None:
    expected: AbstractContextManager[Any] = nullcontext()
    if ending is not None:
        expected = pytest.raises(type(ending))
    with expected, audit.audited(services.state, NOW, ACTOR, "run", "x"):
        if ending is not None:
            raise ending
    (entry,) = audit.entries(services.state)
    assert entry.outcome == outcome
