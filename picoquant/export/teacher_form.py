"""A teacher as a Paddle inference model for images of any size: what a student learns from, not boxes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import paddle
from paddle import Tensor, nn
from paddle.static import InputSpec

from picoquant.detector.modes import evaluation_mode
from picoquant.export.paddle_export import write_layer


class TeacherForm(nn.Layer):
    """A detector whose outputs are the neck's maps, then scores and distances, each where it is wanted.

    Args:
        detector: a `PicoDet`.
        maps, outputs: whether the neck's maps, and scores and distances, are wanted; at least one is.
        scale, shift: of R, G and B: image * scale + shift is what the detector was trained with.
    """

    def __init__(
        self, detector: nn.Layer, maps: bool, outputs: bool, scale: Sequence[float], shift: Sequence[float]
    ) -> None:
        super().__init__()
        self.detector, self._maps, self._outputs = detector, maps, outputs
        self.training = detector.training
        self._same = set(scale) == {1.0} and set(shift) == {0.0}
        for name, values in (("scale", scale), ("shift", shift)):
            self.register_buffer(name, paddle.to_tensor(list(values), "float32").reshape([1, 3, 1, 1]))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """`[N, 3, H, W]` -> maps `[N, T, H, W]`, one a level, scores `[N, L, C]`, distance logits `[N, L, 4*(R+1)]`."""
        if not self._same:
            image = image * self.scale + self.shift
        maps = self.detector.neck(self.detector.backbone(image))
        found = list(maps) if self._maps else []
        if self._outputs:
            scores, distances = self.detector.head.raw(maps)
            found += [paddle.concat(scores, axis=1), paddle.concat(distances, axis=1)]
        return tuple(found)


def write_teacher(
    form: TeacherForm, folder: Path, size: tuple[int | None, int | None] = (None, None)
) -> None:
    """Write `model.pdmodel` and `model.pdiparams`, for any number of images.

    Args:
        form: what is written.
        folder: made if it is not there.
        size: height and width of the images; None: any, which a program of Paddle 3 has branches for that the older
            form is not written with.
    """
    with evaluation_mode(form), paddle.utils.unique_name.guard():
        write_layer(form, [InputSpec([None, 3, *size], "float32", "image")], folder)
