"""What `ibkd cache` shows of a cache."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ibkd_mm.offline.store import CacheReader
from ibkd_mm.offline.verify import Verified


@dataclass(frozen=True)
class CacheInfo:
    """Content of a cache."""

    path: Path
    images: int
    predictions: int
    identity: dict[str, Any]
    verified: Verified | None = None

    @property
    def exit_code(self) -> int:
        """1 if new predictions differ from the cached ones."""
        return int(self.verified is not None and not self.verified.same)

    def __str__(self) -> str:
        size = self.path.stat().st_size
        mean = f", {size / self.images / 1024:.2f} KB an image" if self.images else ""
        amounts = f"{self.images:,} images, {self.predictions:,} predictions, {size / 2**20:.1f} MB{mean}"
        lines = [f"{self.path}: {amounts}", *(f"  {name}: {value}" for name, value in self.identity.items())]
        return "\n".join([*lines, *([str(self.verified)] if self.verified else [])])


def cache_info(path: str | Path) -> CacheInfo:
    """Describe the content of a cache."""
    with CacheReader(path) as reader:
        return CacheInfo(Path(path), *reader.counts(), reader.identity)
