"""The command line: python train.py --help."""

import signal
import sys

signal.signal(signal.SIGINT, signal.SIG_DFL)  # while the libraries are being imported nothing needs to be cleaned up

from cli import main  # noqa: E402

if __name__ == "__main__":
    sys.exit(main())
