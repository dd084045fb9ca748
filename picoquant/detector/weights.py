"""Reading and writing `.pdparams` files: pickles of parameter name -> array, as paddle saves them.

A pickle can run code. The reader here builds NumPy arrays and plain containers and nothing else, so
that weights from anywhere can be opened.
"""

from __future__ import annotations

import pickle
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Union

import numpy as np
from paddle import Tensor, nn, to_tensor

from picoquant.errors import WeightsError
from picoquant.files import whole_file

State = dict[str, np.ndarray]

_NAME_TABLE = "StructuredToParameterName@@"  # paddle's own table beside the parameters
_WRAPPERS = ("model", "state_dict")  # keys under which checkpoints of other tools keep the parameters


@dataclass(frozen=True)
class LoadReport:
    """What `load_weights` did.

    Attributes:
        loaded: how many parameters and buffers took their value from the file.
        skipped: names of the class layers' parameters, whose class count in the file is another;
            their class rows keep the values they had.
    """

    loaded: int
    skipped: tuple[str, ...]


def load_weights(model: nn.Layer, path: Union[str, Path]) -> LoadReport:
    """Give a detector the weights of a file that PaddleDetection or `save_weights` wrote.

    Class layers of another class count are left as they are (a class layer that also predicts boxes
    takes its box rows); everything else must fit, nothing missing and nothing left over.

    Raises: `WeightsError` when the file is missing, is no such file, or holds another architecture.
    """
    state = _without_prefix(read_weights(path), "module.")
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
    """Give the backbone the weights of a classifier (or of a detector); other layers are ignored.

    Raises: `WeightsError` when a parameter of the backbone is missing or has another shape.
    """
    state = _without_prefix(read_weights(path), "module.")
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
    """Write a `.pdparams` that `load_weights` and `paddle.load` read, whole or not at all."""
    state = model_or_state.state_dict() if isinstance(model_or_state, nn.Layer) else model_or_state
    arrays = {name: np.array(value) for name, value in state.items()}
    with whole_file(Path(path), "wb") as stream:
        pickle.dump(arrays, stream, protocol=4)


def read_weights(path: Union[str, Path]) -> State:
    """The arrays of a `.pdparams` file by name, nothing else of it.

    Raises: `WeightsError` when it is missing, damaged, no weights, or wants to run code.
    """
    try:
        with open(path, "rb") as stream:
            content = _ArraysOnly(stream, path).load()
    except WeightsError:
        raise
    except FileNotFoundError as error:
        raise WeightsError(f"no such file: {path}; name a .pdparams file of trained weights") from error
    except OSError as error:
        raise WeightsError(f"{path}: cannot be read: {error.strerror}") from error
    except Exception as error:  # a damaged pickle raises anything
        raise WeightsError(f"{path}: no .pdparams file, or a damaged one ({error})") from error
    while isinstance(content, Mapping) and any(isinstance(content.get(key), Mapping) for key in _WRAPPERS):
        content = next(content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping))
    if not isinstance(content, Mapping):
        raise WeightsError(f"{path}: holds a {type(content).__name__}, no weights by name")
    state = {
        str(name): _array(value, f"{path}: {name}") for name, value in content.items() if name != _NAME_TABLE
    }
    if not state:
        raise WeightsError(f"{path}: holds no weights")
    return state


class _ArraysOnly(pickle.Unpickler):
    """An unpickler that knows the few callables an array needs."""

    def __init__(self, stream: Any, path: Union[str, Path]) -> None:
        super().__init__(stream, encoding="latin1")
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        """The callable a pickle asks for by name.

        Raises: `WeightsError` for any that is not on the list.
        """
        module = module.replace("numpy._core", "numpy.core").replace("__builtin__", "builtins")
        allowed = _callables()
        if (module, name) not in allowed:
            raise WeightsError(f"{self._path}: refused: it is not only weights, it asks for {module}.{name}")
        return allowed[module, name]


def _callables() -> dict[tuple[str, str], Callable[..., Any]]:
    from numpy.core import multiarray, numeric

    def to_bytes(text: str, encoding: str) -> bytes:
        if encoding not in ("latin1", "latin-1"):
            raise ValueError(f"bytes written as {encoding}")
        return text.encode("latin1")

    def lod_tensor(expression: str, scope: Mapping[str, Any]) -> Any:
        # paddle.save writes a static graph's tensor as eval('data', {'data': array}).
        if expression != "data":
            raise ValueError("an expression to evaluate")
        return scope["data"]

    return {
        ("numpy", "ndarray"): np.ndarray,
        ("numpy", "dtype"): np.dtype,
        ("numpy.core.multiarray", "_reconstruct"): multiarray._reconstruct,
        ("numpy.core.multiarray", "scalar"): multiarray.scalar,
        ("numpy.core.numeric", "_frombuffer"): numeric._frombuffer,
        ("_codecs", "encode"): to_bytes,
        ("collections", "OrderedDict"): OrderedDict,
        ("builtins", "tuple"): tuple,
        ("builtins", "list"): list,
        ("builtins", "dict"): dict,
        ("builtins", "bytearray"): bytearray,
        ("builtins", "eval"): lod_tensor,
    }


def _array(value: Any, where: str) -> np.ndarray:
    """A parameter as float32; paddle saves some as (name, array)."""
    if isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str):
        value = value[1]
    if not isinstance(value, np.ndarray) or value.dtype.kind != "f":
        kind = value.dtype if isinstance(value, np.ndarray) else type(value).__name__
        raise WeightsError(f"{where} is a {kind}, no array of floating-point numbers")
    return value.astype(np.float32)


def _without_prefix(state: State, prefix: str) -> State:
    if not all(name.startswith(prefix) for name in state):
        return state
    return {name[len(prefix) :]: value for name, value in state.items()}


def _aliases(model: nn.Layer) -> dict[str, set[str]]:
    """All names of the same tensor, by each of them."""
    names: dict[int, set[str]] = {}
    for name, value in model.state_dict().items():
        names.setdefault(id(value), set()).add(name)
    return {name: same for same in names.values() for name in same}


def _other_class_count(found: np.ndarray, own: Tensor, rows: int) -> bool:
    classes = found.shape[0] - (own.shape[0] - rows) if found.ndim else 0
    return classes >= 1 and tuple(found.shape[1:]) == tuple(own.shape[1:])


def _box_rows(found: np.ndarray, own: Tensor, rows: int) -> np.ndarray:
    """The network's own class rows above the file's box rows."""
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
