"""What a traced method of a detector computes, as nodes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from picoquant.training.onednn.library import Algorithm
from picoquant.training.onednn.nodes import (
    Add,
    BatchNorm,
    Concat,
    Convolution,
    Enlarge,
    Function,
    Gate,
    Largest,
    Mean,
    Node,
    Product,
    Rows,
    Shuffle,
    Slice,
    Total,
    Weighted,
    parameters,
    reads,
)

_CONVOLUTIONS = ("conv2d", "depthwise_conv2d")
# Functions of one value: how oneDNN computes them, and the attributes that are its two numbers.
_FUNCTIONS = {
    "relu": Algorithm.RELU_DST,
    "leaky_relu": Algorithm.RELU_DST,
    "relu6": Algorithm.CLIP_DST,
    "sigmoid": Algorithm.LOGISTIC_DST,
    "sqrt": Algorithm.SQRT_DST,
    "scale": Algorithm.LINEAR,
    "hard_sigmoid": Algorithm.HARD_SIGMOID,
    "hard_swish": Algorithm.HARD_SWISH,
}
_AXES = 4
_MANY = 16  # channels, of which a sum of depthwise results is faster


class UnsupportedError(Exception):
    """The engine does not know something of the network; the message says what."""


@dataclass(frozen=True)
class Graph:
    """A network.

    Attributes:
        inputs, outputs: names of tensors.
        nodes: each after those whose results it reads.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    nodes: tuple[Node, ...]

    def readers(self, name: str) -> list[Node]:
        """The nodes that read a tensor, once for each time."""
        return [node for node in self.nodes for read in reads(node) if read == name]


def read(block: Any, inputs: Sequence[str], outputs: Sequence[str]) -> Graph:
    """The graph of a `paddle.static` block without gradients. Raises: `UnsupportedError`."""
    reader = _Reader(block)
    nodes = tuple(node for operator in block.ops for node in reader.nodes(operator))
    names = [*inputs, *(node.out for node in nodes)]
    found = Graph(tuple(inputs), tuple(outputs), nodes)
    known = set(names)
    for node in nodes:
        for name in reads(node):
            if name not in known:
                raise UnsupportedError(f"{name}, which is not computed from the images")
    for name in outputs:
        if name not in known:
            raise UnsupportedError(f"the output {name}")
    for name, count in Counter(name for node in nodes for name in parameters(node)).items():
        if count > 1:
            raise UnsupportedError(f"{name}, which several operators read")
    return found


