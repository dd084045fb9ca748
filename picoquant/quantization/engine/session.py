"""Context managers around Paddle: names that start anew in dygraph, and no messages."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator


@contextlib.contextmanager
def dygraph_session() -> Iterator[None]:
    """Within the block Paddle is in dygraph, and its unique names start anew; both are as before on exit."""
    import paddle

    static = not paddle.in_dynamic_mode()
    if static:
        paddle.disable_static()
    try:
        with paddle.utils.unique_name.guard():
            yield
    finally:
        if static:
            paddle.enable_static()


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Suppress all warnings, and the log messages of Paddle and PaddleSlim below errors."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        levels = {logger: logger.level for logger in _paddle_loggers()}
        for logger in levels:
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for logger, level in levels.items():
                logger.setLevel(level)


def _paddle_loggers() -> list[logging.Logger]:
    known = logging.Logger.manager.loggerDict.items()
    return [
        logger
        for name, logger in known
        if isinstance(logger, logging.Logger) and name.split(".")[0] in ("paddle", "paddleslim")
    ]
