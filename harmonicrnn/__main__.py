"""`python -m harmonicrnn`: the command line of the library."""

import sys

from harmonicrnn.cli import main

if __name__ == "__main__":
    sys.exit(main())
