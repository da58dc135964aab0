"""Check whether tensors are finite, and find the loss terms and modules that are not."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, inf, nn
from torch.nn.utils import get_total_norm

_MAX_NAMES = 3


def loss_terms(losses: Mapping[str, Any]) -> dict[str, Tensor]:
    """Reduce every loss of a model to a scalar, as mmengine's `parse_losses` does before it adds them up.

    Values without 'loss' in their names, such as an accuracy, are only logged, so they are left out.
    """
    terms = {}
    for name, value in losses.items():
        parts = [value] if isinstance(value, Tensor) else value
        if "loss" in name and parts:
            means = [part if part.ndim == 0 else part.mean() for part in parts]
            terms[name] = sum(means[1:], start=means[0])
    return terms


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Return whether every number of all tensors is finite, with one wait for the device."""
    filled = [tensor for tensor in tensors if tensor.numel()]
    # On a CPU the sum of squares takes a thirtieth of the time of the maximum. It overflows earlier than the
    # numbers do, so the maximum decides where the sum is not finite.
    return any(bool(get_total_norm(filled, order).isfinite()) for order in (2.0, inf))


def non_finite_terms(terms: Mapping[str, Tensor]) -> list[str]:
    """Return the loss terms that are not finite, as 'NAME is VALUE'."""
    return [f"{name} is {float(value)}" for name, value in terms.items() if not value.isfinite()]


def non_finite_modules(model: nn.Module, statistics: Mapping[str, Tensor]) -> list[str]:
    """Describe the modules whose gradients or statistics are not finite."""
    grads = {name: weight.grad for name, weight in model.named_parameters() if weight.grad is not None}
    found = [("gradient", non_finite_owners(grads)), ("statistics", non_finite_owners(statistics))]
    lines = [f"the {what} of {join_first(modules)} is not finite" for what, modules in found if modules]
    return lines or ["a gradient is not finite, of a parameter that is not the model's"]


def non_finite_owners(tensors: Mapping[str, Tensor]) -> list[str]:
    """Return the modules, in the order of `tensors`, that own a tensor which is not finite."""
    names = [name.rpartition(".")[0] or name for name, value in tensors.items() if not all_finite([value])]
    return list(dict.fromkeys(names))


def join_first(names: Sequence[str]) -> str:
    """Join the first three names and count the rest."""
    more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
    return ", ".join(names[:_MAX_NAMES]) + more
