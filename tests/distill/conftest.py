from helpers.distillation import *  # noqa: F403
