"""What stands inside mmengine's wrappers of models and of optimizers."""

from typing import Any

from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.optim import OptimWrapper, OptimWrapperDict
from torch import Tensor, nn


def unwrap_model(model: Any) -> nn.Module:
    """The model itself, without what runs it on several devices or on several views of a picture."""
    while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
        model = model.module
    return model


def optim_wrappers(wrapper: OptimWrapper | OptimWrapperDict) -> list[OptimWrapper]:
    """The wrappers of single optimizers: several where a model's parts have their own."""
    return list(wrapper.values()) if isinstance(wrapper, OptimWrapperDict) else [wrapper]


def gradients(optimizer: Any) -> list[Tensor]:
    """The gradients that the optimizer's next step would use."""
    parameters = (one for group in optimizer.param_groups for one in group["params"])
    return [one.grad for one in parameters if one.grad is not None]
