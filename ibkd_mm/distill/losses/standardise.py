"""Maps on a common scale."""

import math

import torch
from mmengine.dist import get_world_size
from torch import Tensor
from torch.distributed.nn.functional import all_reduce

_EPS, _TINY = 1e-6, 1e-24


def standardised(x: Tensor) -> Tensor:
    """Give every channel mean 0 and deviation 1 over pictures and places, of all processes: (N, C, H, W)."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))  # sums of half precision overflow
    if get_world_size() == 1 and x[:, 0].numel() > 1:
        return _of_one_process(x)
    # processes may have maps of other sizes
    places = _over_processes(x.new_tensor(x.shape[0] * x.shape[2] * x.shape[3], dtype=torch.float32))
    centred = x - _over_processes(x.sum((0, 2, 3), keepdim=True)) / places
    squares = _over_processes(centred.square().sum((0, 2, 3), keepdim=True))
    # a root has no slope at 0, where a channel is the same everywhere
    variance = (squares / (places - 1).clamp(min=1)).clamp(min=_TINY)
    return centred / (variance.sqrt() + _EPS)


def _of_one_process(x: Tensor) -> Tensor:
    """Standardise by the kernel of a batch norm, which goes through a map half as often.

    It divides by the deviation over all n places; the scale makes that the one over n - 1, and `_EPS` more.
    It is exact near 0 alone, and in one layout: maps are centred first, which no gradient need know of.
    """
    places = x[:, 0].numel()
    centred = (x - x.detach().sum((0, 2, 3), keepdim=True) / places).contiguous()
    normed, _, inverse = torch.native_batch_norm(centred, None, None, None, None, True, 0.0, _TINY)
    over_all = 1 / inverse.detach()
    scale = over_all / (over_all * math.sqrt(places / (places - 1)) + _EPS)
    return normed * scale[:, None, None]


def _over_processes(sums: Tensor) -> Tensor:
    return sums if get_world_size() == 1 else all_reduce(sums)
