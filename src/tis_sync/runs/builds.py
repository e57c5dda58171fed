"""The index that a run builds: its name, and what becomes of it when the run does not succeed."""

from tis_sync.errors import TisSyncError
from tis_sync.jobs.base import IndexProduct
from tis_sync.logs import get
from tis_sync.runs.services import Services


def build_name(run_id: str) -> str:
    """The part of an index's name that a run decides: the same whenever the run goes on."""
    return run_id.replace("-", "")[:16]


def abandon_build(s: Services, product: IndexProduct, run_id: str) -> None:
    """Drop what a run had built but not published; a server that is away keeps it till later."""
    index = f"{product.spec.alias}-{build_name(run_id)}"
    try:
        live = s.search().live(product.spec)
        if live is None or live.name != index:
            s.search().abandon(index)
    except TisSyncError as error:
        get().warning("build not dropped", index=index, reason=str(error))
