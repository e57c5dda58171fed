"""A process that runs a night every day does not grow: memory, threads, and rows of DBOS."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parent.parent.parent
NIGHTS = int(os.environ.get("TIS_SYNC_TEST_NIGHTS", "16"))
PEOPLE = int(os.environ.get("TIS_SYNC_TEST_NIGHTS_PEOPLE", "1000"))
SETTLED_AFTER = 10  # nights; until then caches and pools fill
GROWTH_SHARE = 0.04  # of the memory after those nights; what allocators need for fragmentation
MOST_THREADS = 60
WORKFLOWS_OF_A_NIGHT = 100  # more than one night has, and far fewer than all nights have


def nights(*arguments: str) -> list[dict[str, Any]]:
    """Run nights in a process of its own; return its figures after each."""
    command = [
        sys.executable, "-m", "benchmarks.growth", "--nights", str(NIGHTS),
        "--people", str(PEOPLE), "--partition-keys", "400", "--workflow-days", "0", *arguments,
    ]  # fmt: skip
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout[-2000:] + ended.stderr[-2000:]
    print(ended.stdout)
    figures: list[dict[str, Any]] = json.loads(ended.stdout.splitlines()[-1])
    return figures


@pytest.mark.parametrize(
    "state", ["embedded", pytest.param("postgresql", marks=pytest.mark.servers)]
)
def test_memory_threads_and_rows_are_flat_after_the_tenth_night(
    state: str, request: pytest.FixtureRequest
) -> None:
    arguments = ["--state", request.getfixturevalue(state)] if state != "embedded" else []
    figures = nights(*arguments)
    settled = max(f["resident_mb"] for f in figures[SETTLED_AFTER - 3 : SETTLED_AFTER])
    last = min(f["resident_mb"] for f in figures[-3:])
    assert last <= settled * (1 + GROWTH_SHARE), figures
    assert max(f["threads"] for f in figures) <= MOST_THREADS, figures
    assert max(f["workflows"] for f in figures) <= WORKFLOWS_OF_A_NIGHT, figures
