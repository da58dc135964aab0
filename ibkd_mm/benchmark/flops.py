"""FLOPs of a PyTorch model in one forward pass."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode


class Flops(NamedTuple):
    """Floating-point operations: two for each multiply-add; element-wise operations do not count.

    `weights` are those of convolutions and of products with a weight, which published figures count;
    `products` are those of two activations, as in attention.
    """

    weights: int
    products: int


def count_flops(forward: Callable[[], object]) -> Flops:
    """Run a function once and count its FLOPs."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        forward()
    counts = {str(kind).lower(): count for kind, count in counter.get_flop_counts().get("Global", {}).items()}
    products = sum(count for kind, count in counts.items() if "bmm" in kind or "attention" in kind)
    return Flops(sum(counts.values()) - products, products)
