"""Rounding to whole steps on a tape."""

from __future__ import annotations

from picoquant.training.onednn.library import Algorithm, Arg, Kind, Propagation
from picoquant.training.onednn.lowering import Lowering
from picoquant.training.onednn.nodes import Round
from picoquant.training.onednn.tape import View


def rounding(lowering: Lowering, node: Round) -> None:
    """Write the rounding of a map, in one pass: times 1 / step, limited, rounded, times step.

    What is rounded stays for the gradient, which is 0 where it was cut off.
    """
    tape, library = lowering.tape, lowering.library
    source = lowering.as_kind(lowering.maps[node.x], Kind.F32)
    layout = lowering.whole_blocks(source.layout)
    result = tape.new(source.layout)
    steps = (
        (Algorithm.CLIP, node.low / node.step, node.high / node.step),
        (Algorithm.ROUND, 0.0, 0.0),
        (Algorithm.LINEAR, node.step, 0.0),
    )
    factor = lowering.constant(lowering.map_layout((1, 1, 1, 1), Kind.F32), 1 / node.step)
    attributes = library.followed_by(steps)
    made = library.made("binary_primitive_desc", library.engine, Algorithm.MUL, layout.address,
                        factor.layout.address, layout.address, attributes)  # fmt: skip
    library.destroy("primitive_attr", attributes)
    tape.add(
        made, {Arg.SRC: View(layout, source.buffer), Arg.SRC_1: factor, Arg.DST: View(layout, result.buffer)}
    )
    lowering.maps[node.out] = result

    def backward() -> None:
        gradient = lowering.take(node.out)
        if gradient is None:
            return
        hint = library.made("eltwise_forward_primitive_desc", library.engine, Propagation.FORWARD,
                            Algorithm.CLIP_INSIDE, layout.address, layout.address, node.low, node.high,
                            library.attributes)  # fmt: skip
        layouts = [layout.address] * 3
        made = library.backward(
            "eltwise_backward", hint, Algorithm.CLIP_INSIDE, *layouts, node.low, node.high
        )
        target = gradient.view if gradient.ours else tape.new(source.layout)
        views = {Arg.SRC: source, Arg.DIFF_DST: gradient.view, Arg.DIFF_SRC: target}
        tape.add(made, {what: View(layout, view.buffer) for what, view in views.items()})
        lowering.give(node.x, target)

    lowering.backward.append(backward)
