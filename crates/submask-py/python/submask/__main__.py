"""The program ``submask``, as a console script and as ``python -m submask``."""

from __future__ import annotations

import sys

from . import _native


def main() -> int:
    """Runs the program with this process's arguments and returns its exit code."""
    return _native.main(["submask", *sys.argv[1:]])


if __name__ == "__main__":
    raise SystemExit(main())
