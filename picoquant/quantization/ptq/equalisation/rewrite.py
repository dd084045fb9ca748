"""How equalisation changes a program: a producer's rows divided, a hard-swish written out with a factor a channel."""

from __future__ import annotations

import numpy as np

from picoquant.paddle_program.editing.operator import EditableOperator
from picoquant.paddle_program.editing.program_model import Inserter, ProgramModel
from picoquant.quantization.ptq.equalisation.path import own_bias


def divide_producer(model: ProgramModel, raw: str, name: str, factor: np.ndarray) -> dict[str, np.ndarray]:
    """Divide weight and bias by `factor` `[C]`; what they were multiplied by is returned."""
    weight, bias = model.producer(raw).input("Filter")[0], own_bias(model, name)
    model.write(weight, model.values[weight] / factor[:, None, None, None])
    model.write(bias, model.values[bias] / factor)
    return {weight: 1 / factor[:, None, None, None], bias: 1 / factor}


def write_out_hard_swish(
    model: ProgramModel, op: EditableOperator, factor: np.ndarray
) -> dict[str, np.ndarray]:
    """Write `6 * hard_swish(s * x) / s` as `x * relu6(s * x + 3)`, `factor` `[C]` being `s`.

    Returns: 0 by name of the two new constants, which must not be trained.
    """
    source, result, channels = op.input("X")[0], op.output("Out")[0], len(factor)
    inserter = Inserter(model, model.index(op))

    def tensor(part: str) -> str:
        return model.add_tensor(f"{result}.{part}", source)

    weight = model.store(f"{result}.factor", factor.reshape(-1, 1, 1, 1))
    inserter.operator(
        "depthwise_conv2d",
        {"Input": source, "Filter": weight},
        {"Output": tensor("multiplied")},
        {
            "strides": [1, 1],
            "paddings": [0, 0],
            "dilations": [1, 1],
            "groups": channels,
            "padding_algorithm": "EXPLICIT",
            "data_format": "NCHW",
        },
    )
    three = model.store(f"{result}.three", np.full(channels, 3.0))
    inputs = {"X": tensor("multiplied"), "Y": three}
    inserter.operator("elementwise_add", inputs, {"Out": tensor("shifted")}, {"axis": 1})
    inserter.operator("relu6", {"X": tensor("shifted")}, {"Out": tensor("gate")}, {"threshold": 6.0})
    inserter.operator("elementwise_mul", {"X": source, "Y": tensor("gate")}, {"Out": result}, {"axis": -1})
    model.operators.remove(op)
    return dict.fromkeys((weight, three), np.zeros(1))
