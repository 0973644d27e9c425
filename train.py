"""Entry point of the command line; see `python train.py --help`."""

import os
import signal
import sys

# Read when torch is loaded: by default idle threads spin, which makes training many times slower beside other processes.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing to clean up while libraries are imported

from cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
