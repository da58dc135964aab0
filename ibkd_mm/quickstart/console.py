"""Output of other packages during a quickstart: written to a file, except for warnings of this package."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path

from mmengine.logging import MMLogger

_PACKAGE = str(Path(__file__).parents[1])


class PackageWarnings(logging.Handler):
    """Pass on warnings that this package logs; users can do nothing about those of other packages."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._warn = warn

    def emit(self, record: logging.LogRecord) -> None:
        """Pass on a warning of this package."""
        if record.pathname.startswith(_PACKAGE):
            self._warn(record.getMessage())


@contextmanager
def redirect_output(file: Path, warn: Callable[[str], None]) -> Iterator[None]:
    """Append everything that is printed or logged to a file; pass warnings of this package to `warn`."""
    logger = MMLogger.get_current_instance()
    former = list(logger.handlers)
    to_files = [handler for handler in former if isinstance(handler, logging.FileHandler)]
    with file.open("a", buffering=1) as output, redirect_stdout(output), redirect_stderr(output):
        logger.handlers = [*to_files, logging.StreamHandler(output), PackageWarnings(warn)]
        try:
            yield
        finally:
            logger.handlers = former
