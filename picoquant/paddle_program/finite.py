"""Values that are no finite numbers, found where they are rather than by a mAP of 0."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from picoquant.errors import WeightsError
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.params import read_params
from picoquant.paddle_program.program import read_program


def require_finite_params(folder: ModelFolder) -> None:
    """Look at the stored values of an exported model.

    Raises: `WeightsError` naming the first one that is not finite; or when the file is damaged or another
        program's, on which paddle itself might crash.
    """
    try:
        values = read_params(read_program(folder.model), folder.params)
    except WeightsError as error:
        raise WeightsError(
            f"{folder.params} does not fit {folder.model.name}: export both again ({error})"
        ) from error
    require_finite(values, folder.params)


def require_finite(values: Mapping[str, np.ndarray], path: Path) -> None:
    for name, value in values.items():
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise WeightsError(
                f"{path}: {name} holds values that are no finite numbers: make the model again from whole weights"
            )
