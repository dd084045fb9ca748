"""Run a network once and record the work of its layers.

A multiply-accumulate (MAC) is one multiplication with its addition, in a convolution or a fully
connected layer; normalisation, activations, resizing and biases are not counted. PaddleDetection's
tables count multiplications and additions separately, and the other layers too: a little over twice as
much.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import paddle
from paddle import Tensor, nn


@dataclass(frozen=True)
class Use:
    """One run of a layer with weights.

    Attributes:
        name: the layer's name in the network, for example `backbone.conv1.conv`.
        weights: number of its weights, without biases.
        channels: number of output channels; with batch-norm folded in, each has one bias.
        inputs, outputs: number of values read and written.
        macs: multiply-accumulates.
    """

    name: str
    weights: int
    channels: int
    inputs: int
    outputs: int
    macs: int


@dataclass
class Record:
    """The record of a run: `uses` of layers with weights; `outputs`, (name, shape), of watched layers."""

    uses: list[Use] = field(default_factory=list)
    outputs: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)


def _macs(layer: nn.Layer, output: Tensor) -> int:
    """Multiply-accumulates of one run; Conv2D's weight is (out, in / groups, h, w), Linear's (in, out)."""
    if isinstance(layer, nn.Linear):
        return output.size * layer.weight.shape[0]
    _, inputs, height, width = layer.weight.shape
    return output.size * inputs * height * width


@contextmanager
def recording(model: nn.Layer, watched: dict[str, nn.Layer]) -> Iterator[Record]:
    """Record every run of the model's layers within the block, in evaluation mode and without gradients.

    The modes of the layers are restored afterwards.

    Args:
        watched: name -> layer whose outputs' shapes are recorded, where they are single tensors.
    """
    record, hooks = Record(), []

    def use(name: str) -> Any:
        def hook(layer: nn.Layer, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            channels = layer.weight.shape[1 if isinstance(layer, nn.Linear) else 0]
            weights = layer.weight.size
            record.uses.append(
                Use(name, weights, channels, inputs[0].size, output.size, _macs(layer, output))
            )

        return hook

    def watch(name: str) -> Any:
        def hook(layer: nn.Layer, inputs: tuple[Tensor, ...], output: Any) -> None:
            if isinstance(output, Tensor):
                record.outputs.append((name, tuple(output.shape)))

        return hook

    modes = [(layer, layer.training) for layer in model.sublayers(include_self=True)]
    try:
        for name, layer in model.named_sublayers():
            if isinstance(layer, (nn.Conv2D, nn.Linear)):
                hooks.append(layer.register_forward_post_hook(use(name)))
        for name, layer in watched.items():
            hooks.append(layer.register_forward_post_hook(watch(name)))
        model.eval()
        with paddle.no_grad():
            yield record
    finally:
        for hook in hooks:
            hook.remove()
        for layer, training in modes:
            layer.training = training


def count_parameters(layer: nn.Layer) -> int:
    """Number of weights and biases, shared ones counted once; without batch-norms' means and variances."""
    statistics = {
        id(value)
        for norm in layer.sublayers(include_self=True)
        for value in (getattr(norm, "_mean", None), getattr(norm, "_variance", None))
        if isinstance(value, Tensor)
    }
    return sum(value.size for value in layer.parameters() if id(value) not in statistics)
