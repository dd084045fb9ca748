"""What the emulator says of each operation that a chip does: the unit that does it, cycles, and bytes moved.

Cycles are the driver's own model of the chip (`libNNArchPerf`). It says them when it has compiled the network,
before any image: they do not depend on values. Of an operation on shaders it counts 500 and the bytes of its tensors
over the memory's bandwidth, neither arithmetic nor weights. Nothing here was held against a board.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from picoquant.backends.verisilicon.description import Description, Node
from picoquant.backends.verisilicon.emulator import Emulation
from picoquant.backends.verisilicon.toolchain import Emulator
from picoquant.errors import ToolError

UNITS = {"NN": "NN cores", "TP": "TP (tensor processing)", "SH": "shaders"}

_SETTINGS = {
    "VIV_VX_DEBUG_LEVEL": "1",
    "CNN_PERF": "1",
    "NN_EXT_SHOW_PERF": "1",
    "VIV_VX_PROFILE": "1",
}
_BLOCK = "**********Show Perf********"
_NUMBERS = ("ReadBW", "WriteBW", "CycleCount")
_SIZES = ("FinalOutImage", "OutImage")
# Operators of a description that a layer of the driver, by its name, can be.
_KINDS = {
    "ConvolutionReluPooling": (
        "conv",
        "depthwise",
        "average",
        "transposed",
        "multiply",
        "add",
        "relu",
        "resize",
    ),
    "FullyConnected": ("conv",),
    "Activation": ("relu6", "relu", "sigmoid", "hard_sigmoid", "hard_swish"),
    "LUT": ("hard_sigmoid", "sigmoid", "hard_swish", "relu6"),
    "TensorTranspose": ("permute",),
    "TensorMul": ("multiply",),
    "TensorAdd": ("add",),
    "Pooling": ("average", "max"),
    "ReduceMean": ("average",),
    "Reorg": ("resize", "conv"),
    "Upsample": ("resize",),
    "Resize": ("resize",),
    "TensorCopy": ("concat", "slice", "split", "reshape"),
    "Concat": ("concat",),
    "Deconvolution": ("transposed",),
}


@dataclass
class LayerCost:
    """What a layer of the network costs on the chip, for one image.

    Attributes:
        name: of the tensor that it computes; empty for operations that belong to no layer by kind and size.
        cycles: by unit, see `UNITS`.
        read, written: bytes.
    """

    name: str
    cycles: dict[str, int] = field(default_factory=dict)
    read: int = 0
    written: int = 0

    @property
    def total(self) -> int:
        """Cycles of all units."""
        return sum(self.cycles.values())


@dataclass
class _Operation:
    layer: str
    layer_name: str
    unit: str
    elements: int
    kernel: tuple[int, ...]
    read: int
    written: int
    cycles: int


def report(tool: Emulator, chip: str, network: Description) -> list[LayerCost]:
    """Compile a network and collect what each layer costs an image, in the network's order; other operations come last.

    Args:
        tool, chip, network: see `Emulation`.

    Raises: `EmulatorEnded`, and `ToolError` when the driver says nothing that is understood.
    """
    with Emulation(tool, chip, network, _SETTINGS) as emulation:
        emulation.start()
        emulation.close()  # what it printed is whole then
        return layer_costs(emulation.said(), network)


def layer_costs(said: str, network: Description) -> list[LayerCost]:
    """The costs of a network's layers out of what the driver printed.

    The driver names its operations by kind alone. Each of its layers is taken to be the first operator of the network,
    in order, that can be of its kind and has results and a kernel of its size; where none has, one that fits less.

    Raises: `ToolError` when nothing that is understood was printed.
    """
    layers: dict[tuple[str, str], list[_Operation]] = {}
    for one in _operations(said):
        layers.setdefault((one.layer_name, one.layer), []).append(one)
    if not layers:
        raise ToolError("VeriSilicon's emulator printed no cycles that picoquant understands")
    costs = {node.name: LayerCost(node.name) for node in network.nodes}
    costs[""] = LayerCost("")
    waiting = list(network.nodes)
    for (layer_name, _), operations in layers.items():
        node = _node(layer_name, operations, waiting)
        if node is not None:
            waiting.remove(node)
        cost = costs[node.name if node is not None else ""]
        for one in operations:
            cost.cycles[one.unit] = cost.cycles.get(one.unit, 0) + one.cycles
            cost.read += one.read
            cost.written += one.written
    return [cost for cost in costs.values() if cost.cycles]


def totals(costs: list[LayerCost]) -> Mapping[str, int]:
    """Cycles by unit, of all layers."""
    return {unit: sum(cost.cycles.get(unit, 0) for cost in costs) for unit in UNITS}


def _operations(said: str) -> Iterator[_Operation]:
    for block in said.split(_BLOCK)[1:]:
        found = re.search(
            r"layer_id:(\S+) layer_name:(\S+)\s.*?operation_target:\w+_TARGET_(\w+)", block, re.S
        )
        numbers = [re.search(rf"^{name}: (\d+)", block, re.M) for name in _NUMBERS]
        if not found or not all(numbers):
            continue
        read, written, cycles = (int(number[1]) for number in numbers if number)
        kernel = tuple(
            int(one[1]) for one in (re.search(rf"^Kernel{axis}: (\d+)", block, re.M) for axis in "XYZ") if one
        )
        yield _Operation(found[1], found[2], found[3], _elements(block), kernel, read, written, cycles)


def _elements(block: str) -> int:
    for size in _SIZES:
        found = [re.search(rf"^{size}{axis}: (\d+)", block, re.M) for axis in "XYZ"]
        if all(found):
            width, height, channels = (int(one[1]) for one in found if one)
            return width * height * channels
    return 0


def _node(layer_name: str, operations: list[_Operation], waiting: list[Node]) -> Node | None:
    kinds = next((kinds for prefix, kinds in _KINDS.items() if layer_name.startswith(prefix)), ())
    sizes = {one.elements for one in operations} | {sum(one.elements for one in operations)}
    fitting = [node for node in waiting if node.operator in kinds]
    same = [node for node in fitting if node.elements in sizes]
    exact = [node for node in same if node.kernel in {one.kernel for one in operations}]
    return next(iter(exact or same or fitting), None)
