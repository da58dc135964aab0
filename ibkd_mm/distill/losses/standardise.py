"""Feature maps whose channels have mean 0 and standard deviation 1, and PKD, which compares such."""

import math

import torch
from mmengine.dist import get_world_size
from mmrazor.models.losses import PKDLoss
from torch import Tensor
from torch.distributed.nn.functional import all_reduce

from ibkd_mm.registry import MODELS

_EPS, _TINY = 1e-6, 1e-24


def standardise(x: Tensor) -> Tensor:
    """Standardise every channel over the images and positions of all processes, (N, C, H, W)."""
    x = x.to(torch.promote_types(x.dtype, torch.float32))  # sums of half precision overflow
    if get_world_size() == 1 and x[:, 0].numel() > 1:
        return _in_one_process(x)
    # processes may have feature maps of other sizes
    count = _sum_over_processes(x.new_tensor(x.shape[0] * x.shape[2] * x.shape[3], dtype=torch.float32))
    centred = x - _sum_over_processes(x.sum((0, 2, 3), keepdim=True)) / count
    squares = _sum_over_processes(centred.square().sum((0, 2, 3), keepdim=True))
    # a root has no gradient at 0, where a channel is constant
    variance = (squares / (count - 1).clamp(min=1)).clamp(min=_TINY)
    return centred / (variance.sqrt() + _EPS)


def _in_one_process(x: Tensor) -> Tensor:
    """Standardise by the kernel of a batch norm, which reads the feature map half as often.

    The kernel divides by the deviation over n values; the scale corrects that to n - 1 and adds `_EPS`. It is
    accurate only near 0 and in one memory format, so the feature map is centred and made contiguous first;
    gradients need not know of the centring.
    """
    count = x[:, 0].numel()
    centred = (x - x.detach().sum((0, 2, 3), keepdim=True) / count).contiguous()
    normed, _, inverse = torch.native_batch_norm(centred, None, None, None, None, True, 0.0, _TINY)
    deviation = 1 / inverse.detach()
    scale = deviation / (deviation * math.sqrt(count / (count - 1)) + _EPS)
    return normed * scale[:, None, None]


def _sum_over_processes(sums: Tensor) -> Tensor:
    return sums if get_world_size() == 1 else all_reduce(sums)


@MODELS.register_module()
class SyncedPKDLoss(PKDLoss):
    """mmrazor's `PKDLoss` (https://arxiv.org/abs/2207.02039), independent of the number of processes.

    It standardises each channel over the whole batch, of which a process has only a part.
    """

    def norm(self, feat: Tensor) -> Tensor:
        """Standardise every channel, (N, C, H, W) -> the same shape."""
        return standardise(feat)
