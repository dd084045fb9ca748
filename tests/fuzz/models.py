"""Exported models made bad: fields of their protobuf messages changed, so that they can still be read."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st

# How a field is changed: another one's value, an edge value, taken out, emptied, a second time, an element moved.
_CHANGES = st.sampled_from(["other", "edge", "gone", "empty", "twice", "move"])
_EDGES = {
    int: (0, 1, -1, 2, 7, 255, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63)),
    float: (0.0, -1.0, 1e38, float("nan"), float("inf")),
    bool: (True, False),
    str: ("", "x", "feed", "fetch", "image", "\N{PILE OF POO}", "x" * 3000),
    bytes: (b"", b"\0", b"x", b"\xff" * 100),
}
_PLACE = st.lists(st.integers(0, 200), min_size=3, max_size=10)
EDITS = st.lists(st.tuples(_PLACE, _CHANGES, st.integers(0, 500)), min_size=1, max_size=3)


@functools.lru_cache(None)
def _whole() -> dict[str, bytes]:
    """Files of a small INT8 model, Paddle's and ONNX."""
    from picoquant.backends.onnx.export import write_onnx_form
    from picoquant.backends.source import Source
    from tests.networks.small_int8 import write_small

    with tempfile.TemporaryDirectory(prefix="picoquant-fuzz-") as scratch:
        folder = write_small(Path(scratch))
        write_onnx_form(Source(folder), Path(scratch) / "model.onnx")
        return {path.name: path.read_bytes() for path in sorted(Path(scratch).iterdir())}


def _values(message: Any, found: dict) -> None:
    """Values of each sort in a message, for `other`."""
    for known, value in message.ListFields():
        repeated = hasattr(value, "extend")
        for one in value if repeated else [value]:
            if known.message_type:
                _values(one, found)
            else:
                found.setdefault(type(one), {})[one] = None


def _edit(message: Any, place: list[int], change: str, number: int, others: dict) -> None:
    """Change one field, where the numbers lead."""
    while True:
        fields = message.ListFields()
        if not fields:
            return
        step, *place = place
        field, value = fields[step % len(fields)]
        repeated = hasattr(value, "extend")
        index = (place.pop(0) if place else 0) % len(value) if repeated else 0
        inner = value[index] if repeated else value
        if (
            field.message_type
            and place
            and not (change in ("twice", "move", "gone", "empty") and len(place) < 2)
        ):
            message = inner
            continue
        break
    if change in ("gone", "empty"):
        if repeated:
            del value[index if change == "gone" else slice(None)]
        else:
            message.ClearField(field.name)
    elif change in ("twice", "move") and repeated:
        elements = list(value)
        element = elements[index] if change == "twice" else elements.pop(index)
        elements.insert(number % (len(elements) + 1), element)
        if field.message_type:  # elements live in the list that is emptied
            elements = [type(one).FromString(one.SerializePartialToString()) for one in elements]
        del value[:]
        value.extend(elements)
    elif not field.message_type:
        known = list(others.get(type(inner), {})) if change == "other" else _EDGES[type(inner)]
        new = known[number % len(known)] if known else inner
        try:
            if repeated:
                value[index] = new
            else:
                setattr(message, field.name, new)
        except ValueError:  # too large for the field, or no value of its enumeration
            return


def _edited(name: str, edits: list) -> bytes:
    import onnx
    from paddle.base.proto import framework_pb2

    kind = onnx.ModelProto if name.endswith("onnx") else framework_pb2.ProgramDesc
    message = kind.FromString(_whole()[name])
    others: dict = {}
    _values(message, others)
    for place, change, number in edits:
        _edit(message, place, change, number, others)
    return message.SerializePartialToString()


def models(name: str) -> st.SearchStrategy:
    """Changed copies of `model.pdmodel` or `model.onnx`."""
    return st.builds(lambda edits: (name, _edited(name, edits)), EDITS)


def run_model(folder: Path, case: tuple[str, bytes]) -> None:
    """The model on an image, as `predict` and `eval` run it."""
    from picoquant.backends.base import Machine
    from picoquant.packaging.open_model import open_model
    from picoquant.paddle_program.network_input import feed_of_image
    from picoquant.runtimes.backends import running
    from picoquant.runtimes.detect import detect

    for name, content in _whole().items():
        (folder / name).write_bytes(content)
    name, content = case
    (folder / name).write_bytes(content)
    tempfile.tempdir = str(folder)
    path, backend = (folder / name, "onnx") if name.endswith("onnx") else (folder, "paddle")
    with open_model(path) as model, running(model, backend, Machine(threads=1)) as ready:
        image = np.random.RandomState(0).randint(0, 256, (40, 50, 3), np.uint8)
        detect(ready.predict, ready.decoder, feed_of_image(image, model.config))


def run_program(folder: Path, case: tuple[str, bytes]) -> None:
    """A changed program where picoquant reads it itself: `check`, the way to ONNX, the float form."""
    from picoquant.backends.onnx.export import write_onnx_form
    from picoquant.backends.paddle.smoke_test import require_tried
    from picoquant.backends.paddle_lite.toolchain import find_opt
    from picoquant.backends.paddle_lite.x86_form import write_float_form
    from picoquant.backends.source import Source
    from picoquant.errors import UserError
    from picoquant.npu.check import check_model
    from picoquant.paddle_program.model_folder import ModelFolder
    from picoquant.targets.profiles import load_target

    for name, content in (*_whole().items(), case):
        (folder / name).write_bytes(content)
    tempfile.tempdir = str(folder)
    model, target = ModelFolder.open(folder), load_target("rv1126")
    require_tried(model)  # as the commands do
    refused: UserError | None = None
    for use in (
        lambda: check_model(model, target, find_opt(None)).to_json(),
        lambda: write_onnx_form(Source(model), folder / "made.onnx"),
        lambda: write_float_form(Source(model), folder / "float.pdmodel", folder / "float.pdiparams"),
    ):
        try:
            use()
        except UserError as error:
            refused = error
    if refused:
        raise refused
