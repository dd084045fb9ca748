"""Focal and global distillation (FGD): a student's feature maps follow a teacher's, mostly where objects are.

Source: Focal and Global Knowledge Distillation for Detectors, https://arxiv.org/abs/2111.11837, with the choices of
PaddleDetection's FGDFeatureLoss: a box covers whole cells, the last one included, and images without objects are left
out. There the layers of this loss stay as they are initialised; here they are trained, as in the paper.

`N` images, `G` objects of an image, `K` channels of the student's map, `T` of the teacher's.
"""

from __future__ import annotations

from typing import NamedTuple

import paddle
import paddle.nn.functional as F
from paddle import ParamAttr, Tensor, nn
from paddle.nn.initializer import Constant, KaimingUniform

_EPS = 1e-6  # beside the standard deviation, PaddleDetection's


class Attention(NamedTuple):
    """Where a feature map is large: places (N, H, W), of mean 1, and channels (N, T), of mean 1."""

    places: Tensor
    channels: Tensor


def attention_of(feature: Tensor, temperature: float) -> Attention:
    """The attention of a feature map (N, T, H, W)."""
    images, channels, height, width = feature.shape
    size = feature.abs()
    places = F.softmax(size.mean(axis=1).reshape([images, -1]) / temperature, axis=1)
    weights = F.softmax(size.mean(axis=[2, 3]) / temperature, axis=1)
    return Attention((places * (height * width)).reshape([images, height, width]), weights * channels)


@paddle.no_grad()
def object_masks(boxes: Tensor, present: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Weights of the cells that objects cover, and of all others.

    Args:
        boxes: (N, G, 4), x1 y1 x2 y2 in cells of the map.
        present: (N, G), 1 for an object and 0 for padding.
        size: height and width of the map.

    Returns: two tensors (N, H, W). A cell of an object weighs 1 / the object's cells, of the smallest one where several
        cover it, and 0 among the others; these weigh the same and sum to 1.
    """
    height, width = size
    left, top = boxes[..., 0].floor().clip(min=0), boxes[..., 1].floor().clip(min=0)
    right, bottom = boxes[..., 2].ceil(), boxes[..., 3].ceil()
    rows, columns = paddle.arange(height, dtype="float32"), paddle.arange(width, dtype="float32")

    def within(cells: Tensor, first: Tensor, last: Tensor) -> Tensor:
        first, last = first.unsqueeze(-1), last.unsqueeze(-1)
        return paddle.logical_and(cells >= first, cells <= last).astype("float32")

    weight = present / ((bottom + 1 - top) * (right + 1 - left))
    inside = within(rows, top, bottom).unsqueeze(-1) * within(columns, left, right).unsqueeze(-2)
    covered = (inside * weight.unsqueeze(-1).unsqueeze(-1)).max(axis=1)
    free = (covered <= 0).astype("float32")
    return covered, free / free.sum(axis=[1, 2], keepdim=True).clip(min=1.0)


def normalised(feature: Tensor) -> Tensor:
    """A map (N, T, H, W) with mean 0 and deviation 1 of each channel, over all images."""
    mean = feature.mean(axis=[0, 2, 3], keepdim=True)
    deviation = feature.std(axis=[0, 2, 3], keepdim=True)
    return (feature - mean) / (deviation + _EPS)


class FocalGlobal(nn.Layer):
    """FGD of one level.

    Args:
        student_channels, teacher_channels: K and T; where they differ a 1x1 convolution brings the one to the other.
        temperature: of the attentions.
        objects, background, attention, relations: weights of the four terms.
        normalise: compare maps of mean 0 and deviation 1.
    """

    def __init__(
        self,
        student_channels: int,
        teacher_channels: int,
        temperature: float = 0.5,
        objects: float = 0.001,
        background: float = 0.0005,
        attention: float = 0.001,
        relations: float = 0.000005,
        normalise: bool = False,
    ) -> None:
        super().__init__()
        self._temperature, self._normalise = temperature, normalise
        self._weights = (objects, background, attention, relations)
        differ = student_channels != teacher_channels
        self.align = _convolution(student_channels, teacher_channels) if differ else None
        self.student_mask = _convolution(teacher_channels, 1)
        self.teacher_mask = _convolution(teacher_channels, 1)
        self.student_context = _context(teacher_channels)
        self.teacher_context = _context(teacher_channels)

    def forward(self, student: Tensor, teacher: Tensor, boxes: Tensor, present: Tensor) -> Tensor:
        """The weighted sum of the four terms, each a sum over the map, a mean over the images with objects.

        Args:
            student: (N, K, H, W).
            teacher: (N, T, H, W), without gradient.
            boxes: (N, G, 4), x1 y1 x2 y2, parts of the image's width and height.
            present: (N, G), 1 for an object and 0 for padding.

        Returns: a scalar; 0 without any object.
        """
        if present.shape[1] == 0 or not bool((present > 0).any()):
            return student.sum() * 0
        chosen = paddle.nonzero(present.sum(axis=1) > 0).flatten()
        student, teacher, boxes, present = (
            paddle.gather(value, chosen) for value in (student, teacher, boxes, present)
        )
        if self.align is not None:
            student = self.align(student)
        if self._normalise:
            student, teacher = normalised(student), normalised(teacher)
        images, _, height, width = student.shape
        cells = boxes * paddle.to_tensor([width, height, width, height], "float32")
        covered, free = object_masks(cells, present, (height, width))
        seen, wanted = (attention_of(value, self._temperature) for value in (student, teacher))
        error = (student - teacher).square() * wanted.places.unsqueeze(1)
        error = (error * wanted.channels.unsqueeze(-1).unsqueeze(-1)).sum(axis=1)
        terms = (
            (error * covered).sum(),
            (error * free).sum(),
            (seen.places - wanted.places).abs().sum() + (seen.channels - wanted.channels).abs().sum(),
            (self._related(student, True) - self._related(teacher, False)).square().sum(),
        )
        return paddle.add_n([term * weight for term, weight in zip(terms, self._weights)]) / images

    def _related(self, feature: Tensor, of_student: bool) -> Tensor:
        """The map with what the whole of it says added to each cell (a GcBlock)."""
        mask = self.student_mask if of_student else self.teacher_mask
        context = self.student_context if of_student else self.teacher_context
        share = F.softmax(mask(feature).flatten(2), axis=2)
        pooled = paddle.matmul(feature.flatten(2), share, transpose_y=True)
        return feature + context(pooled.unsqueeze(-1))


def _convolution(channels: int, out: int) -> nn.Conv2D:
    return nn.Conv2D(channels, out, 1, weight_attr=ParamAttr(initializer=KaimingUniform()))


def _context(channels: int) -> nn.Sequential:
    """From the pooled channels to what is added; it adds nothing at first."""
    zeros, inner = ParamAttr(initializer=Constant(0.0)), max(1, channels // 2)
    return nn.Sequential(
        nn.Conv2D(channels, inner, 1, weight_attr=zeros),
        nn.LayerNorm([inner, 1, 1]),
        nn.ReLU(),
        nn.Conv2D(inner, channels, 1, weight_attr=zeros),
    )
