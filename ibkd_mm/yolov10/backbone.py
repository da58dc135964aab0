"""The backbone: from images to feature maps at strides 8, 16 and 32."""

from collections.abc import Sequence
from functools import partial
from typing import Any

from mmengine.model import BaseModule
from torch import Tensor, nn

from ibkd_mm.registry import MODELS
from ibkd_mm.yolov10.attention import PSA
from ibkd_mm.yolov10.blocks import SPPF, SCDown, make_c2f
from ibkd_mm.yolov10.layers import Layers, scaled_channels, scaled_repeats


@MODELS.register_module()
class YOLOv10Backbone(BaseModule):
    """YOLOv10's backbone (https://arxiv.org/abs/2405.14458).

    Args:
        deepen_factor: scale of the number of blocks in a row.
        widen_factor: scale of the number of channels.
        max_channels: maximum number of nominal channels, before scaling.
        compact_stages: the stages, of 1 to 4, made of compact inverted blocks: those whose features the paper
            found redundant, which depends on the model's size.
        large_kernel: whether compact blocks have a 7x7 kernel.
    """

    stem_channels = 64
    stages = ((128, 3), (256, 6), (512, 6), (1024, 3))
    """Nominal channels and blocks of each stage, at strides 4, 8, 16 and 32."""

    def __init__(
        self,
        *,
        deepen_factor: float,
        widen_factor: float,
        max_channels: int,
        compact_stages: Sequence[int],
        large_kernel: bool,
        norm_cfg: dict[str, Any],
        act_cfg: dict[str, Any],
        init_cfg: Any = None,
    ) -> None:
        super().__init__(init_cfg)
        layers = Layers(norm_cfg, act_cfg)
        c2f = partial(make_c2f, layers, shortcut=True, large_kernel=large_kernel)

        def stage(number: int, inputs: int, outputs: int, repeats: int) -> nn.Sequential:
            # at strides 16 and 32, with many channels, size and channels change in separate layers
            shrink = SCDown(layers, inputs, outputs) if number > 2 else layers.conv(inputs, outputs, 3, 2)
            repeats = scaled_repeats(repeats, deepen_factor)
            return nn.Sequential(
                shrink, c2f(outputs, outputs, repeats=repeats, compact=number in compact_stages)
            )

        widths = [self.stem_channels, *(nominal for nominal, _ in self.stages)]
        widths = [scaled_channels(nominal, widen_factor, max_channels) for nominal in widths]
        self.stem = layers.conv(3, widths[0], 3, 2)
        self.stage1, self.stage2, self.stage3, self.stage4 = (
            stage(number, widths[number - 1], widths[number], repeats)
            for number, (_, repeats) in enumerate(self.stages, start=1)
        )
        self.context = nn.Sequential(SPPF(layers, widths[-1]), PSA(layers, widths[-1]))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the feature maps of the last three stages: (B, 3, H, W) -> three of (B, C, H/s, W/s)."""
        fine = self.stage2(self.stage1(self.stem(x)))
        middle = self.stage3(fine)
        return fine, middle, self.context(self.stage4(middle))
