"""What is analysed: a float network, and the ranges and weights with which INT8 holds it.

An FP32 model gets the ranges of its calibration images, and its weights are rounded to nearest: what plain
post-training quantisation makes of it. An INT8 model is taken with its own ranges, and with its weights as
they are: in float, but on the levels of INT8.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from picoquant.errors import DataError
from picoquant.int8.files import open_network
from picoquant.int8.operators import QuantizableOperator, quantizable_operators
from picoquant.int8.passes.activations import TargetTensors, target_tensors
from picoquant.int8.passes.weights import rounded_weight
from picoquant.int8.quant_params import QuantParams
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.batch_norm_folding import fold_folder
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.paddle_program.model_folder import MODEL, PARAMS, ModelFolder
from picoquant.paddle_program.program import copy_program
from picoquant.quantization.analysis.layers import Layer, find_layers
from picoquant.quantization.analysis.statistics import Values, Watch
from picoquant.quantization.engine.convolution import Convolutions
from picoquant.quantization.engine.network import computable
from picoquant.quantization.engine.simulation import Simulation
from picoquant.quantization.final_nodes import final_nodes

_NMS = "multiclass_nms3"


@dataclass(frozen=True)
class Network:
    """A network to analyse.

    Attributes:
        kind: `fp32` or `int8`.
        model: the float program, batch-norm folded.
        convolutions: compute them.
        tensors: what an NPU holds in INT8.
        layers: operators with weights, first to last.
        ranges: by tensor; an INT8 model may lack some.
        rounded: by layer name, the weight with INT8's error: rounded to nearest. Of an INT8 model the
            float weights are not known; there its own weight is moved by a random part of up to half a level,
            which is an error of the same size.
    """

    kind: str
    model: ProgramModel
    convolutions: Convolutions
    tensors: TargetTensors
    layers: tuple[Layer, ...]
    ranges: Mapping[str, QuantParams]
    rounded: Mapping[str, np.ndarray]

    def fully_quantised(self, outputs: Sequence[str]) -> Simulation:
        """The network with every weight and every tensor that has a range in INT8."""
        weights = {}
        if self.kind == "fp32":
            weights = {layer.operator.weight: self.rounded[layer.name] for layer in self.layers}
        return self.simulation(self.ranges, weights, outputs)

    def simulation(
        self,
        ranges: Mapping[str, QuantParams],
        weights: Mapping[str, np.ndarray] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> Simulation:
        """The network with some tensors and weights in INT8; see `Simulation`."""
        return Simulation(self.model, ranges, weights, outputs, self.convolutions)

    @property
    def batch_size(self) -> int:
        """Images that the program takes at a time; -1 for any number."""
        shapes = [self.model.shape(name) for name in self.model.inputs]
        outputs = [self.model.shape(name) for name in self.model.outputs]
        return max(shape[0] for shape in [*shapes, *(shape for shape in outputs if len(shape) == 3)])


def load_float(
    folder: ModelFolder, scratch: Path, convolutions: Convolutions, quant: QuantAwareSettings
) -> Network:
    """An FP32 model, its batch-norm folded; without ranges yet (`with_ranges`).

    Args:
        folder: is not changed.
        scratch: gets a copy.
        convolutions: compute them.
        quant: which operators become INT8, and how their weights are rounded.

    Raises: `WeightsError` for a model that cannot be read, is quantised already or has nothing to quantise.
    """
    _copy(folder, scratch)
    fold_folder(scratch)
    model = comparable(ProgramModel.load(scratch))
    operators = quantizable_operators(model, quant)
    tensors = target_tensors(model.graph())
    layers = find_layers(model.graph(), operators)
    rounded = {
        layer.name: rounded_weight(
            model.values[layer.operator.weight], layer.operator.axis, quant.weight_bits
        )
        for layer in layers
    }
    return Network("fp32", model, convolutions, tensors, layers, {}, rounded)


def load_int8(folder: ModelFolder, convolutions: Convolutions, seed: int = 0) -> Network:
    """An INT8 model in Paddle Lite's form, with its own ranges and weights.

    Args:
        folder: is not changed.
        convolutions: compute them.
        seed: of the weights' random error.

    Raises: `WeightsError` for a float model or one in another form.
    """
    network = open_network(folder)
    model = comparable(ProgramModel(network.program, network.values, str(folder.model)))
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
    return Network("int8", model, convolutions, tensors, layers, ranges, rounded)


def observe(
    network: Network, names: Sequence[str], feeds: Iterable[Mapping[str, np.ndarray]]
) -> dict[str, Values]:
    """Statistics of tensors of the float network.

    Args:
        network: run in float.
        names: of the tensors.
        feeds: images, arrays by input name.

    Raises: `DataError` naming the first tensor that is not finite, and the image.
    """
    run = network.simulation({}, outputs=names)
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


def comparable(model: ProgramModel) -> ProgramModel:
    """The model cut before its NMS, where it has one: scores and boxes can be compared value by value.

    Where an output needs an operator that the engine does not know, the last tensors with weights are the outputs.
    """
    nms = next((op for op in model.operators if op.type == _NMS), None)
    if nms is not None:
        model = model.with_outputs([nms.input("Scores")[0], nms.input("BBoxes")[0]])
    graph = model.graph()
    if computable(graph, graph.outputs) != graph.outputs:
        model = model.with_outputs(computable(graph, final_nodes(graph)))
    return model


def _copy(folder: ModelFolder, scratch: Path) -> None:
    scratch.mkdir(parents=True, exist_ok=True)
    copy_program(folder.model, scratch / MODEL)
    shutil.copyfile(folder.params, scratch / PARAMS)
