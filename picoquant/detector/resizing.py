"""Layers made smaller in place: a network whose filters were removed has other shapes than its settings say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import paddle
from paddle import Tensor, nn

from picoquant.detector.modes import evaluation_mode
from picoquant.errors import WeightsError

_SIDE = 64  # pixels of the black image on which a resized network is tried


def resize_layers(model: nn.Layer, arrays: Mapping[str, np.ndarray]) -> None:
    """Give parameters and buffers other values, of other shapes.

    A convolution in groups keeps the number of filters of a group: its groups become fewer. Whether the shapes fit
    together is not looked at, see `require_fitting`.

    Args:
        model: changed in place.
        arrays: the new values by name in `state_dict()`; a tensor with several names is set by any of them.

    Raises: `WeightsError` for filters that do not divide into groups.
    """
    named = {id(value): name for name, value in model.state_dict().items() if name in arrays}
    for layer in model.sublayers(include_self=True):
        held = [*layer.parameters(include_sublayers=False), *layer.buffers(include_sublayers=False)]
        for value in held:
            if id(value) in named:
                _set(value, arrays[named[id(value)]])
        if isinstance(layer, nn.Conv2D):
            _fit_convolution(layer)
        elif isinstance(layer, (nn.BatchNorm2D, nn.SyncBatchNorm)):
            layer._num_features = layer.weight.shape[0]


def take_shapes(model: nn.Layer, shapes: Mapping[str, Sequence[int]]) -> None:
    """Give parameters and buffers other shapes; those that change hold zeros until weights are loaded.

    Args:
        model: changed in place.
        shapes: by name in `state_dict()`; names that the network lacks, and shapes that it has, are left out.

    Raises: as `resize_layers`; `WeightsError` for another number of axes.
    """
    arrays = {}
    for name, value in model.state_dict().items():
        shape = tuple(shapes.get(name, value.shape))
        if shape == tuple(value.shape):
            continue
        if len(shape) != len(value.shape) or min(shape) < 1:
            raise WeightsError(f"{name} is {list(shape)}, {list(value.shape)} in the network")
        arrays[name] = np.zeros(shape, np.float32)
    resize_layers(model, arrays)


def require_fitting(model: nn.Layer) -> None:
    """Run a resized network on a black image.

    Args:
        model: a `PicoDet`; its mode is restored.

    Raises: `WeightsError` when the shapes of its layers do not fit together.
    """
    try:
        with evaluation_mode(model), paddle.no_grad():
            model(paddle.zeros([1, 3, _SIDE, _SIDE]))
    except (ValueError, RuntimeError, AssertionError) as error:
        said = next(
            (line.strip() for line in str(error).splitlines() if "rror:" in line), type(error).__name__
        )
        raise WeightsError(f"the shapes of its layers do not fit together ({said})") from error


def _set(value: Tensor, array: np.ndarray) -> None:
    array = np.ascontiguousarray(array, np.float32)
    if tuple(array.shape) == tuple(value.shape):
        value.set_value(array)
        return
    place = value.place
    at = paddle.CUDAPlace(place.gpu_device_id()) if place.is_gpu_place() else paddle.CPUPlace()
    value.value().get_tensor().set(array, at)


def _fit_convolution(layer: nn.Conv2D) -> None:
    """Set the numbers that a convolution keeps beside its weights by these."""
    filters, inputs = layer.weight.shape[:2]
    if filters == layer._out_channels and inputs * layer._groups == layer._in_channels:
        return
    of_group = layer._out_channels // layer._groups
    if layer._groups > 1:
        if filters % of_group:
            raise WeightsError(f"{filters} filters do not divide into groups of {of_group}")
        layer._groups = filters // of_group
    layer._out_channels, layer._in_channels = filters, inputs * layer._groups
