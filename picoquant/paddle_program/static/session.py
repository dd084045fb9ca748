"""Context managers around Paddle: static programs with a scope of their own, dygraph within them, no messages."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def static_session() -> Iterator[Any]:
    """Enter static mode with an empty scope; on exit, the previous mode and the unique names are restored.

    Yields: the `paddle.static.Scope` that holds every variable created inside.
    """
    import paddle

    dynamic = paddle.in_dynamic_mode()
    scope = paddle.static.Scope()
    paddle.enable_static()
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(paddle.static.scope_guard(scope))
            programs = paddle.static.Program(), paddle.static.Program()
            stack.enter_context(paddle.static.program_guard(*programs))
            stack.enter_context(paddle.utils.unique_name.guard())
            yield scope
    finally:
        if dynamic:
            paddle.disable_static()


@contextlib.contextmanager
def dynamic_mode() -> Iterator[None]:
    """Leave static mode within the block."""
    import paddle

    if paddle.in_dynamic_mode():
        yield
        return
    paddle.disable_static()
    try:
        yield
    finally:
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
