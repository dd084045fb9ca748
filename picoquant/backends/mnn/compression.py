"""An INT8 network's scales as MNN's converter takes them: its `--compressionParamsFile`.

Source of the format: MNN's documentation of that option and its `MNN_compression.proto`; the messages are described
here anew, as far as they are used.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from picoquant.int8.network import Int8Network, QuantizedOperator
from picoquant.paddle_program.layers import CONVOLUTIONS

_NUMBER, _FLOAT, _TEXT, _MESSAGE = 5, 2, 9, 11  # of protobuf's field types
_PACKAGE = "picoquant.mnn"
_SMALLEST = 1e-12  # scale of a channel that is all zero
_HIGHEST = 127
_TO_EVEN = 2
_FIELDS: dict[str, dict[str, tuple[int, Any, bool]]] = {
    "Activation": {
        "name": (1, _TEXT, False), "bits": (2, _NUMBER, False), "scales": (3, _FLOAT, True),
        "zero_point": (4, _NUMBER, False), "clamp_min": (5, _NUMBER, False), "clamp_max": (6, _NUMBER, False),
    },
    "Weight": {
        "name": (1, _TEXT, False), "bits": (2, _NUMBER, False), "scales": (3, _FLOAT, True),
        "clamp_min": (4, _NUMBER, False), "clamp_max": (5, _NUMBER, False),
    },
    "Layer": {
        "input": (1, "Activation", True), "weight": (2, "Weight", True), "output": (3, "Activation", True),
        "method": (4, _NUMBER, False),
    },
    "Quantize": {"round_mode": (1, _NUMBER, False), "layer": (4, "Layer", True)},
    "Algorithm": {"type": (1, _NUMBER, False), "quant_params": (2, "Quantize", False)},
    "Pipeline": {"version": (1, _TEXT, False), "algo": (2, "Algorithm", True)},
}  # fmt: skip


def compression(network: Int8Network, names: Mapping[str, str]) -> bytes:
    """The file's content: the convolutions on integers whose input and result have ranges.

    Args:
        network: for one image; the ONNX beside it holds its weights as floats, which give its integers again.
        names: of tensors that are called otherwise there.
    """
    message = _pipeline()
    message.version = "0.0.0"
    quantize = message.algo.add(type=0).quant_params
    quantize.round_mode = _TO_EVEN
    for operator, result in in_integers(network):
        layer = quantize.layer.add(method=0)
        for part, name in ((layer.input, operator.activation), (layer.output, result)):
            params = network.tensors[name].params
            assert params is not None  # see in_integers
            scale = float(params.scale)
            part.add(
                name=names.get(name, name),
                bits=8,
                scales=[scale],
                zero_point=0,
                clamp_min=-_HIGHEST,
                clamp_max=_HIGHEST,
            )
        scales = np.broadcast_to(np.maximum(operator.scales, _SMALLEST), len(operator.integers)).tolist()
        layer.weight.add(name=operator.weight, bits=8, scales=scales, clamp_min=-_HIGHEST, clamp_max=_HIGHEST)
    return message.SerializeToString(deterministic=True)


def in_integers(network: Int8Network) -> list[tuple[QuantizedOperator, str]]:
    """The convolutions that MNN computes on integers, with the name of each one's result behind what is fused."""
    found = []
    for operator in network.operators:
        if operator.op_type not in CONVOLUTIONS:
            continue
        result = network.layers[operator.output].output
        if network.tensors[operator.activation].params and network.tensors[result].params:
            found.append((operator, result))
    return found


def _pipeline() -> Any:
    """An empty message `Pipeline`."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="compression.proto", package=_PACKAGE, syntax="proto2")
    for title, fields in _FIELDS.items():
        described = file.message_type.add(name=title)
        for name, (number, kind, repeated) in fields.items():
            made = described.field.add(name=name, number=number, label=3 if repeated else 1)
            made.type = _MESSAGE if isinstance(kind, str) else kind
            if isinstance(kind, str):
                made.type_name = f".{_PACKAGE}.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Pipeline"))()
