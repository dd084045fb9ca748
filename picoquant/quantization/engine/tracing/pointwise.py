"""1x1 convolutions of large feature maps, and their gradients, as matrix products.

Such a convolution multiplies each image, a matrix of channels and places, by the matrix of its weights. oneDNN's
convolutions want maps channels last, their gradients want them in blocks of 16 channels, and both keep converted
copies of all that they read; its matrix products take maps as they are, and compute the same numbers. On small maps
convolutions are the faster ones.
"""

from __future__ import annotations

from typing import Any

from picoquant.quantization.engine.tracing.blocks import Inserter, remove
from picoquant.utils.paddle_version.differences import onednn_attribute, paddle_3

_MATRIX = (0, 0, -1)  # shape of an image's channels and places
_PLACES = 2000  # at least so many; products of 52 x 52 were faster, of 26 x 26 slower (x86-64 with AVX-512)


def products(block: Any, start: int) -> int:
    """Replace a graph's 1x1 convolutions of large maps, and the gradients of such.

    Args:
        block: the graph.
        start: index of its first gradient operator.

    Returns: that index afterwards.
    """
    if paddle_3():  # with which convolutions are handed what they read by Paddle itself, in their shape
        return start
    for op in [one for one in block.ops[start:] if _suits(block, one, "conv2d_grad")]:
        if op.output("Filter@GRAD"):
            _replace_gradient(block, op)
    before = len(block.ops)
    for op in [one for one in block.ops[:start] if _suits(block, one, "conv2d")]:
        _replace(block, op)
    return start + len(block.ops) - before


def _suits(block: Any, op: Any, kind: str) -> bool:
    if op.type != kind:
        return False
    height, width = block.var(op.input("Input")[0]).shape[2:]
    return (
        tuple(block.var(op.input("Filter")[0]).shape[2:]) == (1, 1)
        and min(height, width) > 0
        and height * width >= _PLACES
        and op.attr("groups") == 1
        and set(op.attr("strides")) == {1}
        and set(op.attr("paddings")) == {0}
        and op.attr("data_format") in ("NCHW", "AnyLayout")
    )


def _replace(block: Any, op: Any) -> None:
    image, weight, result = op.input("Input")[0], op.input("Filter")[0], op.output("Output")[0]
    made, _ = block.var(weight).shape[:2]
    height, width = block.var(image).shape[2:]
    new = Inserter(block, op, result)
    new.reshape(image, _MATRIX, image)
    _product(new, new.reshape(weight, [0, 0]), image, [-1, made, height * width], result)
    new.reshape(image, [0, 0, height, width], image)
    new.reshape(result, [0, 0, height, width], result)
    remove(block, op)


def _replace_gradient(block: Any, op: Any) -> None:
    image, weight, gradient = (op.input(slot)[0] for slot in ("Input", "Filter", "Output@GRAD"))
    of_weight, of_image = op.output("Filter@GRAD")[0], op.output("Input@GRAD")
    made, read = block.var(weight).shape[:2]
    height, width = block.var(image).shape[2:]
    new = Inserter(block, op, of_weight)
    new.reshape(gradient, _MATRIX, gradient)
    if of_image:
        weights = new.reshape(weight, [0, 0])
        _product(new, weights, gradient, [-1, read, height * width], of_image[0], trans_x=True)
        new.reshape(of_image[0], [0, 0, height, width], of_image[0])
    new.reshape(image, _MATRIX, image)
    each = _product(new, gradient, image, [-1, made, read], trans_y=True)
    for name in (image, gradient):
        new.reshape(name, [0, 0, height, width], name)
    total = new("reduce_sum", {"X": each}, [made, read], dim=[0])
    new.reshape(total, [0, 0, 1, 1], of_weight)
    remove(block, op)


def _product(
    new: Inserter, first: str, second: str, sizes: list[int], result: str = "", **transposed: bool
) -> str:
    """oneDNN's matrix product of two tensors; a matrix is multiplied with each image's."""
    inputs = {"X": new.to_onednn(first), "Y": new.to_onednn(second)}
    product = new("matmul_v2", inputs, sizes, **transposed, **{onednn_attribute(): True})
    return new.from_onednn(product, result or new.tensor(sizes))
