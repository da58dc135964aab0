"""Parameter groups, as few as the settings that they differ in."""

from typing import Any

from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from ibkd_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class FewGroupsConstructor(DefaultOptimWrapperConstructor):  # type: ignore[misc]
    """mmengine's constructor, with parameters of equal settings in one group.

    Given a `paramwise_cfg`, mmengine makes a group of every parameter, and an optimizer steps group by
    group: 368 small steps for YOLOv10-N, where two large ones take a sixth of the time.
    """

    def add_params(self, params: list[dict[str, Any]], module: nn.Module, **kwargs: Any) -> None:
        """Add the parameters of a module and of those inside it."""
        super().add_params(params, module, **kwargs)
        if not kwargs.get("prefix"):
            params[:] = merged(params)


def merged(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join groups whose settings are equal, in the order in which these are met first."""
    joined: list[tuple[dict[str, Any], list[Any]]] = []
    for group in groups:
        settings = {name: value for name, value in group.items() if name != "params"}
        alike = next((params for known, params in joined if known == settings), None)
        if alike is None:
            joined.append((settings, alike := []))
        alike.extend(group["params"])
    return [{"params": params, **settings} for settings, params in joined]
