"""Writes the reference of all settings to standard output."""

import sys

from foreshock.config import reference

if __name__ == "__main__":
    sys.stdout.write(reference())
