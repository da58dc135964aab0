"""Measure the speed, size and memory of a teacher cache with synthetic entries.

    python benchmarks/cache.py [--entries 100000] [--instances 6] [--size 160] [--file FILE]

Entries are read in random order, once without and once with their masks, as a loader worker reads them.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from ibkd_mm.offline import CachedInstances, CacheReader, CacheWriter

UNIQUE_ENTRIES = 200
"""Number of different entries; creating them is not timed."""


def make_entry(seed: int, count: int, side: int) -> CachedInstances:
    """Create random ellipses with the probabilities of eight classes."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, side, side), np.uint8)
    for mask in masks:
        centre, axes = rng.integers(0, side, 2).tolist(), rng.integers(side // 16, side // 5, 2).tolist()
        cv2.ellipse(mask, centre, axes, rng.uniform(0, 180), 0, 360, 1, -1)
    probabilities = rng.dirichlet([0.3] * 8, count).astype(np.float32)
    boxes = rng.uniform(0, side, (count, 4)).astype(np.float32)
    return CachedInstances.of(boxes, rng.uniform(0, 1, count).astype(np.float32), probabilities, masks, 5)


def memory_in_mb() -> float:
    """Return the resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--entries", type=int, default=100_000)
    parser.add_argument("--instances", type=int, default=6, help="in an entry")
    parser.add_argument("--size", type=int, default=160, help="height and width of an image")
    parser.add_argument("--file", help="the cache (default: a temporary file)")
    args = parser.parse_args()
    entries = [make_entry(seed, args.instances, args.size) for seed in range(UNIQUE_ENTRIES)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(args.file or Path(folder) / "cache.sqlite")
        start = time.perf_counter()
        with CacheWriter(path, {"synthetic": [args.entries, args.instances, args.size]}) as writer:
            for first in range(0, args.entries, 1000):
                numbers = range(first, min(first + 1000, args.entries))
                writer.write((str(number), entries[number % UNIQUE_ENTRIES]) for number in numbers)
        writing = time.perf_counter() - start
        order = np.random.default_rng(0).permutation(args.entries).tolist()
        memory_before, start = memory_in_mb(), time.perf_counter()
        with CacheReader(path) as reader:
            opening = time.perf_counter() - start
            for kind in ("entries", "with masks"):
                start = time.perf_counter()
                for number in order:
                    found = reader.find(str(number))
                    assert found is not None
                    if kind == "with masks":
                        assert found[1].masks.shape[0] == args.instances
                print(f"read, {kind:10} {args.entries / (time.perf_counter() - start):10,.0f} per second")
        print(f"opened           {opening * 1e3:10.2f} ms")
        print(f"written          {args.entries / writing:10,.0f} per second")
        print(f"memory           {memory_before:10.1f} MB before, {memory_in_mb():.1f} MB after both reads")
        print(f"size             {path.stat().st_size / args.entries:10,.0f} bytes for each entry")


if __name__ == "__main__":
    main()
