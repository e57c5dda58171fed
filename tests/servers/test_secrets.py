"""Passwords of every setting, and NI numbers of records, can be read nowhere."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import get_args

import httpx2
import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from sqlalchemy.engine import make_url

from tests.conftest import ON_THE_DAY
from tests.destinations import free_port
from tests.starters import starters
from tests.waiting import eventually
from tests.world import World
from tis_sync.alarms.catalogue import EXPORT_FAILED
from tis_sync.settings.model import HIDDEN, PREFIX, Settings

pytestmark = pytest.mark.servers

CANARY = "Zq7Passw0rd"  # begins every password
NI_NUMBER = "QQ123456C"
FINGERPRINT = "SHA256:" + "a" * 43
PAGES = ("", "/jobs", "/runs", "/search", "/esr", "/health", "/runbook", "/metrics",
         "/health/ready", "/health/live", "/openapi.json",
         *(f"/api/v1/{name}" for name in (
             "jobs", "runs", "alarms", "doctor", "settings", "audit", "esr/files", "esr/commands",
             "esr/at-risk", "esr/dead-letters", "esr/exports/preview",
             "search/persons/diagnosis?text=1")))  # fmt: skip
COMMANDS = (
    ("status",), ("history",), ("doctor",), ("schema", "check"), ("jobs",), ("night",),
    ("run", "PersonElasticSearchSyncJob"), ("search", "persons", "x"), ("esr", "generate"),
    ("esr", "export", "WES"), ("esr", "files"), ("esr", "dead", "list"), ("audit", "list"),
    ("session", "list"), ("esr", "explain", "1"), ("nosuchcommand",), ("run", "nosuchjob"),
)  # fmt: skip


def secrets(postgresql: str, port: int) -> dict[str, str]:
    """A password in every setting that may contain one; nothing answers at the port."""
    unused = f"127.0.0.1:{port}"
    state = make_url(postgresql).set(password=f"{CANARY}State")
    return {
        "state_url": state.render_as_string(hide_password=False),
        "search_url": f"opensearch+http://user:{CANARY}Search@{unused}",
        "export_url": f"sftp://user:{CANARY}Export@{unused}/in",
        "export_options": json.dumps(
            {"passphrase": f"{CANARY}Option", "host_key_fingerprint": FINGERPRINT}
        ),
        "broker_url": f"amqp://user:{CANARY}Broker@{unused}/",
        "broker_api_url": f"http://user:{CANARY}Api@{unused}",
        "oidc_client_secret": f"{CANARY}Client",
        "notification_urls": f"json://user:{CANARY}Channel@{unused}/",
    }


def test_this_test_sets_every_setting_that_may_contain_a_secret() -> None:
    secret = {
        name
        for name, info in Settings.model_fields.items()
        if name in HIDDEN or SecretStr in (info.annotation, *get_args(info.annotation))
    }
    assert secret == {*secrets("postgresql://h/x", 1), "tcs_url"}


@pytest.fixture
def environment(embedded_tcs: World, postgresql: str, tmp_path: Path) -> dict[str, str]:
    rows = starters(2)
    for details in rows["PersonalDetails"]:
        details["nationalInsuranceNumber"] = NI_NUMBER
    embedded_tcs.fill(rows)
    settings = {
        **secrets(postgresql, free_port()),
        "tcs_url": embedded_tcs.url,
        "home": str(tmp_path / "home"),
        "log_file": str(tmp_path / "sync.log"),
        "night_start_hours": "[0, 0]",
        "search_timeout_seconds": "1",
        "bulk_retry_timeout_seconds": "1",
        "esr_retry_seconds": "[0.1]",
    }
    variables = {PREFIX + name.upper(): value for name, value in settings.items()}
    return {**os.environ, **ON_THE_DAY, **variables}


def run(environment: dict[str, str], *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tis_sync", *arguments],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    return done.stdout + done.stderr


def leaks(text: str) -> set[str]:
    return set(re.findall(rf"{CANARY}\w*|{NI_NUMBER}", text, re.IGNORECASE))


def tables(url: str, *, records: bool) -> Iterator[str]:
    """Every value in the state database and in DBOS's tables; records may have NI numbers."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        for schema in ("public", "dbos"):
            for name in sa.inspect(engine).get_table_names(schema):
                if records or name not in {"esr_record", "esr_line"}:
                    table = sa.Table(name, sa.MetaData(), schema=schema, autoload_with=engine)
                    for row in connection.execute(sa.select(table)):
                        yield " ".join(map(str, row))
    engine.dispose()


@contextmanager
def serving(environment: dict[str, str], output: Path) -> Iterator[tuple[str, int]]:
    """A console with a worker; yield its address and the id of its process."""
    port = free_port()
    command = [sys.executable, "-m", "tis_sync", "--debug", "serve", "--port", str(port)]
    with output.open("w") as file:
        process = subprocess.Popen(command, env=environment, stdout=file, stderr=file)
        try:
            yield f"http://127.0.0.1:{port}/sync", process.pid
        finally:
            process.terminate()
            process.wait(90)


def answers(url: str) -> bool:
    try:
        return httpx2.get(f"{url}/health/live", timeout=5).status_code == 200
    except httpx2.HTTPError:
        return False


def test_commands_pages_metrics_logs_and_tables_show_no_secret(
    environment: dict[str, str], postgresql: str, tmp_path: Path
) -> None:
    outputs: dict[str, str] = {}
    output = tmp_path / "serve.log"
    with serving(environment, output) as (url, process):
        eventually(lambda: answers(url), 60)
        for command in COMMANDS:
            for debug in ((), ("--debug",)):
                outputs[" ".join((*debug, *command))] = run(environment, *debug, *command)
        for page in PAGES:
            answer = httpx2.get(url + page, timeout=60, follow_redirects=True)
            assert answer.status_code in {200, 404, 503}, page
            outputs[page] = answer.text
        for post in ("/api/v1/night", "/api/v1/esr/exports"):
            outputs[f"POST {post}"] = httpx2.post(
                url + post, json={"surprise": CANARY[:3]}, timeout=60
            ).text
        outputs["process"] = Path(f"/proc/{process}/cmdline").read_text()
    outputs["output"] = output.read_text()
    outputs["log"] = (tmp_path / "sync.log").read_text()
    outputs["tables"] = "\n".join(tables(postgresql, records=False))
    assert {name: found for name, text in outputs.items() if (found := leaks(text))} == {}
    assert NI_NUMBER in "\n".join(tables(postgresql, records=True))  # it could have been outputs
    assert "does not answer" in outputs["doctor"]
    assert EXPORT_FAILED.name in outputs["tables"]  # an alarm about one of the servers


@pytest.mark.parametrize(
    "setting",
    ["tcs_url", "state_url", "search_url", "export_url", "broker_url", "broker_api_url",
     "notification_urls", "export_options"],
)  # fmt: skip
@pytest.mark.parametrize(
    "value",
    ["{}", "x://user:{}@[::1", "mysql+nosuch://user:{}@h/d", "postgresql+psycopg://u:{}@h:x/"],
)
def test_a_malformed_setting_is_explained_without_its_password(
    setting: str, value: str, tmp_path: Path
) -> None:
    if (setting, value) == ("export_url", "{}"):
        return  # it is the name of a folder
    variables = {PREFIX + "HOME": str(tmp_path), PREFIX + setting.upper(): value.format(CANARY)}
    environment = {**os.environ, **ON_THE_DAY, **variables}
    text = run(environment, "--debug", "doctor")
    assert text
    assert leaks(text) == set()
