"""One operator of ONNX Runtime on integers, as the reference."""

from __future__ import annotations

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper

from picoquant.backends.onnx.runtime import session_options

_TYPES = {np.uint8: TensorProto.UINT8, np.int8: TensorProto.INT8}


def onnx_runtime(kind: str, inputs: dict, result_type: type, domain: str = "", **attributes) -> np.ndarray:
    """Run an operator.

    Args:
        kind: its type.
        inputs: by name, in its order; those that are NumPy arrays beginning with `x` are fed, others are stored.
        result_type: `np.uint8` or `np.int8`.
        domain: `com.microsoft` for ONNX Runtime's own operators.
        attributes: its own.
    """
    fed = {name: value for name, value in inputs.items() if name.startswith("x")}
    node = helper.make_node(kind, list(inputs), ["y"], domain=domain, **attributes)
    graph = helper.make_graph(
        [node],
        "one",
        [
            helper.make_tensor_value_info(name, _TYPES[value.dtype.type], value.shape)
            for name, value in fed.items()
        ],
        [helper.make_tensor_value_info("y", _TYPES[result_type], None)],
        [
            onnx.numpy_helper.from_array(np.asarray(value), name)
            for name, value in inputs.items()
            if name not in fed
        ],
    )
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("com.microsoft", 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    options = session_options(1)
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, fed)[0]
