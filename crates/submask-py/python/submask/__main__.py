"""The program ``submask``, as a console script and as ``python -m submask``."""

from __future__ import annotations

import signal
import sys

from . import _native


def main() -> int:
    """Runs the program with this process's arguments and returns its exit code.

    Ctrl-C is the program's: it ends the process, or a training run with a checkpoint. Wrong arguments, ``--help`` and ``--version`` end
    the process as well.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    return _native.main(["submask", *sys.argv[1:]])


if __name__ == "__main__":
    raise SystemExit(main())
