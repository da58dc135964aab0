"""`python tools/doctor.py ...`, the same as `ibkd doctor ...`."""

import sys

from ibkd_mm.cli import main

if __name__ == "__main__":
    sys.exit(main(["doctor", *sys.argv[1:]]))
