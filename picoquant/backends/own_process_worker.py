"""The runtime's side of `own_process.py`: `utils/serve.py` runs this file in a process of its own."""

from __future__ import annotations

import importlib
import time
import traceback
from collections.abc import Mapping
from typing import Any, Callable

import numpy as np

from picoquant.backends.base import Tensors
from picoquant.errors import ToolError, UserError


class Runner:
    """Holds the predictor; its methods are what the parent may ask for."""

    def open(self, name: str, *arguments: Any) -> tuple[Tensors, Tensors]:
        """Make a predictor, `module:class`; its inputs and outputs."""
        module, _, cls = name.partition(":")
        self._predict = getattr(importlib.import_module(module), cls)(*arguments)
        return self._predict.inputs, self._predict.outputs

    def run(self, feed: Mapping[str, np.ndarray]) -> tuple[float, float, list[np.ndarray]]:
        """Seconds by the clock, CPU seconds of all threads, and the outputs."""
        began, used = time.perf_counter(), time.process_time()
        outputs = self._predict(feed)
        return time.perf_counter() - began, time.process_time() - used, outputs


def answerer() -> Callable[[tuple], tuple[Any, Any]]:
    """What answers `(method, *arguments)` with an error or a traceback, or nothing, and the result."""
    runner = Runner()

    def answer(question: tuple) -> tuple[Any, Any]:
        what, *arguments = question
        try:
            return None, getattr(runner, what)(*arguments)
        except UserError as error:  # the runtime's own word
            return error, None
        except ImportError as error:  # a package that is there and damaged, or lacks a library
            return ToolError(f"the package cannot be loaded ({error}): install it again"), None
        except Exception:  # a failure of ours, which the parent raises
            return traceback.format_exc(), None

    return answer
