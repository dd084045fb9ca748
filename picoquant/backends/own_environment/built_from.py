"""A board's file, and the ONNX beside it that it was built from, which the tool's simulator runs in its place."""

from __future__ import annotations

from pathlib import Path

from picoquant.errors import ToolError, WeightsError
from picoquant.storage.files import sha256


def require_built_from(file: Path, form: Path, digest: str) -> None:
    """Check that a file is the one that was built from a form.

    Args:
        file: the board's.
        form: the ONNX.
        digest: SHA-256 of the file that was built, as the form has it.

    Raises: `WeightsError` when it is another one, `ToolError` when it cannot be read.
    """
    try:
        same = sha256(file) == digest
    except OSError as error:
        raise ToolError(f"cannot read {file}: {error.strerror or error}") from error
    if not same:
        raise WeightsError(
            f"{file} is not what was built from {form.name}: export or package the model again"
        )
