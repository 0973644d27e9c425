"""The command line: python train.py {fit,validate,test,prepare} --help."""

import sys

from cli import main

if __name__ == "__main__":
    sys.exit(main())
