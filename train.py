"""Entry point of the command line; see `python train.py --help`."""

import signal
import sys

from harmonicrnn.openmp import wait_briefly

wait_briefly()  # before torch is loaded
signal.signal(signal.SIGINT, signal.SIG_DFL)  # nothing to clean up while libraries are imported

from cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
