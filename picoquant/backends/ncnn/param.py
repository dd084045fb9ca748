"""The files of a model that picoquant wrote, read before ncnn reads them: it crashes on some that are damaged."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from picoquant.backends.base import Tensors
from picoquant.backends.ncnn.files import ALIGNED, ARRAY, HINTS, MAGIC, WIDTHS
from picoquant.errors import ToolError

_CONVOLUTION, _DEPTHWISE = "Convolution", "ConvolutionDepthWise"
_WITHOUT_DATA = (
    "BinaryOp", "Clip", "Concat", "Crop", "HardSigmoid", "HardSwish", "Input", "Interp", "Noop", "Permute", "Pooling",
    "ReLU", "Reshape", "Sigmoid", "Slice", "Split", "TanH",
)  # fmt: skip
_NUMBER = 4  # bytes of a float32


@dataclass(frozen=True)
class ModelFacts:
    """What the files say.

    Attributes:
        inputs, outputs: names and shapes as Paddle has them, with a batch that may vary.
    """

    inputs: Tensors
    outputs: Tensors


def read_files(param: Path, data: Path) -> ModelFacts:
    """Read a `.param`, and see whether its `.bin` is as long as it says.

    Raises: `ToolError` saying what is damaged.
    """
    try:
        content = data.read_bytes()
        lines = param.read_text(encoding="utf-8").splitlines()
        return _facts(lines, content)
    except OSError as error:
        raise ToolError(f"cannot read {error.filename}: {error.strerror or error}") from error
    except (ValueError, IndexError, KeyError) as error:  # UnicodeDecodeError is a ValueError
        said = " ".join(str(error).split())
        raise ToolError(
            f"{param.name} and {data.name} are no whole ncnn model as picoquant writes it ({said}): make them again"
        ) from error


def _facts(lines: list[str], content: bytes) -> ModelFacts:
    if lines[:1] != [str(MAGIC)]:
        raise ValueError(f"the .param does not begin with {MAGIC}")
    layers, blobs = map(int, lines[1].split())
    inputs, outputs, place = [], [], 0
    made: set[str] = set()
    for number, line in enumerate(lines[2:], 3):
        kind, _, reads, makes, *words = line.split()
        ends = int(reads), int(reads) + int(makes)
        sources, results = words[: ends[0]], words[ends[0] : ends[1]]
        if len(results) != int(makes) or not made.issuperset(sources) or made.intersection(results):
            raise ValueError(f"line {number} of the .param reads or makes other blobs than there are")
        made.update(results)
        params = {int(key): value for key, value in (word.split("=") for word in words[ends[1] :])}
        place = _behind(kind, params, content, place)
        if kind == "Input":
            inputs.append((results[0], (-1, *(int(params[key]) for key in (2, 1, 0)))))
        if ARRAY - HINTS in params:
            _, rank, *sizes = map(int, params[ARRAY - HINTS].split(","))
            outputs.append((results[0], (-1, *reversed(sizes[:rank]))))
    if (len(lines) - 2, len(made)) != (layers, blobs):
        raise ValueError(f"the .param has {len(lines) - 2} layers, not {layers}")
    if place != len(content):
        raise ValueError(f"the .bin has {len(content)} bytes, not {place}")
    if not inputs or not outputs:
        raise ValueError("the .param says no input or no output")
    return ModelFacts(tuple(inputs), tuple(outputs))


def _behind(kind: str, params: Mapping[int, str], content: bytes, place: int) -> int:
    """Where the data of the next layer begins."""
    if kind == "MemoryData":
        return place + _NUMBER * math.prod(int(params.get(key, "1")) for key in (0, 1, 2))
    if kind == "Quantize":
        return place + _NUMBER * int(params[0])
    if kind in (_CONVOLUTION, _DEPTHWISE):
        out, size = int(params[0]), int(params[6])
        width = WIDTHS[int.from_bytes(content[place : place + _NUMBER], "little")]
        scaled = int(params.get(8, "0"))
        scales = (int(params[7]) if kind == _DEPTHWISE else out) + 1 + (scaled > 100) if scaled else 0
        stored = size * width + -(size * width) % ALIGNED
        return place + _NUMBER + stored + _NUMBER * (out * int(params[5]) + scales)
    if kind not in _WITHOUT_DATA:
        raise ValueError(f"the .param has a layer {kind}")
    return place
