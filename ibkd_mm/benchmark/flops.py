"""Operations of a PyTorch model in one forward pass."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch.utils.flop_counter import FlopCounterMode


class Flops(NamedTuple):
    """Floating-point operations: two for each multiplication, the second for the addition that follows.

    Published figures are of convolutions and linear layers: `weights`. What is done element by element does
    not count.
    """

    weights: int
    """Of convolutions and of products with a weight."""
    products: int
    """Of products of two activations, as in attention."""


def count_flops(forward: Callable[[], object]) -> Flops:
    """Count while it runs once."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        forward()
    counts = {str(kind).lower(): count for kind, count in counter.get_flop_counts().get("Global", {}).items()}
    products = sum(count for kind, count in counts.items() if "bmm" in kind or "attention" in kind)
    return Flops(sum(counts.values()) - products, products)
