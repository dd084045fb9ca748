"""Where a quantisation finds and leaves its files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.model_folder import MODEL, PARAMS
from picoquant.storage.files import sha256


@dataclass(frozen=True)
class Places:
    """Where things are.

    Attributes:
        copies: holds `student` and `teacher`, copies of the models; removed at the end.
        out: gets the INT8 model.
        work: is kept between runs.
        config: what is known about the models' input.
    """

    copies: Path
    out: Path
    work: Path
    config: InferConfig

    @property
    def student(self) -> Path:
        """The folder of the model that is quantised."""
        return self.copies / "student"

    @property
    def fp32(self) -> Path:
        """A copy of the model as it was given, where its mAP is wanted at the end."""
        return self.copies / "fp32"

    def fingerprint(self, *more: Any) -> str:
        """Of the models and whatever else decides the result."""
        files = [
            folder / name for folder in (self.student, self.copies / "teacher") for name in (MODEL, PARAMS)
        ]
        text = f"{more} {[sha256(file) for file in files]}"
        return hashlib.sha256(text.encode()).hexdigest()
