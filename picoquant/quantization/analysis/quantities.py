"""The quantities of a network's outputs that are compared: scores and boxes, in any form of export."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from picoquant.paddle_program.infer_config import InferConfig
from picoquant.postprocess.decode import scores_of_logits

Quantities = Callable[[Sequence[np.ndarray]], dict[str, np.ndarray]]


def plain_outputs(names: Sequence[str]) -> Quantities:
    """A function from outputs to each output under its own name."""
    return lambda outputs: dict(zip(names, outputs))


def picodet_quantities(
    names: Sequence[str], shapes: Sequence[Sequence[int]], config: InferConfig
) -> Quantities:
    """A function from outputs to `scores`, 0 to 1, and `boxes`: decoded ones, or a raw export's logits of distances.

    Args:
        names, shapes: of the outputs. A network with other outputs is compared output by output.
        config: of the model folder.
    """
    levels = len(config.strides)
    if len(shapes) == 2 and all(len(shape) == 3 for shape in shapes):
        boxes = 0 if shapes[0][2] == 4 else 1
        return lambda outputs: {"scores": outputs[1 - boxes], "boxes": outputs[boxes]}
    if levels and len(shapes) in (2 * levels, 3 * levels) and all(len(shape) == 3 for shape in shapes):
        logits = config.raw_outputs == "logits" or len(shapes) == 3 * levels
        return lambda outputs: _of_raw(outputs, levels, logits)
    return plain_outputs(names)


def _of_raw(outputs: Sequence[np.ndarray], levels: int, logits: bool) -> dict[str, np.ndarray]:
    parts = [np.concatenate(outputs[i : i + levels], axis=1) for i in range(0, len(outputs), levels)]
    classes, *between, distances = parts
    scores = scores_of_logits(classes, between[0] if between else None) if logits else classes
    return {"scores": scores, "boxes": distances}
