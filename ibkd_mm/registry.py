"""Child registries of mmengine's registries, with scope `ibkd_mm`.

A lookup imports `locations`, which registers everything, so the order of imports does not matter.
"""

from mmengine import registry as _root
from mmengine.registry import Registry


def _child(parent: Registry) -> Registry:
    return Registry(parent.name, parent=parent, scope="ibkd_mm", locations=["ibkd_mm.register_all"])


RUNNERS = _child(_root.RUNNERS)
LOOPS = _child(_root.LOOPS)
HOOKS = _child(_root.HOOKS)
DATASETS = _child(_root.DATASETS)
DATA_SAMPLERS = _child(_root.DATA_SAMPLERS)
TRANSFORMS = _child(_root.TRANSFORMS)
MODELS = _child(_root.MODELS)
MODEL_WRAPPERS = _child(_root.MODEL_WRAPPERS)
OPTIMIZERS = _child(_root.OPTIMIZERS)
OPTIM_WRAPPERS = _child(_root.OPTIM_WRAPPERS)
OPTIM_WRAPPER_CONSTRUCTORS = _child(_root.OPTIM_WRAPPER_CONSTRUCTORS)
PARAM_SCHEDULERS = _child(_root.PARAM_SCHEDULERS)
METRICS = _child(_root.METRICS)
EVALUATOR = _child(_root.EVALUATOR)
TASK_UTILS = _child(_root.TASK_UTILS)
VISUALIZERS = _child(_root.VISUALIZERS)
VISBACKENDS = _child(_root.VISBACKENDS)
LOG_PROCESSORS = _child(_root.LOG_PROCESSORS)
