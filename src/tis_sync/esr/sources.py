"""What the fields of each file type can be taken from, and the layouts in force."""

from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from tis_sync.esr.deaneries import APP, DNC, DNF
from tis_sync.esr.eligible import SOURCES
from tis_sync.esr.layout import Layout, load_layout
from tis_sync.settings import Settings
from tis_sync.tcs import tables as tcs

HEADER_SOURCES = {"fileType", "fileName", "createdDate", "createdTime", "deanery"}
TRAILER_SOURCES = {"fileType", "fileName", "recordCount"}
NOTIFICATION_SOURCES = tuple(
    column.name for column in tcs.EsrNotification.columns if column.name not in {"id"}
)
BODY_SOURCES: Mapping[str, tuple[str, ...]] = {
    APP: SOURCES,
    DNC: NOTIFICATION_SOURCES,
    DNF: NOTIFICATION_SOURCES,
}


def layout_of(file_type: str, settings: Settings) -> Layout:
    """The layout of a file type that is in force.

    Raises:
        UsageError: the site's own layout is wrong; the message names file, line and reason.

    """
    return _layout(file_type, settings.esr_layouts)


@lru_cache
def _layout(file_type: str, folder: Path | None) -> Layout:
    sources = {"HDR": HEADER_SOURCES, "TRL": TRAILER_SOURCES, "*": set(BODY_SOURCES[file_type])}
    return load_layout(file_type, folder, sources)
