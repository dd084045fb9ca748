"""Where a quantisation finds and leaves its files."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from picoquant.paddle_program.model_folder import MODEL, PARAMS
from picoquant.storage.files import sha256

QAT_LOG = "qat.csv"  # a row for each step of QAT, in the work folder and beside the INT8 model


@dataclass(frozen=True)
class QuantizationPaths:
    """The folders of a quantisation.

    Attributes:
        out: receives the INT8 model.
        work: kept between runs: the prepared student, checkpoints, `QAT_LOG`.
    """

    out: Path
    work: Path

    @property
    def copies(self) -> Path:
        """Everything temporary; removed at the end."""
        return self.work / "models"

    @property
    def student(self) -> Path:
        """The model that is quantised, a copy whose files are replaced on the way."""
        return self.copies / "student"

    @property
    def teacher(self) -> Path:
        """The FP32 model that the student is compared with."""
        return self.copies / "teacher"

    @property
    def fp32(self) -> Path:
        """A copy of the model as it was passed in, where its mAP is needed at the end."""
        return self.copies / "fp32"

    @property
    def candidate(self) -> Path:
        """The INT8 model that is being evaluated, written again for each evaluation."""
        return self.copies / "int8"

    @property
    def full_integer(self) -> Path:
        """The simulation with every tensor in INT8."""
        return self.copies / "every_tensor"

    @property
    def calibration(self) -> Path:
        """The calibration batches."""
        return self.copies / "calibration"

    @property
    def prepared(self) -> Path:
        """The prepared student, kept for a run that continues."""
        return self.work / "student"

    def fingerprint(self, *more: Any) -> str:
        """A checksum of the models, student and teacher, and of whatever else decides the result.

        Args:
            more: values whose `repr` says what they are.
        """
        files = [folder / name for folder in (self.student, self.teacher) for name in (MODEL, PARAMS)]
        text = f"{more} {[sha256(file) for file in files]}"
        return hashlib.sha256(text.encode()).hexdigest()
