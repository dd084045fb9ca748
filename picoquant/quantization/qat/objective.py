"""What training makes small: how far the student is from its teacher."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from picoquant.quantization.ptq.detection_error import DetectionError
from picoquant.quantization.qat.distillation import distillation_loss, distilled_pairs
from picoquant.quantization.qat.student import Student
from picoquant.quantization.settings import DistillationSettings


class Objective(Protocol):
    """A loss on tensors of both networks.

    Attributes:
        teacher_names, student_names: of the tensors.
        of_images: whether the loss of a batch is the mean of its images' losses, and nothing else in a step depends on
            which images are run together.
    """

    teacher_names: tuple[str, ...]
    student_names: tuple[str, ...]
    of_images: bool

    def __call__(self, teacher: Mapping[str, Any], student: Mapping[str, Any]) -> Any:
        """The loss, a scalar, of tensors by name."""


class ConfiguredObjective:
    """What section `Distillation` says.

    Raises: `ConfigError` for a node that the student does not have.
    """

    of_images = False  # ranges and statistics follow batches

    def __init__(self, student: Student, settings: DistillationSettings) -> None:
        self._groups, self._settings = distilled_pairs(student.graph, settings), settings
        pairs = [pair for group in self._groups for pair in group]
        self.teacher_names = tuple(sorted({name for name, _ in pairs}))
        self.student_names = tuple(dict.fromkeys(name for _, name in pairs))

    def __call__(self, teacher: Mapping[str, Any], student: Mapping[str, Any]) -> Any:
        """See `Objective`."""
        return distillation_loss(self._groups, self._settings, teacher, student)


class DetectionObjective:
    """The error of the detections, see `DetectionError`; the teacher has the student's outputs, with the same names."""

    of_images = True

    def __init__(self, error: DetectionError) -> None:
        self._error = error
        self.teacher_names = self.student_names = error.names

    def __call__(self, teacher: Mapping[str, Any], student: Mapping[str, Any]) -> Any:
        """See `Objective`."""
        return self._error.between(*([one[name] for name in self._error.names] for one in (teacher, student)))
