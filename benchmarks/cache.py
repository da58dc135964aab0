"""How fast a teacher's cache is read, how large it is, and what memory reading takes, with synthetic entries.

    python benchmarks/cache.py [--entries 100000] [--instances 6] [--size 160] [--file FILE]

Entries are read in random order, each with its masks, as a loader's process would read them.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from ibkd_mm.offline import CachedInstances, CacheReader, CacheWriter

DRAWN = 200
"""Different entries: drawing them is not what is timed."""


def drawn(seed: int, count: int, side: int) -> CachedInstances:
    """Draw ellipses with the probabilities of eight classes."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, side, side), np.uint8)
    for mask in masks:
        centre, axes = rng.integers(0, side, 2).tolist(), rng.integers(side // 16, side // 5, 2).tolist()
        cv2.ellipse(mask, centre, axes, rng.uniform(0, 180), 0, 360, 1, -1)
    odds = rng.dirichlet([0.3] * 8, count).astype(np.float32)
    boxes = rng.uniform(0, side, (count, 4)).astype(np.float32)
    return CachedInstances.of(boxes, rng.uniform(0, 1, count).astype(np.float32), odds, masks, 5)


def megabytes() -> float:
    """Return what this process holds in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--instances", type=int, default=6)
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--file", help="where to write; else a temporary one")
    args = parser.parse_args()
    entries = [drawn(seed, args.instances, args.size) for seed in range(DRAWN)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(args.file or Path(folder) / "cache.sqlite")
        began = time.perf_counter()
        with CacheWriter(path, {"synthetic": [args.entries, args.instances, args.size]}) as writer:
            for start in range(0, args.entries, 1000):
                numbers = range(start, min(start + 1000, args.entries))
                writer.write((str(number), entries[number % DRAWN]) for number in numbers)
        wrote = time.perf_counter() - began
        order = np.random.default_rng(0).permutation(args.entries).tolist()
        before, began = megabytes(), time.perf_counter()
        with CacheReader(path) as reader:
            opened = time.perf_counter() - began
            for kind in ("entries", "with masks"):
                began = time.perf_counter()
                for number in order:
                    found = reader.find(str(number))
                    assert found is not None
                    if kind == "with masks":
                        assert found[1].masks.shape[0] == args.instances
                print(f"read, {kind:10} {args.entries / (time.perf_counter() - began):10,.0f} a second")
        print(f"opened           {opened * 1e3:10.2f} ms")
        print(f"written          {args.entries / wrote:10,.0f} a second")
        print(f"memory           {before:10.1f} MB before, {megabytes():.1f} MB after reading all twice")
        print(f"size             {path.stat().st_size / args.entries:10,.0f} bytes an entry")


if __name__ == "__main__":
    main()
