"""What the documents say is what the program does."""

import json
import re
from pathlib import Path

from faststream.specification.asyncapi import get_asyncapi_html

from tis_sync.esr.broker.application import contract
from tis_sync.esr.broker.messages import (
    AppFileCommand,
    AppRecord,
    FileGenerated,
    NotificationFileCommand,
    RecordExported,
)
from tis_sync.esr.broker.topology import NAMES
from tis_sync.jobs.catalogue import JOBS
from tis_sync.settings import Settings

ROOT = Path(__file__).parent.parent.parent


def settings_table() -> str:
    """docs/settings.md, as the settings themselves tell it."""
    lines = [
        "# Settings",
        "",
        "Read from the environment, or from a file `.env` in the working directory. Passwords in",
        "URLs are never shown. Lists and maps are JSON, but for `TIS_SYNC_ALERT_URLS`.",
        "",
        "| setting | default | meaning |",
        "|---|---|---|",
    ]
    for name, field in Settings.model_fields.items():
        default = field.get_default(call_default_factory=True)
        shown = "" if default is None or default in ([], {}) else f"`{default}`"
        lines.append(f"| `TIS_SYNC_{name.upper()}` | {shown} | {field.description} |")
    return "\n".join(lines) + "\n"


def test_every_setting_is_documented_with_its_default_and_meaning() -> None:
    path = ROOT / "docs/settings.md"
    if not path.exists() or path.read_text() != settings_table():
        path.write_text(settings_table())
        raise AssertionError("docs/settings.md was out of date; it has been written anew")


def test_the_message_contract_is_documented_as_it_is() -> None:
    made = contract(Settings())
    page = get_asyncapi_html(made)
    assert made.to_json() in page
    # FastStream keeps publishers in a set: the order of what it tells changes by chance.
    in_order = json.dumps(made.to_jsonable(), sort_keys=True)
    pages = {
        "asyncapi.json": json.dumps(json.loads(in_order), indent=2) + "\n",
        "asyncapi.html": page.replace(made.to_json(), in_order),
    }
    stale = [
        name
        for name, page in pages.items()
        if not (ROOT / "docs" / name).exists() or (ROOT / "docs" / name).read_text() != page
    ]
    for name in stale:
        (ROOT / "docs" / name).write_text(pages[name])
    assert stale == [], "out of date; written anew"


def test_every_queue_and_field_of_a_message_is_told_in_words() -> None:
    page = (ROOT / "docs/messages.md").read_text()
    for name in NAMES:
        assert f"`{name}`" in page, name
    for model in (
        AppRecord,
        AppFileCommand,
        NotificationFileCommand,
        RecordExported,
        FileGenerated,
    ):
        for field in model.model_fields.values():
            assert f"`{field.alias}`" in page, field.alias


def test_the_readme_opens_with_the_two_commands() -> None:
    opening = (ROOT / "README.md").read_text().splitlines()[:6]
    assert any("make demo" in line for line in opening)
    assert any("make test" in line for line in opening)


def test_the_readme_lists_every_job_with_its_time() -> None:
    readme = (ROOT / "README.md").read_text()
    for job in JOBS:
        assert re.search(rf"\| {job.name} \| {job.at:%H:%M} \|", readme)


def test_every_link_between_documents_leads_somewhere() -> None:
    for path in [ROOT / "README.md", *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text()):
            assert (path.parent / target).exists(), (path, target)
