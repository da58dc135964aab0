"""Hardware, package versions and number of threads of a benchmark."""

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import cv2
import torch

from ibkd_mm.engine.replay.file import versions

_CPUINFO = Path("/proc/cpuinfo")


def hardware(device: str) -> str:
    """Name the GPU, or the processor and its number of cores."""
    if device == "cuda":
        return torch.cuda.get_device_name()
    lines = _CPUINFO.read_text().splitlines() if _CPUINFO.is_file() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"


def all_versions() -> dict[str, str]:
    """Return the versions of the packages that may run a model."""
    found = versions()
    for package in ("numpy", "onnxruntime", "onnxruntime-gpu", "openvino"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Set the number of threads of PyTorch and OpenCV inside the block."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
