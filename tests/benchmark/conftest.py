from helpers.exported_students import *  # noqa: F403
