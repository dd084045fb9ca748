"""Gradients of batch-norms by running statistics, taken from the gradients of the convolutions in front of them.

Such a batch-norm multiplies each channel of what a convolution gives by a factor, and adds a constant. So of feature
maps its gradients need none but the gradient `dy` of its own result:

- the convolution's image gradient is that of `dy` with weights times the factor, its weights' gradient that of `dy`
  times the factor;
- the gradient of the batch-norm's bias is `sum(dy)`;
- that of its scale has `sum(dy * convolved)` in it: as what was convolved is linear in the weights, this is the sum
  over a filter of each weight times its gradient.

What was convolved need not be held for the gradients then.
"""

from __future__ import annotations

from typing import Any

from picoquant.quantization.engine.tracing.blocks import Inserter, readers_of, remove
from picoquant.utils.paddle_version.differences import onednn_attribute, paddle_3

_CONVOLUTIONS = ("conv2d_grad", "depthwise_conv2d_grad")
_NORM = "batch_norm_grad"


def gradients_without_maps(block: Any, start: int) -> None:
    """Change the gradients of a graph's batch-norms by running statistics.

    Args:
        block: the graph.
        start: index of its first gradient operator.
    """
    for norm, convolution in _pairs(block.ops[start:]):
        _replace(block, norm, convolution)


def _pairs(gradients: list[Any]) -> list[tuple[Any, Any]]:
    """Gradients of batch-norms, each with that of the convolution which alone reads its image's gradient."""
    readers, found = readers_of(gradients), []
    for op in gradients:
        if op.type != _NORM or not op.attr("use_global_stats") or op.attr("data_layout") != "NCHW":
            continue
        if not _gives(op, "X@GRAD", "Scale@GRAD", "Bias@GRAD"):
            continue
        after = readers.get(op.output("X@GRAD")[0], [])
        if len(after) == 1 and after[0].type in _CONVOLUTIONS and _gives(after[0], "Filter@GRAD"):
            found.append((op, after[0]))
    return found


def _gives(op: Any, *slots: str) -> bool:
    return all(slot in op.output_names and op.output(slot) for slot in slots)


def _replace(block: Any, norm: Any, convolution: Any) -> None:
    """Let the convolution's gradients read that of the batch-norm's result, and compute the others of what it gives."""
    mean, variance, scale = (norm.input(slot)[0] for slot in ("Mean", "Variance", "Scale"))
    gradient, weight = norm.input("Y@GRAD")[0], convolution.input("Filter")[0]
    of_scale, of_bias = norm.output("Scale@GRAD")[0], norm.output("Bias@GRAD")[0]
    of_weight, of_filter = convolution.output("Filter@GRAD")[0], block.var(weight).shape
    each, maps = list(block.var(scale).shape), list(block.var(gradient).shape)

    new = Inserter(block, convolution, of_scale)
    spread = new("rsqrt", {"X": new("scale", {"X": variance}, each, bias=norm.attr("epsilon"))}, each)
    factor = new.product(spread, scale)
    read = gradient if paddle_3() else new.to_onednn(gradient)
    of_images = new("reduce_sum", {"X": read}, maps[:2], dim=[2, 3], **{onednn_attribute(): True})
    new("reduce_sum", {"X": of_images}, each, of_bias, dim=[0])
    if _gives(convolution, "Input@GRAD"):
        convolution.desc.set_input("Filter", [new.product(weight, factor)])
    convolution.desc.set_input("Output@GRAD", [gradient])
    plain = new.tensor(of_filter)
    convolution.desc.set_output("Filter@GRAD", [plain])

    new.before = block.ops[block.ops.index(convolution) + 1]
    new.product(plain, factor, of_weight)
    total = new("reduce_sum", {"X": new.product(plain, weight)}, each, dim=[1, 2, 3])
    centred = new("elementwise_sub", {"X": total, "Y": new.product(mean, of_bias)}, each)
    new.product(centred, spread, of_scale)
    remove(block, norm)
