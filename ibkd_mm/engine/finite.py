"""Whether numbers are finite, asked of many tensors with one wait for the device; and then which are not."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from torch import Tensor, inf, nn
from torch.nn.utils import get_total_norm

_SHOWN = 3


def loss_terms(losses: Mapping[str, Any]) -> dict[str, Tensor]:
    """Reduce a model's losses to a number each, as mmengine's `parse_losses` does before it sums them.

    What has no 'loss' in its name, such as an accuracy, is logged only and left out here as there.
    """
    terms = {}
    for name, value in losses.items():
        parts = [value] if isinstance(value, Tensor) else value
        if "loss" in name and parts:
            terms[name] = sum((_mean(part) for part in parts[1:]), start=_mean(parts[0]))
    return terms


def _mean(value: Tensor) -> Tensor:
    return value if value.ndim == 0 else value.mean()


def all_finite(tensors: Iterable[Tensor]) -> bool:
    """Tell whether every number of the tensors is finite."""
    filled = [one for one in tensors if one.numel()]
    # The sum of squares takes a thirtieth of the time, on a CPU, of looking for the largest number. It
    # overflows before the numbers do, so where it is not finite they are looked at themselves.
    return any(bool(get_total_norm(filled, order).isfinite()) for order in (2.0, inf))


def non_finite_terms(terms: Mapping[str, Tensor]) -> list[str]:
    """Name the loss terms that are not finite, with their values."""
    return [f"{name} is {float(value)}" for name, value in terms.items() if not value.isfinite()]


def non_finite_modules(model: nn.Module, statistics: Mapping[str, Tensor]) -> list[str]:
    """Name the modules whose gradient is not finite, and those whose statistics are not."""
    gradients = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    found = [
        ("the gradient of", non_finite_owners(gradients)),
        ("the statistics of", non_finite_owners(statistics)),
    ]
    named = [f"{what} {join_first(modules)} is not finite" for what, modules in found if modules]
    return named or ["a gradient is not finite, of a parameter that is not the model's"]


def non_finite_owners(tensors: Mapping[str, Tensor]) -> list[str]:
    """Name the modules, in the given order, that own a tensor which is not finite."""
    wrong = [name.rpartition(".")[0] or name for name, value in tensors.items() if not all_finite([value])]
    return list(dict.fromkeys(wrong))


def join_first(names: Sequence[str]) -> str:
    """Name the first few and count the rest."""
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
