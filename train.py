"""The command line: python train.py --help."""

import os
import signal
import sys

# Read when torch is loaded: otherwise threads that wait for work hold their processors, and beside others training is many times slower.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
signal.signal(signal.SIGINT, signal.SIG_DFL)  # while the libraries are being imported nothing needs to be cleaned up

from cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
