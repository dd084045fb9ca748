"""What is analysed: a float network, and the ranges and weights with which INT8 holds it.

An FP32 model gets the ranges of its calibration images, and its weights are rounded to nearest: what plain
post-training quantisation makes of it. An INT8 model is taken with its own ranges, and with its weights as
they are: in float, but on the levels of INT8.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle

from picoquant.errors import DataError
from picoquant.int8.fake_quant_run import Simulation
from picoquant.int8.files import open_network
from picoquant.int8.operators import QuantizableOperator, quantizable_operators
from picoquant.int8.passes.activations import TargetTensors, target_tensors
from picoquant.int8.passes.weights import rounded_weight
from picoquant.int8.quant_params import QuantParams
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.batch_norm_folding import fold_folder
from picoquant.paddle_program.edit import write_program
from picoquant.paddle_program.model_folder import MODEL, PARAMS, ModelFolder
from picoquant.paddle_program.params import write_params
from picoquant.paddle_program.static.programs import (
    InferenceModel,
    load_model,
    read_variable,
    with_outputs,
)
from picoquant.quantization.analysis.layers import Layer, find_layers
from picoquant.quantization.analysis.statistics import Values, Watch
from picoquant.storage.files import whole_file

_NMS = "multiclass_nms3"


@dataclass(frozen=True)
class Network:
    """A network to analyse; its variables are in the scope that was current when it was loaded.

    Attributes:
        kind: `fp32` or `int8`.
        model: the float program, batch-norm folded.
        executor: runs it.
        tensors: what an NPU holds in INT8.
        layers: operators with weights, first to last.
        ranges: by tensor; an INT8 model may lack some.
        rounded: by layer name, the weight with INT8's error: rounded to nearest. Of an INT8 model the
            float weights are not known; there its own weight is moved by a random part of up to half a level,
            which is an error of the same size.
    """

    kind: str
    model: InferenceModel
    executor: Any
    tensors: TargetTensors
    layers: tuple[Layer, ...]
    ranges: Mapping[str, QuantParams]
    rounded: Mapping[str, np.ndarray]

    def fully_quantised(self, outputs: Sequence[str]) -> Simulation:
        """The network with every weight and every tensor that has a range in INT8."""
        weights = {}
        if self.kind == "fp32":
            weights = {layer.operator.weight: self.rounded[layer.name] for layer in self.layers}
        return Simulation(self.model, self.executor, self.ranges, weights, outputs)

    @property
    def batch_size(self) -> int:
        """Images that the program takes at a time; -1 for any number."""
        block = self.model.program.global_block()
        shapes = [block.var(name).shape for name in self.model.feeds]
        shapes += [variable.shape for variable in self.model.fetches if len(variable.shape) == 3]
        return max(shape[0] for shape in shapes)


def load_float(folder: ModelFolder, scratch: Path, executor: Any, quant: QuantAwareSettings) -> Network:
    """An FP32 model, its batch-norm folded; without ranges yet (`with_ranges`).

    Args:
        folder: is not changed.
        scratch: gets a copy.
        executor: the current scope gets the variables.
        quant: which operators become INT8, and how their weights are rounded.

    Raises: `WeightsError` for a model that cannot be read, is quantised already or has nothing to quantise.
    """
    _copy(folder, scratch)
    fold_folder(scratch)
    model = before_nms(load_model(scratch, executor))
    operators = quantizable_operators(model.program, quant)
    tensors = target_tensors(model.graph())
    layers = find_layers(model.graph(), operators)
    scope = paddle.static.global_scope()
    rounded = {
        layer.name: rounded_weight(
            read_variable(scope, layer.operator.weight), layer.operator.axis, quant.weight_bits
        )
        for layer in layers
    }
    return Network("fp32", model, executor, tensors, layers, {}, rounded)


def load_int8(folder: ModelFolder, scratch: Path, executor: Any, seed: int = 0) -> Network:
    """An INT8 model in Paddle Lite's form, with its own ranges and weights.

    Args: as those of `load_float`; `seed` is of the weights' random error.

    Raises: `WeightsError` for a float model or one in another form.
    """
    network = open_network(folder)
    scratch.mkdir(parents=True, exist_ok=True)
    write_program(network.program, scratch / MODEL)
    write_params(network.program, network.values, scratch / PARAMS)
    model = before_nms(load_model(scratch, executor))
    random = np.random.default_rng(seed)
    operators, noisy = [], {}
    for operator in network.operators:
        moved = operator.integers + random.uniform(-0.5, 0.5, operator.integers.shape)
        noisy[operator.output] = operator.params.dequantise(moved).astype(np.float32)
        operators.append(
            QuantizableOperator(
                operator.op_type,
                operator.output,
                operator.activation,
                operator.weight,
                operator.params.axis,
            )
        )
    tensors = target_tensors(model.graph())
    layers = find_layers(model.graph(), operators)
    params = {name: network.tensors[name].params for name in tensors.names if name in network.tensors}
    ranges = {name: one for name, one in params.items() if one is not None}
    rounded = {layer.name: noisy[layer.operator.output] for layer in layers}
    return Network("int8", model, executor, tensors, layers, ranges, rounded)


def observe(
    model: InferenceModel, executor: Any, names: Sequence[str], feeds: Iterable[Mapping[str, np.ndarray]]
) -> dict[str, Values]:
    """Statistics of tensors of the float network.

    Args:
        model: the network, whose variables are in the current scope.
        executor: of Paddle.
        names: of the tensors.
        feeds: images, arrays by input name.

    Raises: `DataError` naming the first tensor that is not finite, and the image.
    """
    run = Simulation(model, executor, {}, outputs=names)
    watches = {name: Watch() for name in names}
    for number, feed in enumerate(feeds, start=1):
        for name, value in zip(names, run(feed)):
            if not np.isfinite(value).all():
                raise DataError(
                    f"activation {name} is not finite for image {number}: check the model's weights and that "
                    "the images are prepared as infer_cfg.yml says"
                )
            watches[name].add(value)
    return {name: watch.values() for name, watch in watches.items()}


def min_max_ranges(
    tensors: TargetTensors, values: Mapping[str, Values], symmetric: bool = True
) -> dict[str, QuantParams]:
    """Ranges that clip nothing, one for each group of tensors that share a scale; none for tensors that are always 0.

    Args:
        tensors: what an NPU holds in INT8.
        values: what was seen of each tensor.
        symmetric: whether 0 must be in the middle of a range.
    """
    ranges = {}
    for group in tensors.groups:
        low = min(0.0, *(values[name].low for name in group))
        high = max(0.0, *(values[name].high for name in group))
        if low < high:
            limits = (
                QuantParams.symmetric(max(-low, high)) if symmetric else QuantParams.asymmetric(low, high)
            )
            ranges.update(dict.fromkeys(group, limits))
    return ranges


def before_nms(model: InferenceModel) -> InferenceModel:
    """The model cut before its NMS, where it has one: scores and boxes can be compared value by value."""
    block = model.program.global_block()
    nms = next((op for op in block.ops if op.type == _NMS), None)
    if nms is None:
        return model
    names = [nms.input("Scores")[0], nms.input("BBoxes")[0]]
    program = with_outputs(model.program, model.feeds, names)
    block = program.global_block()
    used = {name for op in block.ops for name in op.input_arg_names}
    feeds = tuple(name for name in model.feeds if name in used)
    return InferenceModel(program, feeds, tuple(block.var(name) for name in names))


def _copy(folder: ModelFolder, scratch: Path) -> None:
    scratch.mkdir(parents=True, exist_ok=True)
    for source, name in ((folder.model, MODEL), (folder.params, PARAMS)):
        with whole_file(scratch / name, "wb") as stream:
            stream.write(source.read_bytes())
