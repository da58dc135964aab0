"""The same as `ibkd report`."""

from ibkd_mm.cli import main

if __name__ == "__main__":
    raise SystemExit(main(command="report"))
