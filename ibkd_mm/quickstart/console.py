"""What others would print during a quickstart: kept in a file, but for warnings that the user is to see."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from mmengine.logging import MMLogger

_OURS = str(Path(__file__).parents[2])


class OwnWarnings(logging.Handler):
    """Passes on what this package's own code warns of; other packages warn of what no user can change."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        """Tell it if it is ours."""
        if record.pathname.startswith(_OURS):
            self._tell(record.getMessage())


@contextmanager
def kept_in(file: Path, warn: Callable[[str], None]) -> Iterator[None]:
    """Let nothing be printed, and tell of warnings."""
    logger = MMLogger.get_current_instance()
    former = list(logger.handlers)
    files = [each for each in former if isinstance(each, logging.FileHandler)]
    with file.open("a", buffering=1) as kept, redirect_stdout(kept), redirect_stderr(kept):
        logger.handlers = [*files, logging.StreamHandler(kept), OwnWarnings(warn)]
        try:
            yield
        finally:
            logger.handlers = former
