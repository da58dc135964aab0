from helpers.tiny_config import *  # noqa: F403