class _Reader:
    """Turns operators into nodes; what is part of another node is none of its own."""

    def __init__(self, block: Any) -> None:
        self._block = block
        self._makers = {name: op for op in block.ops for name in op.output_arg_names}
        self._readers: dict[str, list[Any]] = {}
        for operator in block.ops:
            for name in operator.input_arg_names:
                self._readers.setdefault(name, []).append(operator)

    def nodes(self, operator: Any) -> Sequence[Node]:
        """The nodes of an operator. Raises: `UnsupportedError`."""
        kind = operator.type
        if kind in _CONVOLUTIONS:
            return _without_blocks(self._convolution(operator))
        if kind == "batch_norm":
            return [_batch_norm(operator)]
        if kind in _FUNCTIONS:
            return [_function(operator)]
        if kind == "elementwise_add":
            return self._add(operator)
        if kind == "elementwise_mul":
            return [self._product(operator)]
        if kind == "concat" and operator.attr("axis") == 1:
            return [Concat(tuple(operator.input("X")), operator.output("Out")[0])]
        if kind == "split" and operator.attr("axis") == 1:
            return self._slices(operator)
        if kind == "nearest_interp_v2":
            return [_enlarge(operator)]
        if kind == "pool2d" and _is_mean(operator):
            return [Mean(operator.input("X")[0], operator.output("Out")[0])]
        if kind in ("shape", "fill_constant") or (kind == "slice" and self._is_of_a_shape(operator)):
            return []  # sizes that are known when a tape is written; what reads them otherwise is not known
        if kind == "pool2d" and _is_largest(operator):
            return [_largest(operator)]
        if kind == "reshape2":
            return [] if self._is_part(operator) else [self._shuffle(operator)]
        if kind == "transpose2":
            return [] if self._is_of_shuffle(operator) else [self._rows(operator)]
        raise UnsupportedError(f"the operator {kind}")

    def _slices(self, split: Any) -> list[Slice]:
        found, first = [], 0
        for name in split.output("Out"):
            count = self._shape(name)[1]
            found.append(Slice(split.input("X")[0], name, first, count))
            first += count
        return found

    def _convolution(self, operator: Any) -> Convolution:
        paddings = tuple(operator.attr("paddings"))
        plain = (
            set(operator.attr("dilations")) == {1}
            and operator.attr("padding_algorithm") == "EXPLICIT"
            and operator.attr("data_format") in ("NCHW", "AnyLayout")
            and len(paddings) == 2
        )
        if not plain:
            raise UnsupportedError("a convolution with dilation or uneven padding")
        out, bias = operator.output("Output")[0], None
        add = self._only_reader(out)
        if add is not None and add.type == "elementwise_add" and add.input("X")[0] == out:
            bias = self._bias(add)
            out = add.output("Out")[0] if bias else out
        return Convolution(
            operator.input("Input")[0],
            out,
            operator.input("Filter")[0],
            self._shape(operator.input("Filter")[0]),
            bias,
            tuple(operator.attr("strides")),
            paddings,
            int(operator.attr("groups")),
        )

    def _only_reader(self, name: str) -> Any | None:
        found = self._readers.get(name, [])
        return found[0] if len(found) == 1 else None

    def _bias(self, add: Any) -> str | None:
        """The parameter `[C]` that is added, or None."""
        name = add.input("Y")[0]
        maker = self._makers.get(name)
        if maker is not None and maker.type == "reshape2":
            name = maker.input("X")[0]
        elif add.attr("axis") != 1:
            return None
        return str(name) if name not in self._makers and len(self._block.var(name).shape) == 1 else None

    def _add(self, operator: Any) -> list[Add]:
        x, y, out = operator.input("X")[0], operator.input("Y")[0], operator.output("Out")[0]
        maker = self._makers.get(x)
        if self._bias(operator) and maker is not None and maker.type in _CONVOLUTIONS:
            return []  # of the convolution
        if self._shape(x)[1:] != self._shape(y)[1:] or len(self._shape(x)) != _AXES:
            raise UnsupportedError("a sum of tensors of different shapes")
        return [Add(x, out, y)]

    def _product(self, operator: Any) -> Gate | Weighted | Product:
        x, y, out = operator.input("X")[0], operator.input("Y")[0], operator.output("Out")[0]
        one, other = self._shape(x), self._shape(y)
        if len(one) == len(other) == _AXES and one[1] == other[1] and other[2:] == (1, 1):
            return Gate(x, out, y)
        if len(one) == len(other) == _AXES and one[2:] == other[2:]:
            if one[1] == other[1]:
                return Product(x, out, y)
            if other[1] == 1:
                return Weighted(x, out, y)
        raise UnsupportedError("a product of two maps")

    def _shape(self, name: str) -> tuple[int, ...]:
        return tuple(self._block.var(name).shape)

    def _is_part(self, reshape: Any) -> bool:
        """Whether a reshaping belongs to a bias or to rows."""
        reader = self._only_reader(reshape.output("Out")[0])
        if reader is None:
            return False
        return reader.type == "transpose2" or (
            reader.type == "elementwise_add" and self._bias(reader) is not None
        )

    def _is_of_a_shape(self, operator: Any) -> bool:
        maker = self._makers.get(operator.input("Input")[0])
        return maker is not None and maker.type == "shape"

    def _is_of_shuffle(self, transpose: Any) -> bool:
        reader = self._only_reader(transpose.output("Out")[0])
        turned = list(transpose.attr("axis")) == [0, 2, 1, 3, 4]
        return turned and reader is not None and reader.type == "reshape2"

    def _shuffle(self, operator: Any) -> Shuffle:
        """Of the last of three operators: groups apart, turned, and together again."""
        turn = self._makers.get(operator.input("X")[0])
        apart = (
            self._makers.get(turn.input("X")[0]) if turn is not None and turn.type == "transpose2" else None
        )
        if turn is None or apart is None or apart.type != "reshape2" or not self._is_of_shuffle(turn):
            raise UnsupportedError("the operator reshape2")
        name, out = apart.input("X")[0], operator.output("Out")[0]
        groups, shape = self._shape(apart.output("Out")[0])[1], self._shape(name)
        if (
            len(shape) != _AXES
            or self._shape(out)[1] != shape[1]
            or len(self._shape(out)) != _AXES
            or groups < 1
        ):
            raise UnsupportedError("a change of shape")
        return Shuffle(name, out, groups)

    def _rows(self, operator: Any) -> Rows:
        maker = self._makers.get(operator.input("X")[0])
        if maker is None or maker.type != "reshape2" or list(operator.attr("axis")) != [0, 2, 1]:
            raise UnsupportedError("a transposition")
        name = maker.input("X")[0]
        if len(self._shape(name)) != _AXES:
            raise UnsupportedError("a change of shape")
        _, channels, height, width = self._shape(name)
        if list(maker.attr("shape")) not in ([0, channels, -1], [0, channels, height * width]):
            raise UnsupportedError("a change of shape")
        return Rows(name, operator.output("Out")[0])


