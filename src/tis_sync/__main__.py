"""Let `python -m tis_sync` run the program `tis-sync`."""

from tis_sync.cli import main

main()
