"""`python tools/publish.py ...`, the same as `ibkd publish ...`."""

import sys

from ibkd_mm.cli import main

if __name__ == "__main__":
    sys.exit(main(["publish", *sys.argv[1:]]))
