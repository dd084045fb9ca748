"""Whether a training step fits into the memory that is free, foreseen from the size of the network's feature maps."""

from __future__ import annotations

import logging
from typing import Any

import paddle
from paddle import nn

from picoquant.detector.backbones.resnet import ResNet
from picoquant.utils.device import free_memory, rank_and_world

LOG = logging.getLogger("picoquant")

# Bytes of a step for each value that a layer of the network returns, where oneDNN computes all of it
# (`training/onednn`): 5.1 to 8.8 were measured with XS at 320 px (4, 16, 32 images), S-LCNet (8), S-NPU (8, 16),
# S-ESNet, MobileNetV3 and ShuffleNetV2 (4, 12) at 416 px, 80 classes, in bfloat16 2.9 to 5.5 with the first three.
# With ResNet a step is Paddle's: 22 to 28, measured with XS, S-LCNet and S-ESNet before they were oneDNN's.
_BYTES_A_VALUE, _OF_ONEDNN, _IN_BFLOAT16 = 25, 9, 6
_SIDE = 64  # input pixels at which the values are counted; feature maps grow with the input's area


def values_of_one_image(model: nn.Layer, size: tuple[int, int]) -> int:
    """Numbers in the results of all layers of a detector, for one image.

    Args:
        model: a `PicoDet`; run once on a small black image, its modes and weights are not changed.
        size: height and width of its input, pixels.
    """
    counted = 0

    def count(layer: nn.Layer, inputs: Any, output: Any) -> None:
        nonlocal counted
        results = output if isinstance(output, (list, tuple)) else [output]
        counted += sum(int(result.size) for result in results)

    layers = [layer for layer in model.sublayers() if not list(layer.children())]
    hooks = [layer.register_forward_post_hook(count) for layer in layers]
    modes = [(layer, layer.training) for layer in model.sublayers(include_self=True)]
    try:
        model.eval()
        with paddle.no_grad():
            model.raw(paddle.zeros([1, 3, _SIDE, _SIDE]))
    finally:
        for hook in hooks:
            hook.remove()
        for layer, training in modes:
            layer.training = training
    return counted * size[0] * size[1] // _SIDE**2


def bytes_of_one_image(model: nn.Layer, size: tuple[int, int], bfloat16: bool = False) -> int:
    """Bytes of memory that a training step on a CPU takes for each of its images: an estimate.

    Args:
        model, size: see `values_of_one_image`.
        bfloat16: whether feature maps are in it, where they may be.
    """
    a_value = _IN_BFLOAT16 if bfloat16 else _OF_ONEDNN
    if isinstance(model.backbone, ResNet):
        a_value = _BYTES_A_VALUE
    return a_value * max(1, values_of_one_image(model, size))


def images_that_fit(model: nn.Layer, size: tuple[int, int], free: int, bfloat16: bool = False) -> int:
    """How many images a step may have in so many bytes of memory.

    Args:
        model, size, bfloat16: see `bytes_of_one_image`.
        free: bytes.
    """
    return free // bytes_of_one_image(model, size, bfloat16)


def warn_of_memory(model: nn.Layer, size: tuple[int, int], images: int, bfloat16: bool = False) -> None:
    """Say so when a step may need more memory than is free, and how many images fit.

    Args:
        model, size: see `values_of_one_image`; the largest size of the training's.
        images: of a step of this process; the others of its group take as much.
        bfloat16: see `bytes_of_one_image`.
    """
    free = free_memory()
    if free is None:
        return
    fit = images_that_fit(model, size, free // rank_and_world()[1], bfloat16)
    if images > fit:
        fits = max(1, fit)
        LOG.warning(
            "train: a step of %d images of %dx%d may need more memory than is free now, which is enough for %d: --set "
            "TrainReader.batch_size=%d, and Train.accumulate_steps=%d for as many images an update",
            images,
            *size,
            fit,
            fits,
            -(-images // fits),
        )
