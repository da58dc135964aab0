"""How far something long has come, on one line."""

import sys
import time
from datetime import timedelta


class Progress:
    """How many bytes have come: one line on a terminal, renewed a few times a second; elsewhere nothing."""

    def __init__(self, name: str, have: int, size: int) -> None:
        self.name, self.have, self.size = name, have, size
        self.came, self.started, self.shown = 0, time.monotonic(), 0.0
        self.wanted = sys.stderr.isatty()

    def show(self, came: int) -> None:
        """Count what came, and renew the line if it is time."""
        self.came += came
        now = time.monotonic()
        if self.wanted and now - self.shown > 0.2:
            self.shown = now
            print(f"\r{self.line(now - self.started)}\x1b[K", end="", file=sys.stderr, flush=True)

    def line(self, seconds: float) -> str:
        """Say how much there is after so many seconds, how fast it comes, and how long it will take."""
        done, speed = self.have + self.came, self.came / max(seconds, 1e-3)
        if not self.size:
            return f"{self.name}  {done / 1e6:.1f} MB  {speed / 1e6:.1f} MB/s"
        left = timedelta(seconds=round((self.size - done) / max(speed, 1)))
        return (
            f"{self.name}  {done / self.size:.0%}  {done / 1e6:.1f} of {self.size / 1e6:.1f} MB  "
            f"{speed / 1e6:.1f} MB/s  {left} left"
        )

    def end(self) -> None:
        """Leave the line as it is."""
        if self.wanted and self.shown:
            print(file=sys.stderr)
