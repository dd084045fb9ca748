"""The kinds of operators that the engine knows. Tensors are named; maps are `[N, C, H, W]`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Union

from picoquant.training.onednn.library import Algorithm


@dataclass(frozen=True)
class Convolution:
    """`out = weight * x + bias`, padded by zeros; `shape` of the weight: `[C', C / groups, h, w]`."""

    x: str
    out: str
    weight: str
    shape: tuple[int, ...]
    bias: str | None
    strides: tuple[int, int]
    paddings: tuple[int, int]
    groups: int


@dataclass(frozen=True)
class BatchNorm:
    """Normalises each channel over the batch, which running statistics follow, or (`fixed`) by these.

    Attributes:
        message: where the batch is that of several processes: number of the message in which it is told of.
    """

    x: str
    out: str
    scale: str
    shift: str
    mean: str
    variance: str
    momentum: float
    epsilon: float
    fixed: bool
    message: int | None = None


@dataclass(frozen=True)
class Function:
    """A function of each value by itself."""

    x: str
    out: str
    algorithm: Algorithm
    alpha: float
    beta: float

    @property
    def keeps_zero(self) -> bool:
        """Whether it is 0 of 0."""
        return self.algorithm in (Algorithm.RELU_DST, Algorithm.CLIP_DST, Algorithm.HARD_SWISH)

    @property
    def from_result(self) -> bool:
        """Whether its gradient is computed from what it returned."""
        return self.algorithm in (
            Algorithm.RELU_DST,
            Algorithm.CLIP_DST,
            Algorithm.LOGISTIC_DST,
            Algorithm.SQRT_DST,
        )


@dataclass(frozen=True)
class Gate:
    """`x [N, C, H, W]` times `gate [N, C, 1, 1]`."""

    x: str
    out: str
    gate: str


@dataclass(frozen=True)
class Weighted:
    """`x [N, C, H, W]` times `weight [N, 1, H, W]`."""

    x: str
    out: str
    weight: str


@dataclass(frozen=True)
class Product:
    """The product of two maps of one shape, value by value."""

    x: str
    out: str
    y: str


@dataclass(frozen=True)
class Round:
    """Values limited to `low` to `high`, 0 among them, as whole numbers of steps; gradients pass between the ends."""

    x: str
    out: str
    low: float
    high: float
    step: float


@dataclass(frozen=True)
class Add:
    """The sum of two maps of one shape."""

    x: str
    out: str
    y: str


@dataclass(frozen=True)
class Concat:
    """Maps one after another along the channels."""

    parts: tuple[str, ...]
    out: str


@dataclass(frozen=True)
class Total:
    """The sum of a map's channels, `[N, 1, H, W]`."""

    x: str
    out: str


@dataclass(frozen=True)
class Slice:
    """`count` channels from `first` on."""

    x: str
    out: str
    first: int
    count: int


@dataclass(frozen=True)
class Enlarge:
    """Every value `factor` times in both directions (nearest neighbour)."""

    x: str
    out: str
    factor: int


@dataclass(frozen=True)
class Mean:
    """The mean of each channel of each image, `[N, C, 1, 1]`."""

    x: str
    out: str


@dataclass(frozen=True)
class Largest:
    """The largest value of each window; what is padded counts as nothing."""

    x: str
    out: str
    window: tuple[int, int]
    strides: tuple[int, int]
    paddings: tuple[int, int]


@dataclass(frozen=True)
class Shuffle:
    """Channels of `groups` groups in turns: the first of each, then the second of each, and so on."""

    x: str
    out: str
    groups: int


@dataclass(frozen=True)
class Rows:
    """`[N, C, H, W]` as `[N, H * W, C]`."""

    x: str
    out: str


Node = Union[
    Convolution, BatchNorm, Function, Gate, Weighted, Product, Round, Add, Total, Concat, Slice, Enlarge, Mean, Largest,
    Shuffle, Rows,
]  # fmt: skip


def reads(node: Node) -> tuple[str, ...]:
    """Names of the tensors that a node reads, parameters left out."""
    if isinstance(node, Concat):
        return node.parts
    if isinstance(node, Gate):
        return (node.x, node.gate)
    if isinstance(node, Weighted):
        return (node.x, node.weight)
    if isinstance(node, (Add, Product)):
        return (node.x, node.y)
    return (node.x,)


def parameters(node: Node) -> tuple[str, ...]:
    """Names of the parameters that a node's gradients are of."""
    if isinstance(node, Convolution):
        return (node.weight, node.bias) if node.bias else (node.weight,)
    return (node.scale, node.shift) if isinstance(node, BatchNorm) else ()


def stored(node: Node) -> tuple[str, ...]:
    """Names of the parameters and statistics that a node reads."""
    statistics = (node.mean, node.variance) if isinstance(node, BatchNorm) else ()
    return (*parameters(node), *statistics)
