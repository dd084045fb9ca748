"""Traced graphs whose batch norms are over the images of all processes.

Paddle's kernels compute everything of the images' size; what one process tells the others, a few values a channel, is
sent from within the graph by operators `py_func`. They run in the order of the graph, which is the same in all
processes, because operators run one at a time (`fast.tuned_cpu`).
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from paddle.base import core
from paddle.static import Program

from picoquant.training.graphs.rewrite import Rewrite
from picoquant.training.joint_batch_norm.statistics import (
    Own,
    Processes,
    Sides,
    joint_gradients,
    joint_statistics,
    values_a_channel,
)

_FORWARD, _BACKWARD = 0, 1  # roles of operators
_CHANNELS = {"axis": 1}


class JointRewrite(Rewrite):
    """As `Rewrite`; batch norms in training mode take the statistics of all processes.

    Args:
        group: all processes.
    """

    def __init__(self, group: Processes) -> None:
        self._group = group

    def after_append_backward(self, program: Program, start: int) -> tuple[Program, int]:
        program, start = super().after_append_backward(program, start)
        block = program.global_block()
        ours = [
            operator
            for operator in block.ops
            if operator.type.startswith("batch_norm")
            and not (operator.attr("is_test") or operator.attr("use_global_stats"))
        ]
        added = 0
        for operator in ours:
            if operator.type == "batch_norm":
                added += _join_statistics(block, operator, self._group)
            elif operator.type == "batch_norm_grad":
                _join_gradients(block, operator, self._group)
        return program, start + added


def _join_statistics(block: Any, operator: Any, group: Processes) -> int:
    """Normalise by the statistics of all processes; the number of operators that were added.

    The operator is left to find those of this process, and its result is not used.
    """
    mean, variance = operator.input("Mean")[0], operator.input("Variance")[0]
    saved_mean, saved_inverse = operator.output("SavedMean")[0], operator.output("SavedVariance")[0]
    x, y = operator.input("X")[0], operator.output("Y")[0]
    epsilon, momentum = operator.attr("epsilon"), operator.attr("momentum")
    add = _Inserter(block, block.ops.index(operator), _FORWARD, group)
    # Its running statistics would be this process's own: it works on copies.
    for name, given, result in ((mean, "Mean", "MeanOut"), (variance, "Variance", "VarianceOut")):
        copy = add.variable(name, "own")
        add("assign", {"X": [name]}, {"Out": [copy]})
        operator.desc.set_input(given, [copy])
        operator.desc.set_output(result, [copy])
    own_mean, own_inverse = add.variable(saved_mean, "own"), add.variable(saved_inverse, "own")
    operator.desc.set_output("SavedMean", [own_mean])
    operator.desc.set_output("SavedVariance", [own_inverse])
    operator.desc.set_output("Y", [add.variable(y, "own")])
    add.at = block.ops.index(operator) + 1
    joint_variance = add.variable(variance, "joint")
    moved = {name: add.variable(name, "moved") for name in (mean, variance)}

    def joined(
        values: np.ndarray,
        own_mean: np.ndarray,
        own_inverse: np.ndarray,
        running_mean: np.ndarray,
        running_variance: np.ndarray,
    ) -> tuple[np.ndarray, ...]:
        own = 1 / own_inverse**2 - epsilon
        (joint,) = joint_statistics(group, [Own(own_mean, own.clip(0), values_a_channel(values))])
        inverse = 1 / np.sqrt(joint.variance + epsilon)
        running = [
            momentum * old + (1 - momentum) * new
            for old, new in ((running_mean, joint.mean), (running_variance, joint.variance))
        ]
        return joint.mean, inverse, joint.variance, *running

    add.call(
        joined,
        [add.shape_of(x), own_mean, own_inverse, mean, variance],
        [saved_mean, saved_inverse, joint_variance, *moved.values()],
    )
    for name, result in moved.items():  # a result of `py_func` itself would not reach the layer's buffer
        add("assign", {"X": [result]}, {"Out": [name]})
    unused = {name: [add.variable(y, name)] for name in ("SavedMean", "SavedVariance", "ReserveSpace")}
    add(
        "batch_norm",
        {
            "X": [x],
            "Scale": operator.input("Scale"),
            "Bias": operator.input("Bias"),
            "Mean": [saved_mean],
            "Variance": [joint_variance],
        },
        {"Y": [y], "MeanOut": [saved_mean], "VarianceOut": [joint_variance], **unused},
        {
            "is_test": True,
            "use_global_stats": True,
            "epsilon": epsilon,
            "momentum": momentum,
            "data_layout": operator.attr("data_layout"),
        },
    )
    return add.count


def _join_gradients(block: Any, operator: Any, group: Processes) -> None:
    """Let the gradient of the input lose what it does by way of the statistics of all processes.

    With their mean and variance saved, the operator computes gradients of scale and bias as they should be, and that of
    the input as if the sums over this process's values were those of all; the difference is linear in the input.
    """
    x, of_x = operator.input("X")[0], operator.output("X@GRAD")[0]
    add = _Inserter(block, block.ops.index(operator) + 1, _BACKWARD, group)
    own = add.variable(of_x, "own")
    operator.desc.set_output("X@GRAD", [own])
    scale = operator.input("Scale")[0]
    slope, level = add.variable(of_x, "slope"), add.variable(of_x, "level")

    def joined(
        values: np.ndarray,
        of_scale: np.ndarray,
        of_bias: np.ndarray,
        scale: np.ndarray,
        mean: np.ndarray,
        inverse: np.ndarray,
    ) -> tuple[np.ndarray, ...]:
        count = values_a_channel(values)
        ((along, height, _),) = joint_gradients(group, [Sides(of_scale, of_bias, count)])
        factor = scale * inverse
        slope = factor * inverse * (of_scale / count - along)
        return slope, factor * (of_bias / count - height) - slope * mean

    saved = [operator.input(name)[0] for name in ("SavedMean", "SavedVariance")]
    of_parameters = [operator.output(name)[0] for name in ("Scale@GRAD", "Bias@GRAD")]
    add.call(joined, [add.shape_of(x), *of_parameters, scale, *saved], [slope, level])
    tilted, lifted = add.variable(of_x, "tilted"), add.variable(of_x, "lifted")
    add("elementwise_mul", {"X": [x], "Y": [slope]}, {"Out": [tilted]}, _CHANNELS)
    add("elementwise_add", {"X": [tilted], "Y": [level]}, {"Out": [lifted]}, _CHANNELS)
    add("elementwise_add", {"X": [own], "Y": [lifted]}, {"Out": [of_x]}, {"axis": -1})


class _Inserter:
    """Inserts operators into a block, one behind the other.

    Args:
        block: of a program.
        at: place of the first.
        role: `_FORWARD` or `_BACKWARD`.
        group: is told of errors.
    """

    def __init__(self, block: Any, at: int, role: int, group: Processes) -> None:
        self._group = group
        self._block, self.at, self._role, self.count = block, at, role, 0

    def __call__(
        self,
        kind: str,
        inputs: dict[str, Any],
        outputs: dict[str, Any],
        attributes: dict[str, Any] | None = None,
    ) -> None:
        """Insert an operator."""
        attributes = {**(attributes or {}), "op_role": self._role}
        self._block._insert_op(self.at, type=kind, inputs=inputs, outputs=outputs, attrs=attributes)
        self.at, self.count = self.at + 1, self.count + 1

    def variable(self, name: str, what: str) -> str:
        """A new float32 variable, named after another."""
        return self._block.create_var(name=f"{name}@{what}", dtype="float32").name

    def shape_of(self, name: str) -> str:
        """A variable with the shape of another."""
        shape = self._block.create_var(name=f"{name}@shape{self.at}", dtype="int32").name
        self("shape", {"Input": [name]}, {"Out": [shape]})
        return shape

    def call(
        self, function: Callable[..., Sequence[np.ndarray]], inputs: list[str], outputs: list[str]
    ) -> None:
        """Insert the call of a function of float64 arrays; its results are stored as float32."""

        def called(*tensors: Any) -> tuple[Any, ...]:
            arrays = [np.asarray(tensor).astype(np.float64) for tensor in tensors]
            try:
                values = function(*arrays)
            except Exception as error:  # Paddle would abort the process
                self._group.fail(error)
                values = [np.full_like(arrays[1], np.nan)] * len(outputs)
            results = []
            for value in values:
                results.append(core.LoDTensor())
                results[-1].set(np.ascontiguousarray(value, np.float32), core.CPUPlace())
            return tuple(results)

        # Paddle gives its reference back after Python has ended, and must not be the last to do so.
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(called))
        number = core._append_python_callable_object_and_return_id(called)
        attributes = {"forward_callable_id": number, "backward_callable_id": -1, "backward_skip_vars": []}
        self("py_func", {"X": inputs}, {"Out": outputs}, attributes)
