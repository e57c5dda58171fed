"""The checks of the exchange with ESR: layouts and destination of files, the broker."""

import asyncio
from collections.abc import Iterator
from datetime import timedelta

from tis_sync.doctor.finding import MISSING, OK, Finding
from tis_sync.esr.deaneries import FileType
from tis_sync.esr.files.columns import layout_of
from tis_sync.esr.files.destination import checked_message, destination
from tis_sync.esr.messaging.consumer import last_contact
from tis_sync.esr.messaging.drift import examine_broker
from tis_sync.esr.messaging.monitor import SILENT_SECONDS
from tis_sync.runs.services import Services
from tis_sync.state.clock import time_of

CONSUMER = "broker: consumer"  # the name of a finding


def check_layouts(s: Services) -> Iterator[Finding]:
    """Check that the layout of each file type can be read."""
    for file_type in FileType:
        layout = layout_of(file_type, s.settings)
        yield Finding(f"layout {file_type}", OK, f"{len(layout.body.fields)} fields")


def check_destination(s: Services, *, writes: bool) -> Iterator[Finding]:
    """Check that the destination can be used.

    Args:
        s: settings, clock and servers.
        writes: whether to write a file into the folder for probes, if there is one, and remove it.

    """
    target = destination(s.settings)
    was_written = target.probe(writes=writes)
    message = checked_message(target.shown_url, was_written=was_written)
    yield Finding("export destination", OK, message)


def check_broker(s: Services, *, writes: bool) -> Iterator[Finding]:
    """Check queues, exchanges and bindings, and that a consumer reaches the broker.

    Args:
        s: settings, clock and servers.
        writes: whether to send pings through the bindings (see `tis_sync.esr.messaging.drift`).

    """
    if s.settings.broker_url is None:
        return
    for result in asyncio.run(examine_broker(s.settings, pings=writes)):
        yield Finding(f"broker: {result.name}", result.state, result.message, result.remedy)
    contact = last_contact(s.state)
    silent = timedelta(seconds=SILENT_SECONDS)
    if contact is not None and time_of(s.state) - contact < silent:
        yield Finding(CONSUMER, OK, f"last contact {contact:%H:%M:%S} UTC")
    else:
        yield Finding(
            CONSUMER, MISSING,
            "has never reached the broker" if contact is None
            else f"last contact {contact:%Y-%m-%d %H:%M:%S} UTC",
            "start `tis-sync work` or `tis-sync esr listen`",
        )  # fmt: skip
