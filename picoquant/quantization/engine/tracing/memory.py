"""A traced graph with its gradients, changed to hold less and to convert less between memory layouts.

Paddle's oneDNN convolutions convert what they read into oneDNN's layouts, and keep these copies, under the names of
what they read and write, as long as the graph exists: of S-NPU at 416 px with 8 images two gigabytes, more than all
else that a step holds. So convolutions of one geometry get the same names.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

from picoquant.quantization.engine.tracing.kernels import ACTIVATION
from picoquant.utils.paddle_version.differences import paddle_3

_CONVOLUTIONS = ("conv2d", "depthwise_conv2d")
_GRADIENTS = tuple(f"{op_type}_grad" for op_type in _CONVOLUTIONS)
# Gradients of rounding that pass unchanged: in Paddle 2.6, with its spelling, and in Paddle 3.
_STRAIGHT_THROUGH = ("stright_throuth_estimator_grad", f"{ACTIVATION}_grad")
_ACTIVATIONS = ("relu", "relu6")
_NCHW, _ONEDNN = 2, 5  # of `DataLayout` in Paddle's `common/layout.h`
_BATCH = 0  # axis


def hold_less(block: Any, start: int) -> int:
    """Change the operators of a graph, the same numbers coming out.

    Args:
        block: the graph.
        start: index of its first gradient operator.

    Returns: that index afterwards.
    """
    _pass_straight_through(block, start)
    _activate_again(block, start)
    if paddle_3():  # with which convolutions of one name did not compute the same
        return start
    _share_gradients_copies(block, start)
    return start + _share_convolutions_copies(block, start)


def _pass_straight_through(block: Any, start: int) -> None:
    """Read the gradient of a rounded activation in place of the copy of it that is the activation's."""
    for op in [one for one in block.ops[start:] if one.type in _STRAIGHT_THROUGH]:
        (copied,), (gradient,) = op.output("X@GRAD"), op.input("Out@GRAD")
        readers = [one for one in block.ops[start:] if copied in one.input_arg_names]
        writers = [one for one in block.ops[start:] if copied in one.output_arg_names]
        if readers and len(writers) == 1:
            for one in readers:
                one._rename_input(copied, gradient)
            block._remove_op(block.ops.index(op))


def _activate_again(block: Any, start: int) -> None:
    """Compute the ReLU behind a batch-norm by running statistics again for the gradients.

    What the batch-norm has read is held for its own gradient anyway.
    """
    forward, backward = list(block.ops[:start]), list(block.ops[start:])
    made = {name: op for op in forward for name in op.output_arg_names}
    read = {name for op in backward for name in op.input_arg_names}
    for op in [one for one in forward if one.type in _ACTIVATIONS]:
        norm, (result,) = made.get(op.input("X")[0]), op.output("Out")
        if norm is None or norm.type != "batch_norm" or not norm.attr("use_global_stats"):
            continue
        readers = [one for one in backward if result in one.input_arg_names]
        if norm.input("X")[0] not in read or not readers:
            continue
        new = _Inserter(block, readers[0], result, norm.input("Scale")[0])
        new(op.type, {"X": _normalised(new, norm)}, block.var(result).shape)
        for one in readers:
            one._rename_input(result, new.last)


def _normalised(new: _Inserter, norm: Any) -> str:
    """What a batch-norm computes of its running statistics, by operators that do not claim to change these."""
    image, mean, variance, scale, bias = (
        norm.input(slot)[0] for slot in ("X", "Mean", "Variance", "Scale", "Bias")
    )
    spread = new("rsqrt", {"X": new("scale", {"X": variance}, bias=norm.attr("epsilon"))})
    factor = new("elementwise_mul", {"X": spread, "Y": scale})
    shift = new("elementwise_sub", {"X": bias, "Y": new("elementwise_mul", {"X": mean, "Y": factor})})
    return new(
        "affine_channel", {"X": image, "Scale": factor, "Bias": shift}, new.shape(image), data_layout="NCHW"
    )


