"""`python -m sersearch` is `sersearch`."""

from sersearch.cli import main

main()
