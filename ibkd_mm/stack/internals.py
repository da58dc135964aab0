"""Read and set private attributes of other packages. No module outside `stack` touches one.

Every function has one comment: what is missing upstream, and when the function can be removed.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn


def train_loop_of(runner: Any) -> Any:
    """Return the training loop of a runner; its settings, or None, where it is not built."""
    # `Runner.train_loop` builds a loop that is not built yet. Can go when mmengine can be asked without.
    return runner._train_loop


def is_resuming(runner: Any) -> bool:
    """Return whether a runner resumes a training, and does not only load weights."""
    # `Runner` has no property for its argument `resume`. Can go when mmengine adds one.
    return bool(runner._resume)


def has_rank_seeds(runner: Any) -> bool:
    """Return `randomness.diff_rank_seed` of a runner: whether each process has a seed of its own."""
    # `Runner` has no property for its argument `randomness`. Can go when mmengine adds one.
    return bool(runner._randomness_cfg.get("diff_rank_seed", False))


def drop_loader_iterator(holder: Any) -> None:
    """End the workers of a DataLoader, or of mmengine's iterator over one."""
    # torch offers no way to end persistent workers, and waits five seconds for each that is collected as
    # garbage at exit. Can go when DataLoader has a method to close it.
    holder._iterator = None


def is_compiled(module: nn.Module) -> bool:
    """Return whether `module.compile` was called."""
    # torch has no public question for it. Can go when it has.
    return module._compiled_call_impl is not None


def copy_tensors(targets: list[Tensor], sources: list[Tensor]) -> None:
    """Copy each source, of any shape, into its target: lists of one device and dtype in one call."""
    # torch has no public form of its operators over lists. Can go when it has.
    torch._foreach_copy_(targets, sources)


def lerp_tensors(starts: list[Tensor], ends: list[Tensor], weight: float) -> None:
    """Move every start towards its end in place: start + weight * (end - start)."""
    # As for `copy_tensors`.
    torch._foreach_lerp_(starts, ends, weight)


def state_dict_metadata(state_dict: Mapping[str, Any]) -> dict[str, Any]:
    """Return the versions of modules that torch keeps beside a state dict; empty where there are none."""
    # `load_state_dict` reads this attribute of the dictionary. Can go when torch gives it a public name.
    return getattr(state_dict, "_metadata", {})


def copy_state_dict_metadata(source: Mapping[str, Any], target: Any) -> None:
    """Copy the versions of modules, if there are any, to another state dict."""
    # As for `state_dict_metadata`.
    if metadata := state_dict_metadata(source):
        target._metadata = metadata


class MovesCompanions(nn.Module):
    """A module whose `to`, `half` and so on also act on models that are not its children."""

    def companions(self) -> Iterable[nn.Module]:
        """Return these models."""
        raise NotImplementedError

    def _apply(self, *args: Any, **kwargs: Any) -> Any:
        # All these methods end here. Can go when torch has a public hook for it.
        for companion in self.companions():
            companion._apply(*args, **kwargs)
        return super()._apply(*args, **kwargs)


def config_dict_of(config: Any) -> Any:
    """Return the ConfigDict that a Config wraps, without copying it."""
    # `Config.to_dict` copies, and loses lazy objects. Can go when mmengine gives it a public name.
    return config._cfg_dict


class Normalisation(NamedTuple):
    """What a data preprocessor does to the pixels of a batch."""

    mean: Tensor | None  # (C,), or None if it does not normalise
    std: Tensor | None
    swaps_channels: bool  # whether it turns BGR into RGB or the reverse
    pad_value: float
    pad_divisor: int  # heights and widths are padded to multiples of it


def read_normalisation(preprocessor: nn.Module) -> Normalisation:
    """Read how mmengine's, mmdet's or mmseg's data preprocessor normalises."""
    # None has a public way to ask; can go when one has. mmseg's names differ from mmengine's.
    normalises = getattr(preprocessor, "_enable_normalize", False)
    mean, std = (getattr(preprocessor, name).flatten() if normalises else None for name in ("mean", "std"))
    swaps = any(getattr(preprocessor, name, False) for name in ("_channel_conversion", "channel_conversion"))
    pad_value = float(getattr(preprocessor, "pad_value", getattr(preprocessor, "pad_val", 0)))
    return Normalisation(mean, std, swaps, pad_value, getattr(preprocessor, "pad_size_divisor", None) or 1)
