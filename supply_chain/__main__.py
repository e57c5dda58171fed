"""Write the list of licences, or the software bill of materials.

.venv/bin/python -m supply_chain licences      write docs/licences.md
.venv/bin/python -m supply_chain sbom FILE     write the bill of materials
"""

import sys
from datetime import UTC, datetime
from pathlib import Path

from supply_chain.licences import PAGE, page
from supply_chain.sbom import bill_of_materials


def main(arguments: list[str]) -> None:
    """Carry out the command line described at the top of this file."""
    match arguments:
        case ["licences"]:
            PAGE.write_text(page())
        case ["sbom", file]:
            Path(file).parent.mkdir(parents=True, exist_ok=True)
            Path(file).write_text(bill_of_materials(datetime.now(UTC)) + "\n")
            print(f"written: {file}")
        case _:
            raise SystemExit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
