"""How equalisation changes a program: a producer's rows divided, a hard-swish written out with a factor a channel."""

from __future__ import annotations

from typing import Any

import numpy as np

from picoquant.paddle_program.static.programs import Inserter, read_variable, write_variable
from picoquant.quantization.ptq.equalisation.path import own_bias, producer_of


def divide_producer(block: Any, scope: Any, raw: str, name: str, factor: np.ndarray) -> dict[str, np.ndarray]:
    """Divide weight and bias by `factor` `[C]`; what they were multiplied by is returned."""
    weight, bias = producer_of(block, raw).input("Filter")[0], own_bias(block, scope, name)
    value = read_variable(scope, weight) / factor[:, None, None, None]
    write_variable(scope, weight, value.astype(np.float32))
    write_variable(scope, bias, (read_variable(scope, bias) / factor).astype(np.float32))
    return {weight: 1 / factor[:, None, None, None], bias: 1 / factor}


def write_out_hard_swish(block: Any, scope: Any, op: Any, factor: np.ndarray) -> dict[str, np.ndarray]:
    """Write `6 * hard_swish(s * x) / s` as `x * relu6(s * x + 3)`, `factor` `[C]` being `s`.

    Returns: 0 by name of the two new constants, which must not be trained.
    """
    name, result = op.input("X")[0], op.output("Out")[0]
    index = next(i for i, other in enumerate(block.ops) if other is op)
    inserter, source, channels = Inserter(block, index), block.var(name), len(factor)

    def stored(part: str, value: np.ndarray) -> Any:
        full = f"{result}.{part}"
        write_variable(scope, full, value.astype(np.float32))
        return inserter.variable(full, source, persistable=True, shape=list(value.shape))

    def tensor(part: str) -> Any:
        return inserter.variable(f"{result}.{part}", source)

    inserter.operator(
        "depthwise_conv2d",
        {"Input": source, "Filter": stored("factor", factor.reshape(-1, 1, 1, 1))},
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
    three = stored("three", np.full(channels, 3.0))
    constants = (f"{result}.factor", three.name)
    inputs = {"X": tensor("multiplied"), "Y": three}
    inserter.operator("elementwise_add", inputs, {"Out": tensor("shifted")}, {"axis": 1})
    inserter.operator("relu6", {"X": tensor("shifted")}, {"Out": tensor("gate")}, {"threshold": 6.0})
    inputs = {"X": source, "Y": tensor("gate")}
    inserter.operator("elementwise_mul", inputs, {"Out": block.var(result)}, {"axis": -1})
    block._remove_op(next(i for i, other in enumerate(block.ops) if other is op), sync=False)
    return dict.fromkeys(constants, np.zeros(1))
