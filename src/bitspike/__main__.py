"""``python -m bitspike``: the command line."""

from bitspike.cli import main

main()
