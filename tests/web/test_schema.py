"""Whatever the API is sent, it answers as its description says, and never with a server error."""

from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.running import run_night
from tests.web.conftest import console
from tis_sync.runs.services import Services

EXAMPLES = 15  # of each call
MIN_CALLS = 35  # in the description
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


def test_no_call_of_the_api_ends_in_a_server_error(s: Services) -> None:
    run_night(s)
    s.settings = s.settings.model_copy(update={"web_requests_a_minute": 1_000_000})
    with console(s) as call:
        api = schemathesis.openapi.from_url(f"{call.url}/sync/api/v1/openapi.json")
        calls: list[Any] = list(api.include(path_regex="^/sync/api/").get_all_operations())
        operations = [result.ok() for result in calls]
        assert len(operations) >= MIN_CALLS
        for operation in operations:

            @given(case=operation.as_strategy())
            @settings(
                max_examples=EXAMPLES,
                deadline=None,
                derandomize=True,
                phases=[Phase.explicit, Phase.generate],
                suppress_health_check=list(HealthCheck),
            )
            def check(case: Any) -> None:
                case.call_and_validate(checks=CHECKS, timeout=30)

            check()
