"""The files in deploy/ name settings, metrics, commands and documents that exist."""

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.core import Metric
from typer.core import TyperGroup
from typer.main import get_command

from supply_chain.contents import RUNTIME_LOCK, pins
from tests.conftest import NOW, ROOT
from tis_sync.alarms.catalogue import KIND_BY_NAME
from tis_sync.cli.app import app
from tis_sync.extras import EXTRAS
from tis_sync.runs.services import Services
from tis_sync.settings.model import Settings
from tis_sync.web.feeds import Feeds
from tis_sync.web.metrics import registry_of

DEPLOY = ROOT / "deploy"


def text(name: str) -> str:
    return (DEPLOY / name).read_text()


def commands() -> set[str]:
    group = get_command(app)
    assert isinstance(group, TyperGroup)
    return set(group.commands)


@pytest.fixture
def metrics(tmp_path: Path) -> Iterator[dict[str, set[str]]]:
    """The labels of every metric, by its name."""
    s = Services(Settings(home=tmp_path), lambda: NOW)
    collected: list[Metric] = list(registry_of(s, Feeds()).collect())
    yield {metric.name: set(getattr(metric, "_labelnames", ())) for metric in collected}
    s.close()


def rules() -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = yaml.safe_load(text("alerts.yaml"))["groups"][0]["rules"]
    return listed


def expressions() -> list[str]:
    panels = json.loads(text("dashboard.json"))["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    return [rule["expr"] for rule in rules()] + queries


def test_rules_and_dashboard_query_metrics_that_exist(metrics: dict[str, set[str]]) -> None:
    for expression in expressions():
        named = re.findall(r"tis_sync_\w+", expression)
        assert named, expression
        assert set(named) <= set(metrics), expression
        for group in re.findall(r"by \(([\w, ]+)\)", expression):
            labels = set().union(*(metrics[name] for name in named))
            assert set(group.split(", ")) <= labels, expression


def test_rules_and_dashboard_name_alarm_kinds_that_exist() -> None:
    for expression in expressions():
        if "tis_sync_alarms_open" in expression:
            for kind in re.findall(r'kind="([^"]*)"', expression):
                assert kind in KIND_BY_NAME, expression


def test_every_rule_has_a_severity_a_summary_and_a_document() -> None:
    for rule in rules():
        assert rule["labels"]["severity"] in {"page", "ticket"}
        assert rule["annotations"]["summary"]
        assert (ROOT / rule["annotations"]["runbook"]).exists()


def test_compose_describes_production_and_names_settings_that_exist() -> None:
    compose: dict[str, Any] = yaml.safe_load(text("compose.yaml"))
    services = compose["services"]
    assert set(services) == {
        "worker-1", "worker-2", "console",
        "mariadb", "postgres", "opensearch", "rabbitmq", "sftp",
    }  # fmt: skip
    known = {f"TIS_SYNC_{name.upper()}" for name in Settings.model_fields}
    for name in ("worker-1", "worker-2", "console"):
        assert set(services[name]["environment"]) <= known
        assert services[name]["command"][0] in commands()
    volumes = {volume.split(":")[0] for one in services.values() for volume in one["volumes"]}
    assert volumes - set(compose["volumes"]) == {"./known_hosts"}


def test_unit_and_image_run_existing_commands_and_not_as_root() -> None:
    unit = text("tis-sync.service")
    (start,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    assert shlex.split(start)[1] in commands()
    assert "User=tis-sync" in unit
    assert {"UMask=0077", "StateDirectoryMode=0700"} <= set(unit.splitlines())
    image = text("Dockerfile")
    assert re.search(r"^USER tis-sync$", image, re.MULTILINE)
    assert json.loads(re.findall(r"^CMD (.*)$", image, re.MULTILINE)[-1])[0] in commands()
    assert "HEALTHCHECK" in image
    assert "chmod 0700 /var/lib/tis-sync" in image
    assert re.search(r"uv pip sync .* requirements-runtime\.lock", image)
    assert {extra.package for extra in EXTRAS} <= {pin.name for pin in pins(RUNTIME_LOCK)}