class _Inserter:
    """Inserts operators with one result in front of an operator, one after the other.

    Args:
        block: the graph.
        before: the operator, whose role the new ones get.
        name: of a tensor; the names of results begin with it.
        like: name of a tensor whose shape results have.
    """

    def __init__(self, block: Any, before: Any, name: str, like: str) -> None:
        self._block, self._before, self._name, self._like = block, before, name, like
        self._count, self.last = 0, ""

    def shape(self, name: str) -> Any:
        """The shape of a tensor, -1 where it varies."""
        return self._block.var(name).shape

    def __call__(self, op_type: str, inputs: Mapping[str, str], shape: Any = None, **attributes: Any) -> str:
        """Insert one; the name of its result is returned."""
        self.last = f"{self._name}@again{self._count}"
        self._count += 1
        self._block.create_var(name=self.last, shape=shape or self.shape(self._like), dtype="float32")
        self._block._insert_op(
            self._block.ops.index(self._before), type=op_type, inputs=dict(inputs), outputs={"Out": self.last},
            attrs={**attributes, "op_role": self._before.attr("op_role")},
        )  # fmt: skip
        return self.last


def _share_convolutions_copies(block: Any, start: int) -> int:
    """Give results of convolutions of a geometry one name; each is converted to the plain layout at once.

    Else each of its readers converts it, also the gradient of a batch-norm. Returns the number of inserted operators.
    """
    names = _Names(block, "convolved")
    found = [op for op in block.ops[:start] if op.type in _CONVOLUTIONS]
    for op in found:
        (plain,) = op.output("Output")
        name = names(_geometry(block, op), plain)
        op._rename_output(plain, name)
        _insert_transfer(block, block.ops.index(op) + 1, op, name, plain, (_ONEDNN, _NCHW))
    return len(found)


def _share_gradients_copies(block: Any, start: int) -> None:
    """Give what gradients of convolutions of a geometry read the same names, in oneDNN's hands, without a copy.

    Paddle itself would hand over a name only once: what is written to it later it would not see.
    """
    names = _Names(block, "gradient")
    for op in [one for one in block.ops[start:] if one.type in _GRADIENTS]:
        key = _geometry(block, op)
        for slot in ("Input", "Filter"):
            (plain,) = op.input(slot)
            name = names((slot, key), plain)
            _insert_transfer(block, block.ops.index(op), op, plain, name, (_NCHW, _ONEDNN))
            op.desc.set_input(slot, [name])


def _geometry(block: Any, op: Any) -> Hashable:
    """What makes oneDNN's convolution: equal for those that may have the same names."""
    shapes = (block.var(op.input(slot)[0]).shape for slot in ("Input", "Filter"))
    attributes = (op.attr(name) for name in ("strides", "paddings", "dilations"))
    results = tuple(slot for slot in op.output_names if op.output(slot))
    image, weight = (tuple(shape) for shape in shapes)
    return (
        op.type, image[_BATCH + 1 :], weight, *map(tuple, attributes), op.attr("groups"), op.attr("padding_algorithm"),
        results,
    )  # fmt: skip


class _Names:
    """New tensors, one for each key.

    Args:
        block: the graph.
        prefix: of their names.
    """

    def __init__(self, block: Any, prefix: str) -> None:
        self._block, self._prefix = block, prefix
        self._names: dict[Hashable, str] = {}

    def __call__(self, key: Hashable, like: str) -> str:
        """The tensor of a key, with the shape of another."""
        if key not in self._names:
            self._names[key] = f"{self._prefix}@{len(self._names)}"
            value = self._block.var(like)
            self._block.create_var(name=self._names[key], shape=value.shape, dtype=value.dtype)
        return self._names[key]


def _insert_transfer(
    block: Any, index: int, op: Any, source: str, result: str, layouts: tuple[int, int]
) -> None:
    """Insert the conversion of a tensor from a layout to another, in the role of `op`."""
    before, after = layouts
    block._insert_op(
        index, type="transfer_layout", inputs={"X": source}, outputs={"Out": result},
        attrs={"src_layout": before, "dst_layout": after, "op_role": op.attr("op_role")},
    )  # fmt: skip
