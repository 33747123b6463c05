"""`python -m aep`."""

from aep.cli.main import main

main()
