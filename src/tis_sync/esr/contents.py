"""What a file says, read back from where it lies."""

import sqlalchemy as sa

from tis_sync.errors import NotFoundError
from tis_sync.esr.destination import Destination
from tis_sync.esr.files import File, file_named
from tis_sync.esr.lines import Parsed, parse
from tis_sync.esr.sources import layout_of
from tis_sync.settings import Settings


def existing(state: sa.Engine, name: str) -> File:
    """The file of that name.

    Raises:
        NotFoundError: there is none.

    """
    file = file_named(state, name)
    if file is None:
        raise NotFoundError(f"There is no file {name!r}; `tis-sync esr files` lists them.")
    return file


def contents(settings: Settings, file: File) -> Parsed:
    """A file as it lies at its destination, parsed by its layout.

    Raises:
        UnreachableError, DestinationError: the destination does not give it.

    """
    data = Destination(settings.export(), settings.export_options).get(file.name)
    return parse(layout_of(file.file_type, settings), data)
