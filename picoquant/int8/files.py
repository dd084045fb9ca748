"""An `Int8Network` in a file beside the Paddle model that is written from it, and opened again with the model.

The file is a NumPy archive: `program` (a `ProgramDesc`), `facts` (JSON: what tensors and operators are, and the SHA-256
of the Paddle model's files), and the arrays. Nothing in it is executed when it is read.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from paddle.base.proto import framework_pb2

from picoquant.errors import WeightsError
from picoquant.int8.network import Int8Network, QuantizedOperator, QuantizedTensor
from picoquant.int8.paddle.reader import read_network
from picoquant.int8.quant_params import QuantParams
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.params import read_params
from picoquant.paddle_program.program import read_program
from picoquant.paddle_program.validate import require_sound
from picoquant.storage.files import sha256
from picoquant.weight_files.files import read_arrays, write_weights

LOG = logging.getLogger("picoquant")

FILE = "int8_network.npz"
_VERSION = 1


def open_network(folder: ModelFolder) -> Int8Network:
    """The network of an INT8 model folder: as quantisation left it, or read from the Paddle program.

    The file of quantisation counts only where the Paddle model beside it is the one that was written with it.

    Raises: `WeightsError` when the model is a float model, or no INT8 model that can be read.
    """
    path = folder.path / FILE
    if path.is_file():
        found = _load(path, _hashes(folder))
        if found is not None:
            return found
        LOG.info("%s does not belong to %s: the model itself is read", path, folder.model.name)
    program = read_program(folder.model)
    require_sound(program, folder.model)
    return read_network(program, read_params(program, folder.params), folder.model)


def save_network(network: Int8Network, folder: ModelFolder) -> None:
    """Write a network beside the Paddle model that was written from it."""
    weights = {operator.weight for operator in network.operators}
    arrays: dict[str, np.ndarray] = {}
    arrays.update({f"values/{name}": v for name, v in network.values.items() if name not in weights})
    arrays.update({f"float/{name}": value for name, value in network.float_params.items()})
    operators = []
    for index, operator in enumerate(network.operators):
        arrays[f"integers/{index}"] = operator.integers
        arrays[f"scales/{index}"] = operator.scales
        if operator.bias_integers is not None:
            arrays[f"bias/{index}"] = operator.bias_integers
        names = ("op_type", "output", "activation", "weight", "bias")
        facts = {name: getattr(operator, name) for name in names}
        operators.append({**facts, "bits": operator.params.bits, "axis": operator.params.axis})
    facts = {
        "version": _VERSION,
        "paddle_model": _hashes(folder),
        "operators": operators,
        "tensors": {name: _described(tensor) for name, tensor in network.tensors.items()},
        "ignored": sorted(network.ignored),
    }
    arrays["facts"] = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    program = network.program.SerializeToString(deterministic=True)
    arrays["program"] = np.frombuffer(program, np.uint8)
    write_weights(arrays, folder.path / FILE)


def _load(path: Path, hashes: Mapping[str, str]) -> Int8Network | None:
    """The network in a file; None where it is damaged or of another model or version."""
    try:
        stored = read_arrays(path)
        facts = json.loads(stored["facts"].tobytes())
        if facts["version"] != _VERSION or facts["paddle_model"] != dict(hashes):
            return None
        program = framework_pb2.ProgramDesc.FromString(stored["program"].tobytes())
        operators = tuple(_operator(stored, index, one) for index, one in enumerate(facts["operators"]))
        values, before = (
            {name.split("/", 1)[1]: value for name, value in stored.items() if name.startswith(kind)}
            for kind in ("values/", "float/")
        )
        tensors = {name: _tensor(one) for name, one in facts["tensors"].items()}
    except (WeightsError, DecodeError, ValueError, KeyError, TypeError, AttributeError) as error:
        LOG.debug("%s cannot be read: %s", path, error)
        return None
    require_sound(program, path)
    values.update({operator.weight: operator.value for operator in operators})
    return Int8Network(program, tensors, operators, values, frozenset(facts["ignored"]), before)


def _hashes(folder: ModelFolder) -> dict[str, str]:
    return {"program": sha256(folder.model), "params": sha256(folder.params)}


def _described(tensor: QuantizedTensor) -> dict[str, Any]:
    params = tensor.params
    return {
        "owner": tensor.owner,
        "fused_into": tensor.fused_into,
        "quantised": tensor.quantised,
        "non_negative": tensor.non_negative,
        "params": None
        if params is None
        else {
            "scale": params.scale,
            "zero_point": params.zero_point,
            "bits": params.bits,
            "signed": params.signed,
            "narrow": params.narrow,
        },
    }


def _tensor(facts: Mapping[str, Any]) -> QuantizedTensor:
    params = facts["params"]
    return QuantizedTensor(
        params=None if params is None else QuantParams(**params),
        owner=facts["owner"],
        fused_into=facts["fused_into"],
        quantised=facts["quantised"],
        non_negative=facts["non_negative"],
    )


def _operator(stored: Mapping[str, np.ndarray], index: int, facts: Mapping[str, Any]) -> QuantizedOperator:
    scales, axis = stored[f"scales/{index}"], facts["axis"]
    params = QuantParams(scales if axis >= 0 else float(scales[0]), bits=facts["bits"], axis=axis)
    bias = stored.get(f"bias/{index}")
    names = (facts[name] for name in ("op_type", "output", "activation", "weight"))
    return QuantizedOperator(*names, stored[f"integers/{index}"], params, facts["bias"], bias)
