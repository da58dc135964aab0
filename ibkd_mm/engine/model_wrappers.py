"""Reach what mmengine's wrappers of models and optimizers hold."""

from typing import Any

from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from mmengine.runner import Runner
from torch import Tensor, nn


def unwrap_model(model: Any) -> nn.Module:
    """Return the model inside wrappers for several devices or for test-time augmentation."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def optim_wrappers(wrapper: OptimWrapper | OptimWrapperDict) -> list[OptimWrapper]:
    """Return the wrappers of single optimizers: several where parts of a model have their own."""
    return list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]


def gradients(optimizer: Any) -> list[Tensor]:
    """Return the gradients that the next step of the optimizer would use."""
    parameters = (parameter for group in optimizer.param_groups for parameter in group["params"])
    return [parameter.grad for parameter in parameters if parameter.grad is not None]


def is_accumulating(runner: Runner) -> bool:
    """Return whether gradients wait for a later optimizer step; no checkpoint holds them."""
    return not all(wrapper.should_update() for wrapper in optim_wrappers(runner.optim_wrapper))
