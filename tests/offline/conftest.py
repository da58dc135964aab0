from helpers.distillation import *  # noqa: F403
from helpers.teacher_caches import *  # noqa: F403
