"""Finds stored values that are NaN or infinite, which would otherwise only show as a mAP of 0."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from picoquant.errors import WeightsError
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.params import read_params
from picoquant.paddle_program.program import read_program


def require_finite_params(folder: ModelFolder) -> None:
    """Check that all stored values of an exported model are finite.

    Raises: `WeightsError` naming the first variable that is not finite; or if the file is damaged or belongs
        to another program, on which Paddle itself might crash.
    """
    try:
        values = read_params(read_program(folder.model), folder.params)
    except WeightsError as error:
        raise WeightsError(
            f"{folder.params} does not fit {folder.model.name}: export both again ({error})"
        ) from error
    require_finite(values, folder.params)


def require_finite(values: Mapping[str, np.ndarray], path: Path) -> None:
    """Check that all values are finite.

    Args:
        values: arrays of any type by variable.
        path: their file, for error messages.

    Raises: `WeightsError` naming the first variable that is not finite.
    """
    for name, value in values.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise WeightsError(
                f"{path}: {name} holds values that are no finite numbers: make the model again from whole weights"
            )
