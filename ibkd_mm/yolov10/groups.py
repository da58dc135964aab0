"""Operations on groups of different sizes, without loops over the groups."""

import torch
from torch import Tensor


def rank_within(groups: Tensor, values: Tensor) -> Tensor:
    """Rank each element within its group by value, the highest first: (N,), (N,) -> (N,).

    Of equal values the earlier comes first.
    """
    order = values.argsort(descending=True, stable=True)
    order = order[groups[order].argsort(stable=True)]
    ordered = groups[order]
    position = torch.arange(len(order), device=order.device)
    begins = torch.ones_like(ordered, dtype=torch.bool)
    begins[1:] = ordered[1:] != ordered[:-1]
    start = torch.where(begins, position, 0).cummax(0).values
    return torch.empty_like(order).index_put((order,), position - start)


class ByImage:
    """Converts (N, ...) rows of images into (B, S, ...) and back; S is the largest number of rows of one."""

    def __init__(self, image: Tensor, batch: int) -> None:
        self.image, self.batch = image, batch
        self.slot = rank_within(image, torch.zeros_like(image))
        self.size = int(torch.bincount(image, minlength=batch).max())

    def pad(self, rows: Tensor) -> Tensor:
        """Pad with zeros, (N, ...) -> (B, S, ...)."""
        padded = rows.new_zeros(self.batch, self.size, *rows.shape[1:])
        return padded.index_put((self.image, self.slot), rows)

    def unpad(self, padded: Tensor) -> Tensor:
        """Remove the padding, (B, S, ...) -> (N, ...)."""
        return padded[self.image, self.slot]
