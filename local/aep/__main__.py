"""`python -m aep`."""

from aep.cli import main

main()
