"""`python -m tis_sync`: the same as the program `tis-sync`."""

from tis_sync.cli import main

main()
