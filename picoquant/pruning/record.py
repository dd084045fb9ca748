"""What was removed from a network, beside the file of its weights: by it a later command builds the network."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from picoquant.errors import WeightsError
from picoquant.storage.files import write_json

_LARGEST = 1 << 24  # of the file, bytes
_MOST = 1 << 16  # of a length


def record_of(weights: Path) -> Path:
    """The record beside a file of weights: `best.pruned.json` beside `best.pdparams`."""
    return weights.with_name(f"{weights.stem}.pruned.json")


def write_record(
    weights: Path,
    shapes: Mapping[str, Sequence[int]],
    removed: Mapping[str, Sequence[int]],
    macs: Sequence[int],
) -> None:
    """Write the record beside a file of weights.

    Args:
        weights: the file; need not be there yet.
        shapes: of all parameters and buffers, by name.
        removed: number of filters before and after, by name of the convolution's weights.
        macs: multiply-accumulates of an image before and after.
    """
    content: dict[str, Any] = {
        "shapes": {name: list(shape) for name, shape in shapes.items()},
        "filters": {name: list(counts) for name, counts in removed.items()},
        "macs": list(macs),
    }
    write_json(record_of(weights), content)


def copy_record(source: Path, out: Path) -> None:
    """Copy the record beside a file of weights, where it has one, to beside a copy of them."""
    if record_of(source).is_file() and record_of(source).resolve() != record_of(out).resolve():
        write_json(record_of(out), json.loads(record_of(source).read_text("utf-8")))


def read_shapes(weights: Path) -> dict[str, tuple[int, ...]] | None:
    """Shapes of parameters by name, of the record beside a file of weights; None where it has none.

    Raises: `WeightsError` for a damaged record.
    """
    path = record_of(weights)
    if not path.is_file():
        return None
    try:
        if path.stat().st_size > _LARGEST:
            raise ValueError
        shapes = json.loads(path.read_text("utf-8"))["shapes"]
        found = {str(name): tuple(shape) for name, shape in shapes.items()}
        whole = all(type(size) is int and 0 <= size < _MOST for shape in found.values() for size in shape)
        if not whole:
            raise ValueError
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise WeightsError(
            f"{path}: damaged: it says which shapes the pruned network of {weights.name} has; copy it once more, or "
            "train again"
        ) from error
    return found
