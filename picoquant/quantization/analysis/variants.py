"""Programs that measure what quantising one layer alone costs, for all layers of a network.

Quantised alone means: the layer's input (for this layer only), its weight and its own result are rounded to
INT8; everything else stays in FP32. To measure that without running the whole network for each layer,

- one program computes every layer's result from the FP32 network's own tensors in all forms at once;
- the rest of the network then runs from the layer on, with the difference added to its result. A few programs
  suffice: each starts at a cut through the network, so that on average half of it is run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import paddle

from picoquant.int8.fake_quant_run import Simulation
from picoquant.int8.quant_params import QuantParams
from picoquant.paddle_program.static.onednn import use_onednn
from picoquant.paddle_program.static.programs import (
    InferenceModel,
    Inserter,
    output_names,
    strip_feed_fetch,
    write_variable,
)
from picoquant.quantization.analysis.layers import Layer
from picoquant.quantization.analysis.network import Network

# What is rounded: (input and result, weight).
FORMS = {"both": (True, True), "weights": (False, True), "activations": (True, False)}
# With `LocalForms` fewer programs than the 8 that an executor keeps compiled.
_CUTS = 6


def with_own_inputs(network: Network) -> tuple[InferenceModel, dict[str, str]]:
    """A copy of the network in which each layer's input is a tensor of its own.

    Returns: the copy, and the input's name by layer name; rounding it affects that layer alone.
    """
    program = network.model.program.clone(for_test=True)
    block = program.global_block()
    inputs = {}
    for layer in network.layers:
        op, index = _find(block, layer.operator.output)
        inputs[layer.name] = _alias(Inserter(block, index), block, layer)
        op._rename_input(layer.operator.activation, inputs[layer.name])
    program._sync_with_cpp()
    return InferenceModel(program, network.model.feeds, network.model.fetches), inputs


class LocalForms:
    """Every layer's result with its input, its weight or both in INT8, from the FP32 network's tensors.

    Args:
        network: what is analysed.
        more: names of further tensors of the FP32 network to return.
    """

    def __init__(self, network: Network, more: Sequence[str] = ()) -> None:
        program = network.model.program.clone(for_test=True)
        block, scope = program.global_block(), paddle.static.global_scope()
        ranges: dict[str, QuantParams] = {}
        self._exact = {layer.name: layer.output for layer in network.layers}
        self._forms: dict[tuple[str, str], str] = {}
        self._more = list(dict.fromkeys(more))
        self._own: list[str] = []
        for layer in network.layers:
            _, index = _find(block, layer.operator.output)
            inserter = Inserter(block, index)
            alias = _alias(inserter, block, layer)
            if layer.operator.activation in network.ranges:
                ranges[alias] = network.ranges[layer.operator.activation]
            inserter.index = max(_find(block, layer.output)[1] + 1, inserter.index)
            weight = f"{layer.name}@rounded_weight"
            inserter.variable(weight, block.var(layer.operator.weight), persistable=True)
            write_variable(scope, weight, network.rounded[layer.name])
            self._own.append(weight)
            for form, (activations, weights) in FORMS.items():
                name = _duplicate(
                    inserter, block, layer, form, alias if activations else None, weight if weights else None
                )
                self._forms[layer.name, form] = name
                if activations and layer.output in network.ranges:
                    ranges[name] = network.ranges[layer.output]
        program._sync_with_cpp()
        model = InferenceModel(program, network.model.feeds, network.model.fetches)
        outputs = [*self._exact.values(), *self._forms.values(), *self._more]
        self._run = Simulation(model, network.executor, ranges, {}, outputs)

    def __call__(
        self, feed: Mapping[str, np.ndarray]
    ) -> tuple[dict[str, dict[str, np.ndarray]], dict[str, np.ndarray]]:
        """Run a batch.

        Args:
            feed: arrays by input name, the batch first.

        Returns: by layer name and form, the error of the layer's result; and the further tensors by name.
        """
        values = iter(self._run(feed))
        exact = {name: next(values) for name in self._exact}
        moved: dict[str, dict[str, np.ndarray]] = {name: {} for name in self._exact}
        for name, form in self._forms:
            moved[name][form] = next(values) - exact[name]
        return moved, {name: next(values) for name in self._more}

    def close(self) -> None:
        """Free the weights."""
        paddle.static.global_scope().erase(self._own)


class RestOfNetwork:
    """The network from any layer on, in FP32, with an error added to that layer's result.

    Args:
        network: what is analysed.
        cuts: number of programs to build.
    """

    def __init__(self, network: Network, cuts: int = _CUTS) -> None:
        self._network = network
        self._layers = {layer.name: layer for layer in network.layers}
        self._scope = paddle.static.global_scope()
        self._parts: dict[str, _Part] = {}
        each = -(-len(network.layers) // cuts)
        for start in range(0, len(network.layers), each):
            group = network.layers[start : start + each]
            part = _Part(network, group)
            self._parts.update((layer.name, part) for layer in group)

    @property
    def tensors(self) -> tuple[str, ...]:
        """Names of the FP32 network's tensors that a call needs."""
        return tuple(dict.fromkeys(name for part in self._parts.values() for name in part.needs))

    def __call__(
        self, layer: str, moved: Sequence[np.ndarray], values: Mapping[str, np.ndarray]
    ) -> list[list[np.ndarray]]:
        """The network's outputs for each of several errors of one layer's result.

        Args:
            layer: its name.
            moved: the errors, `[N, ...]` each, shaped like the result.
            values: the `tensors` by name, for the same images.

        Returns: for each error, the outputs.
        """
        part = self._parts[layer]
        together = len(moved) if self._network.batch_size < 1 else 1
        results: list[list[np.ndarray]] = []
        for start in range(0, len(moved), together):
            some = moved[start : start + together]
            write_variable(self._scope, part.moves[layer], np.concatenate(some))
            feed = {
                name: np.concatenate([values[name]] * len(some)) if name in part.per_image else values[name]
                for name in part.needs
            }
            outputs = self._network.executor.run(part.program, feed=feed, fetch_list=part.fetches)
            write_variable(self._scope, part.moves[layer], np.zeros((1,) * some[0].ndim, np.float32))
            pieces = [np.split(output, len(some)) for output in outputs]
            results += [list(one) for one in zip(*pieces)]
        return results