def _without_blocks(node: Convolution) -> list[Node]:
    """A convolution to one channel as a depthwise one and a sum.

    oneDNN computes output channels in blocks: of a 5x5 convolution to one, as the alignment map of PicoDet's 2022 head
    is, it computes 15 sixteenths for nothing, and so for both gradients.
    """
    width, channels, *window = node.shape
    if width > 1 or node.groups > 1 or node.bias or channels < _MANY or window == [1, 1]:
        return [node]
    apart = f"{node.out}@channels"
    depthwise = replace(node, out=apart, shape=(channels, 1, *window), groups=channels)
    return [depthwise, Total(apart, node.out)]


def _batch_norm(operator: Any) -> BatchNorm:
    read = {name: operator.input(name)[0] for name in ("X", "Scale", "Bias", "Mean", "Variance")}
    return BatchNorm(
        read["X"],
        operator.output("Y")[0],
        read["Scale"],
        read["Bias"],
        read["Mean"],
        read["Variance"],
        float(operator.attr("momentum")),
        float(operator.attr("epsilon")),
        bool(operator.attr("is_test") or operator.attr("use_global_stats")),
    )


def _function(operator: Any) -> Function:
    kind, numbers = operator.type, (0.0, 0.0)
    if kind == "relu6":
        numbers = (0.0, 6.0)
    elif kind == "leaky_relu":
        if operator.attr("alpha") < 0:
            raise UnsupportedError("a leaky ReLU that turns signs")
        numbers = (operator.attr("alpha"), 0.0)
    elif kind == "hard_sigmoid":
        numbers = (operator.attr("slope"), operator.attr("offset"))
    elif kind == "hard_swish":
        scale, threshold = operator.attr("scale"), operator.attr("threshold")
        if threshold != scale:
            raise UnsupportedError("a hard-swish whose threshold is not its scale")
        numbers = (1 / scale, operator.attr("offset") / scale)
    elif kind == "scale":
        scale, bias = operator.attr("scale"), operator.attr("bias")
        numbers = (scale, bias if operator.attr("bias_after_scale") else scale * bias)
    return Function(operator.input("X")[0], operator.output("Out")[0], _FUNCTIONS[kind], *numbers)


def _enlarge(operator: Any) -> Enlarge:
    factors = list(operator.attr("scale") or ())
    if (
        len(factors) != 2
        or factors[0] != factors[1]
        or factors[0] != int(factors[0])
        or operator.attr("align_corners")
    ):
        raise UnsupportedError("a resizing by other than a whole factor")
    return Enlarge(operator.input("X")[0], operator.output("Out")[0], int(factors[0]))


def _is_largest(operator: Any) -> bool:
    plain = operator.attr("padding_algorithm") == "EXPLICIT" and len(operator.attr("paddings")) == 2
    return bool(
        operator.attr("pooling_type") == "max"
        and plain
        and not operator.attr("global_pooling")
        and not operator.attr("adaptive")
        and not operator.attr("ceil_mode")
        and operator.attr("data_format") in ("NCHW", "AnyLayout")
    )


def _largest(operator: Any) -> Largest:
    sizes = (tuple(operator.attr(name)) for name in ("ksize", "strides", "paddings"))
    return Largest(operator.input("X")[0], operator.output("Out")[0], *sizes)


def _is_mean(operator: Any) -> bool:
    whole = operator.attr("global_pooling") or (
        operator.attr("adaptive") and list(operator.attr("ksize")) == [1, 1]
    )
    return bool(operator.attr("pooling_type") == "avg" and whole)
