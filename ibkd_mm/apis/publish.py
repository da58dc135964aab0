"""The call behind `ibkd publish`."""

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save

from ibkd_mm.engine import load_weights
from ibkd_mm.engine.checkpoint.load import checkpoint_classes, safetensors_metadata
from ibkd_mm.errors import UserError
from ibkd_mm.utils.atomic import atomic_write


@dataclass(frozen=True)
class Published:
    """A published file of weights."""

    path: Path
    tensors: int
    parameters: int

    def __str__(self) -> str:
        sizes = f"{self.parameters / 1e6:.2f} M values, {self.path.stat().st_size / 1e6:.1f} MB"
        return f"Wrote {self.path}: {self.tensors} tensors, {sizes}"


def publish(checkpoint: str, out: str, *, half: bool = True) -> Published:
    """Write a checkpoint's weights, without optimizer and history, as safetensors.

    The class names are kept: a distillation compares its teacher's classes with the dataset's.

    Args:
        checkpoint: as for `test`.
        out: the file to write, ending in .safetensors; one that exists is not overwritten.
        half: store floating-point weights in half precision.
    """
    path = Path(out)
    if path.suffix != ".safetensors":
        raise UserError(f"Expected an output ending in .safetensors, found {out}.")
    if path.exists():
        raise UserError(f"{out} exists. Choose another name, or delete it first.")
    loaded = load_weights(checkpoint)
    weights = {name: _to_stored(value, half) for name, value in loaded["state_dict"].items()}
    wrong = [name for name, value in weights.items() if not torch.isfinite(value).all()]
    if wrong:
        raise UserError(
            f"{checkpoint} has weights that are not finite in the chosen precision: {', '.join(wrong[:3])}"
            f"{' ...' if len(wrong) > 3 else ''}. Publish with --full-precision, or look into the training."
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_write(path) as partial:
        # save_file would make it readable to its owner alone
        partial.write_bytes(save(weights, safetensors_metadata(checkpoint_classes(loaded))))
    return Published(path, len(weights), sum(value.numel() for value in weights.values()))


def _to_stored(value: torch.Tensor, half: bool) -> torch.Tensor:
    value = value.detach().cpu().contiguous().clone()  # safetensors refuses tensors that share memory
    return value.half() if half and value.is_floating_point() else value
