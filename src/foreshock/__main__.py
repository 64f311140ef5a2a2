"""`python -m foreshock`."""

from foreshock.cli import main

main()
