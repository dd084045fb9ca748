"""Paddle's static programs, as the reference that what we compute is held against."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle.base.proto import framework_pb2

from picoquant.paddle_program.graph import Graph, read_graph
from picoquant.paddle_program.model_folder import MODEL
from picoquant.utils.paddle_version.tracing import older_programs


@contextlib.contextmanager
def static_session() -> Iterator[Any]:
    """Static mode with an empty scope, which is given; on exit dygraph and the unique names are as before."""
    scope = paddle.static.Scope()
    paddle.enable_static()
    try:
        with contextlib.ExitStack() as stack:
            stack.enter_context(paddle.static.scope_guard(scope))
            programs = paddle.static.Program(), paddle.static.Program()
            stack.enter_context(paddle.static.program_guard(*programs))
            stack.enter_context(older_programs())
            stack.enter_context(paddle.utils.unique_name.guard())
            yield scope
    finally:
        paddle.disable_static()


def graph_of(program: Any, feeds: Sequence[str], fetches: Sequence[str] = ()) -> Graph:
    """The graph of a `paddle.static.Program` with these inputs and outputs."""
    message = framework_pb2.ProgramDesc.FromString(program.desc.serialize_to_string())
    graph = read_graph(message)
    return Graph(graph.operators, graph.tensors, tuple(feeds), tuple(fetches))


def read_variable(scope: Any, name: str) -> np.ndarray:
    """A copy of the value of a variable in a scope."""
    return np.array(scope.find_var(name).get_tensor())


def write_variable(scope: Any, name: str, value: np.ndarray) -> None:
    """Set the value of a variable in a scope; the variable is created if it does not exist."""
    scope.var(name).get_tensor().set(np.ascontiguousarray(value), paddle.CPUPlace())


def run_folder(folder: Path, feed: dict) -> list:
    """The outputs of a model folder, run by Paddle's executor."""
    with static_session():
        executor = paddle.static.Executor(paddle.CPUPlace())
        program, names, fetches = paddle.static.load_inference_model(
            str((folder / MODEL).with_suffix("")), executor
        )
        return executor.run(program, feed={name: feed[name] for name in names}, fetch_list=fetches)
