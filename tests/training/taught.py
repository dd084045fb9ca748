"""A network with a teacher, for tests."""

from __future__ import annotations

import picoquant  # isort: skip  (zlib before paddle)
import paddle

from picoquant.training.distillation.settings import FgdSettings, KdSettings, LdSettings, TeachingSettings
from picoquant.training.distillation.student import Student, Taught
from tests.training import tiny

EVERYTHING = TeachingSettings(FgdSettings(), LdSettings(), KdSettings())


def with_teacher(model, settings=EVERYTHING, teacher=None):
    """A student of a network of the same kind with other weights; runs as it is, not exported."""
    paddle.seed(9)
    teacher = teacher or picoquant.build_detector(tiny.CONFIG, model.num_classes)
    teacher.eval()

    @paddle.no_grad()
    def teach(image):
        maps = teacher.features(image)
        scores, distances = teacher.head.raw(maps)
        return Taught(tuple(maps), paddle.concat(scores, 1), paddle.concat(distances, 1))

    return Student(model, teach, teacher.neck.out_channels[0], settings)
