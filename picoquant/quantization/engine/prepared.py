"""A static graph made ready once, and run by several threads, each with memory of its own.

Paddle's `Executor` makes a graph ready for each thread anew, and builds an object of Python for each of its operators
three times on the way: of a network with its gradients that takes ten times as long as computing an image. What is done
here is the same: operators that feed and fetch, results written over what is no longer read, an interpreter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import paddle
from paddle.base import core

_FEED, _FETCH = "feed", "fetch"
_INPLACE = "buffer_shared_inplace_pass"

Feed = Mapping[str, np.ndarray]


class PreparedGraph:
    """A program of Paddle 2.6.

    Args:
        program: it is changed, and not to be used afterwards.
        fed, fetched: names of its tensors.
    """

    def __init__(self, program: Any, fed: Sequence[str], fetched: Sequence[str]) -> None:
        self._fed, kinds = tuple(fed), core.VarDesc.VarType
        block = program.desc.block(0)
        for name, kind in ((_FEED, kinds.FEED_MINIBATCH), (_FETCH, kinds.FETCH_LIST)):
            variable = block.var(name.encode())
            variable.set_type(kind)
            variable.set_persistable(True)
        for column, name in enumerate(fed):
            _written(block._prepend_op(), "feed", _FEED, name, column)
        for column, name in enumerate(fetched):
            _written(block.append_op(), "fetch_v2", name, _FETCH, column)
        attributes = {"use_cuda": False, "mem_opt_skip_vars": [*fed, *fetched]}
        kinds_of = {"use_cuda": "bool", "mem_opt_skip_vars": "list[str]"}
        core.apply_pass(program.desc, paddle.static.Program().desc, _INPLACE, attributes, kinds_of)
        self._program = program  # holds what the plan points at
        self._plan = core.Plan([core.Job("default")], {"default": program.desc})

    def runner(self, values: Mapping[str, np.ndarray]) -> Callable[[Feed], list[Any]]:
        """What runs it, for one thread at a time; not to be asked for by two threads at once, nor run first.

        Args:
            values: of what is stored, by name.

        Returns: a function of arrays by name that returns Paddle's tensors, in the order of `fetched`.
        """
        scope, place = paddle.static.Scope(), core.Place()
        place.set_place(paddle.CPUPlace())
        for name, value in values.items():
            scope.var(name).get_tensor().set(value, paddle.CPUPlace())
        executor = core.StandaloneExecutor(place, self._plan, scope)

        def run(feed: Feed) -> list[Any]:
            for column, name in enumerate(self._fed):
                tensor = core.LoDTensor()
                tensor.set(feed[name], paddle.CPUPlace())
                core.set_feed_variable(scope, tensor, _FEED, column)
            return executor.run(list(self._fed), False)._move_to_list()

        return run


def _written(op: Any, kind: str, read: str, result: str, column: int) -> None:
    """Write an operator that moves a tensor from or to a column of what is fed or fetched."""
    op.set_type(kind)
    op.set_input("X", [read])
    op.set_output("Out", [result])
    op._set_attr("col", column)
    op.check_attrs()
