"""What is in deploy/ names settings, metrics, commands and documents that there are."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.core import Metric
from typer.main import get_command

from tests.conftest import NOW, ROOT
from tis_sync.cli import program
from tis_sync.cli.app import app
from tis_sync.runs.services import Services
from tis_sync.settings import Settings
from tis_sync.web.live import Live
from tis_sync.web.metrics import figures

assert program.COMMANDS  # importing it registers the commands
DEPLOY = ROOT / "deploy"


def text(name: str) -> str:
    return (DEPLOY / name).read_text()


@pytest.fixture
def metrics(tmp_path: Path) -> Iterator[dict[str, set[str]]]:
    """The labels of each metric that there is."""
    s = Services(Settings(home=tmp_path), lambda: NOW)
    found: list[Metric] = list(figures(s, Live()).collect())
    yield {metric.name: set(getattr(metric, "_labelnames", ())) for metric in found}
    s.close()


def expressions() -> list[str]:
    rules = yaml.safe_load(text("alerts.yaml"))["groups"][0]["rules"]
    panels = json.loads(text("dashboard.json"))["panels"]
    asked = [target["expr"] for panel in panels for target in panel["targets"]]
    return [rule["expr"] for rule in rules] + asked


def test_rules_and_dashboard_ask_for_metrics_that_there_are(
    metrics: dict[str, set[str]],
) -> None:
    for expression in expressions():
        named = re.findall(r"tis_sync_\w+", expression)
        assert named, expression
        assert set(named) <= set(metrics), expression
        for group in re.findall(r"by \(([\w, ]+)\)", expression):
            labels = set().union(*(metrics[name] for name in named))
            assert set(group.split(", ")) <= labels, expression


def test_every_rule_says_what_it_means_and_where_to_look() -> None:
    for rule in yaml.safe_load(text("alerts.yaml"))["groups"][0]["rules"]:
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]
        assert (ROOT / rule["annotations"]["runbook"]).exists()


def test_compose_has_the_shape_of_production_and_names_settings_that_there_are() -> None:
    compose: dict[str, Any] = yaml.safe_load(text("compose.yaml"))
    services = compose["services"]
    assert set(services) == {
        "worker-1", "worker-2", "console",
        "mariadb", "postgres", "opensearch", "rabbitmq", "sftp",
    }  # fmt: skip
    known = {f"TIS_SYNC_{name.upper()}" for name in Settings.model_fields}
    for name in ("worker-1", "worker-2", "console"):
        assert set(services[name]["environment"]) <= known
        assert services[name]["command"][0] in get_command(app).commands  # type: ignore[attr-defined]
    volumes = {volume.split(":")[0] for one in services.values() for volume in one["volumes"]}
    assert volumes - set(compose["volumes"]) == {"./known_hosts"}


def test_unit_and_image_run_commands_that_there_are_and_not_as_root() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    unit = text("tis-sync.service")
    (start,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    assert shlex.split(start)[1] in commands
    assert "User=tis-sync" in unit
    image = text("Dockerfile")
    assert re.search(r"^USER tis-sync$", image, re.MULTILINE)
    assert json.loads(re.findall(r"^CMD (.*)$", image, re.MULTILINE)[-1])[0] in commands
    assert "HEALTHCHECK" in image
