"""Load a detector's weights from a file, and save them to one."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Union

import numpy as np
from paddle import Tensor, nn, to_tensor

from picoquant.errors import WeightsError
from picoquant.weight_files.files import State, read_weights, write_weights
from picoquant.weight_files.quantised import float_weights, input_ranges

LOG = logging.getLogger("picoquant")

__all__ = ["LoadReport", "load_backbone_weights", "load_weights", "read_weights", "save_weights"]


@dataclass(frozen=True)
class LoadReport:
    """The result of `load_weights`.

    Attributes:
        loaded: number of parameters and buffers that were set from the file.
        skipped: names of the class layers' parameters that the file holds for another number of classes;
            their class rows keep the network's values.
    """

    loaded: int
    skipped: tuple[str, ...]


def load_weights(model: nn.Layer, path: Union[str, Path]) -> LoadReport:
    """Load a weights file written by PaddleDetection or `save_weights` into a detector.

    Class layers with another number of classes in the file keep the network's values (if such a layer also
    predicts boxes, its box rows are loaded). All other parameters must be in the file with the network's
    shapes, and the file must hold no further ones.

    Raises: `WeightsError` when the file is missing, is not a weights file, holds another architecture or
        values that are not finite.
    """
    state = _read_float_weights(path)
    own = model.state_dict()
    classes = {f"head.{name}": count for name, count in model.head.class_rows().items()}
    aliases = _aliases(model)
    new, skipped, wrong = {}, [], []
    for name, value in own.items():
        if name not in state:
            if aliases[name].isdisjoint(state):
                wrong.append(f"{name} is missing")
            continue
        rows = classes.get(name)
        if tuple(state[name].shape) == tuple(value.shape):
            new[name] = state[name]
        elif rows is not None and _other_class_count(state[name], value, rows):
            if aliases[name].isdisjoint(skipped):
                skipped.append(name)
            if value.shape[0] > rows:
                new[name] = _box_rows(state[name], value, rows)
        else:
            shapes = f"{list(state[name].shape)} in the file, {list(value.shape)} in the network"
            wrong.append(f"{name} is {shapes}")
    wrong += [f"{name} is not in the network" for name in state if name not in own]
    if wrong:
        raise WeightsError(
            f"{path}: weights of another architecture: {len(new)} of {len(own)} parameters match; "
            f"{wrong[0]}. Use the configuration these weights were trained with"
        )
    _assign(model, new, path)
    return LoadReport(loaded=len(new), skipped=tuple(skipped))


def load_backbone_weights(model: nn.Layer, path: Union[str, Path]) -> LoadReport:
    """Load the backbone's weights from a file of a classifier or a detector; other layers are ignored.

    Raises: `WeightsError` when the file is missing or is not a weights file, or when a parameter of the
        backbone is missing, has another shape or is not finite.
    """
    state = _read_float_weights(path)
    if any(name.startswith("backbone.") for name in state):
        state = {
            name[len("backbone.") :]: value for name, value in state.items() if name.startswith("backbone.")
        }
    own = model.backbone.state_dict()
    new = {
        name: state[name]
        for name, value in own.items()
        if name in state and tuple(state[name].shape) == tuple(value.shape)
    }
    if len(new) < len(own):
        example = next(name for name in own if name not in new)
        found = f"{list(state[example].shape)} in the file" if example in state else "missing"
        raise WeightsError(
            f"{path}: weights of another backbone: {len(new)} of {len(own)} parameters match; "
            f"{example} is {found}, {list(own[example].shape)} in the network"
        )
    _assign(model.backbone, new, path)
    return LoadReport(loaded=len(new), skipped=())


def save_weights(
    model_or_state: Union[nn.Layer, Mapping[str, Union[Tensor, np.ndarray]]],
    path: Union[str, Path],
) -> None:
    """Write weights for `load_weights`, atomically; `paddle.load` also reads a `.pdparams` file.

    Args:
        model_or_state: a network, or its parameters and buffers by name.
        path: the file; its suffix, `.pdparams`, `.safetensors` or `.npz`, selects the format.

    Raises: `UserError` for another suffix, or when the disk cannot be written.
    """
    state = model_or_state.state_dict() if isinstance(model_or_state, nn.Layer) else model_or_state
    write_weights({name: np.array(value) for name, value in state.items()}, path)


def _read_float_weights(path: Union[str, Path]) -> State:
    state, scales = float_weights(_without_prefix(read_weights(path), "module."))
    if scales:
        LOG.warning(
            "%s: saved by quantisation-aware training: its float weights are loaded; of the %d numbers of its "
            "quantisers the ranges of inputs go with an export, and `picoquant quantize` starts from them where "
            "Quantize.ranges is weights, else finds its own",
            path,
            scales,
        )
    return state


def input_ranges_of(model: nn.Layer, path: Union[str, Path]) -> dict[str, float]:
    """The ranges of layers' inputs that a weights file holds, by the name of the variable of the layer's weights.

    Args:
        model: a `PicoDet`.
        path: the file; of a float network it holds none.

    Raises: `WeightsError` when it is no weights file.
    """
    own = model.state_dict()
    found = input_ranges(_without_prefix(read_weights(path), "module."))
    return {own[f"{name}.weight"].name: absmax for name, absmax in found.items() if f"{name}.weight" in own}


def _without_prefix(state: State, prefix: str) -> State:
    if not all(name.startswith(prefix) for name in state):
        return state
    return {name[len(prefix) :]: value for name, value in state.items()}


def _aliases(model: nn.Layer) -> dict[str, set[str]]:
    """Name -> all names of the same tensor; PicoHeadV2's prediction layers have two names each."""
    names: dict[int, set[str]] = {}
    for name, value in model.state_dict().items():
        names.setdefault(id(value), set()).add(name)
    return {name: same for same in names.values() for name in same}


def _other_class_count(found: np.ndarray, own: Tensor, rows: int) -> bool:
    """Whether a file's array differs from the network's only in its number of class rows (here `rows`)."""
    classes = found.shape[0] - (own.shape[0] - rows) if found.ndim else 0
    return classes >= 1 and tuple(found.shape[1:]) == tuple(own.shape[1:])


def _box_rows(found: np.ndarray, own: Tensor, rows: int) -> np.ndarray:
    """The network's first `rows` rows, those of the classes, followed by the file's box rows."""
    mixed = own.numpy().copy()
    mixed[rows:] = found[len(found) - (len(mixed) - rows) :]
    return mixed


def _assign(layer: nn.Layer, new: State, path: Union[str, Path]) -> None:
    for name, value in new.items():
        if not np.isfinite(value).all():
            raise WeightsError(f"{path}: {name} holds values that are no finite numbers")
    own = layer.state_dict()
    for name, value in new.items():
        own[name].set_value(to_tensor(value))
