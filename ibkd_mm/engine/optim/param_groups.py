"""Parameter groups, as few as the settings that they differ in."""

import logging
from typing import Any

from mmengine.logging import MMLogger
from mmengine.optim import DefaultOptimWrapperConstructor
from torch import nn

from ibkd_mm.registry import OPTIM_WRAPPER_CONSTRUCTORS

FEW_GROUPS = {"constructor": "ibkd_mm.FewGroupsConstructor"}
"""What an `optim_wrapper` without a constructor has in ours."""


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class FewGroupsConstructor(DefaultOptimWrapperConstructor):  # type: ignore[misc]
    """mmengine's constructor, with parameters of equal settings in one group.

    Given a `paramwise_cfg`, mmengine makes a group of every parameter, and an optimizer steps group by
    group: 368 small steps for YOLOv10-N, where two large ones do. It also logs a line
    for every parameter, where a group's is enough.
    """

    def add_params(self, params: list[dict[str, Any]], module: nn.Module, **kwargs: Any) -> None:
        """Add the parameters of a module and of those inside it."""
        if kwargs.get("prefix"):
            super().add_params(params, module, **kwargs)
            return
        logger = MMLogger.get_current_instance()
        level = logger.level
        logger.setLevel(max(level, logging.WARNING))
        try:
            super().add_params(params, module, **kwargs)
        finally:
            logger.setLevel(level)
        params[:] = merge_groups(params)
        for group in params:
            settings = {name: value for name, value in group.items() if name != "params"}
            logger.info(
                f"paramwise_cfg: {len(group['params'])} parameters have {settings or 'no other settings'}"
            )


def merge_groups(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Join groups whose settings are equal, in the order in which these are met first.

    A parameter that two modules share stands in a group once, or it would be stepped twice.
    """
    joined: list[tuple[dict[str, Any], list[Any]]] = []
    for group in groups:
        settings = {name: value for name, value in group.items() if name != "params"}
        alike = next((params for known, params in joined if known == settings), None)
        if alike is None:
            joined.append((settings, alike := []))
        alike.extend(one for one in group["params"] if not any(one is known for known in alike))
    return [{"params": params, **settings} for settings, params in joined]
