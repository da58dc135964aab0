"""Fuse a trained network: smaller and faster, with the same predictions."""

from mmcv.cnn import fuse_conv_bn
from torch import nn

from ibkd_mm.yolov10.blocks import LargeKernelDW


def fuse(model: nn.Module) -> None:
    """Fold norms into convolutions and merge parallel kernels, in place, for evaluation only."""
    model.eval()
    fuse_conv_bn(model)
    for module in model.modules():
        if isinstance(module, LargeKernelDW):
            module.fuse()
