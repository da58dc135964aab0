"""Load the weights that match a model, and describe those that do not."""

from collections import Counter, OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass

from torch import Tensor, nn

from ibkd_mm.engine.model_wrappers import unwrap_model
from ibkd_mm.errors import UserError
from ibkd_mm.stack.internals import copy_state_dict_metadata

_MAX_MODULES = 3


@dataclass(frozen=True)
class Mismatch:
    """The names of weights that a checkpoint or a model lacks, or has in another shape; false without any."""

    missing: list[str]
    unexpected: list[str]
    reshaped: list[str]
    matched: int

    def __bool__(self) -> bool:
        return bool(self.missing or self.unexpected or self.reshaped)

    def __str__(self) -> str:
        kinds = ("missing in the file", "unexpected in the file", "of another shape")
        parts = zip(kinds, (self.missing, self.unexpected, self.reshaped), strict=True)
        lines = [f"  {what}: {len(names)} ({_by_module(names)})" for what, names in parts if names]
        return "\n".join([f"  matched: {self.matched}", *lines, f"  likely cause: {self.likely_cause()}"])

    def likely_cause(self) -> str:
        """Guess the cause: a prefix, another number of classes, or another model."""
        if extra := _common_prefix(self.unexpected, self.missing):
            return f"the names in the file have an additional prefix, '{extra}'"
        if absent := _common_prefix(self.missing, self.unexpected):
            return f"the names in the file have no prefix '{absent}'"
        if self.reshaped and not self.missing and not self.unexpected:
            return "the same architecture with another number of classes or channels"
        return "the checkpoint is of another model than the config's"


def load_matching_weights(model: nn.Module, weights: dict[str, Tensor]) -> Mismatch:
    """Load the weights whose names, without the `module.` of parallel models, and shapes match."""
    model = unwrap_model(model)
    expected = model.state_dict()
    found = {name.removeprefix("module."): value for name, value in weights.items()}
    reshaped = [n for n, value in found.items() if n in expected and expected[n].shape != value.shape]
    skipped = set(reshaped)
    usable = OrderedDict((name, value) for name, value in found.items() if name not in skipped)
    copy_state_dict_metadata(weights, usable)
    result = model.load_state_dict(usable, strict=False)
    skipped |= {name for name in result.missing_keys if name.endswith("num_batches_tracked")}
    missing = [name for name in result.missing_keys if name not in skipped]
    return Mismatch(missing, result.unexpected_keys, reshaped, len(usable) - len(result.unexpected_keys))


def load_all_weights(model: nn.Module, weights: dict[str, Tensor], problem: str) -> None:
    """Load weights; raise UserError with the problem and the differences if any of them does not match."""
    if mismatch := load_matching_weights(model, weights):
        raise UserError(f"{problem}:\n{mismatch}")


def _common_prefix(names: list[str], known: list[str]) -> str | None:
    """Return the prefix without which most of the names are known."""
    known_names, counts = set(known), Counter[str]()
    for name in names:
        parts = name.split(".")
        prefixes = (".".join(parts[:length]) + "." for length in range(1, len(parts)))
        counts.update([prefix for prefix in prefixes if name.removeprefix(prefix) in known_names][:1])
    prefix, count = next(iter(counts.most_common(1)), (None, 0))
    return prefix if 2 * count > min(len(names), len(known)) else None


def _by_module(names: Iterable[str]) -> str:
    counts = Counter(".".join(name.split(".")[:2]) for name in names)
    top = [f"{name} x{count}" if count > 1 else name for name, count in counts.most_common(_MAX_MODULES)]
    return ", ".join([*top, "..."] if len(counts) > _MAX_MODULES else top)