class _Part:
    """The network from the first of some layers on.

    Attributes:
        program: that part of the network.
        moves: by layer, name of the variable that is added to its result.
        needs: names of the tensors that it starts from.
        per_image: those of them that have the batch first.
        fetches: names of the outputs.
    """

    def __init__(self, network: Network, layers: Sequence[Layer]) -> None:
        self.program = strip_feed_fetch(network.model.program.clone(for_test=True))
        block, scope = self.program.global_block(), paddle.static.global_scope()
        _, cut = _find(block, layers[0].operator.output)
        for _ in range(cut):
            block._remove_op(0, sync=False)
        self.moves, renamed = {}, {}
        for layer in layers:
            _, index = _find(block, layer.output)
            inserter, like = Inserter(block, index + 1), block.var(layer.output)
            name = f"{layer.name}@move"
            zero = (1,) * len(like.shape)
            variable = inserter.variable(name, like, persistable=True, shape=list(zero))
            write_variable(scope, name, np.zeros(zero, np.float32))
            result = inserter.variable(f"{layer.output}@moved", like)
            inputs = {"X": like, "Y": variable}
            inserter.operator("elementwise_add", inputs, {"Out": result}, {"axis": -1})
            for op in block.ops[inserter.index :]:
                op._rename_input(layer.output, result.name)
            self.moves[layer.name], renamed[layer.output] = name, result.name
        use_onednn(self.program)
        self.program._sync_with_cpp()
        self.fetches = [renamed.get(v.name, v.name) for v in network.model.fetches]
        made = {name for op in block.ops for name in op.output_arg_names}
        used = [name for op in block.ops for name in op.input_arg_names] + self.fetches
        needs = [n for n in dict.fromkeys(used) if n not in made and not block.var(n).persistable]
        self.needs = tuple(needs)
        self.per_image = {name for name in needs if (block.var(name).shape or (0,))[0] == -1}


def _find(block: Any, name: str) -> tuple[Any, int]:
    """The operator that computes a tensor, and its index."""
    return next((op, i) for i, op in enumerate(block.ops) if name in output_names(op) and op.type != "fetch")


def _alias(inserter: Inserter, block: Any, layer: Layer) -> str:
    """Insert a copy of a layer's input before the layer; its name is returned."""
    source = block.var(layer.operator.activation)
    alias = inserter.variable(f"{layer.name}@input", source)
    inserter.operator("assign", {"X": source}, {"Out": alias}, {})
    return alias.name


def _duplicate(
    inserter: Inserter, block: Any, layer: Layer, form: str, activation: str | None, weight: str | None
) -> str:
    """Insert a layer's operators again, with another input and weight; the name of their result is returned."""
    names: dict[str, str] = {}
    if activation is not None:
        names[layer.operator.activation] = activation
    if weight is not None:
        names[layer.operator.weight] = weight
    for made in layer.chain:
        op, _ = _find(block, made)
        for name in output_names(op):
            names[name] = inserter.variable(f"{name}@{form}", block.var(name)).name
        inputs, outputs = (
            {slot: [block.var(names.get(name, name)) for name in of(slot)] for slot in slots if of(slot)}
            for slots, of in ((op.input_names, op.input), (op.output_names, op.output))
        )
        inserter.operator(op.type, inputs, outputs, op.all_attrs())
    return names[layer.output]
