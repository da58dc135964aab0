from helpers.toy_training import *  # noqa: F403
