"""Graphs that are changed to hold and convert less compute the same numbers; each change is made where it can be."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import paddle
import pytest
from paddle import nn

from picoquant.int8.operators import quantizable_operators
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.quantization.engine.convolution import Convolutions
from picoquant.quantization.engine.traced import TracedForward
from picoquant.quantization.engine.tracing import gradients, pointwise
from picoquant.quantization.engine.tracing.memory import _CONVOLUTIONS, _GRADIENTS, _STRAIGHT_THROUGH
from picoquant.quantization.qat.learned_ranges.moving_average import MovingAverage
from picoquant.quantization.qat.student import open_student
from picoquant.utils.paddle_version.differences import paddle_3
from tests.networks import small_net

IMAGES = np.random.RandomState(1).rand(3, 3, 32, 32).astype("float32")
CHANGES = ("gradients_without_maps", "products", "hold_less")  # as they are called in `gradients`
LARGE = 16 * 16  # places of the maps of all but the stem's image


class Repeated(nn.Layer):
    """Blocks of the same geometry, each with a skip connection; two heads read the last."""

    def __init__(self, seed: int = 3) -> None:
        super().__init__()
        block = small_net._block
        self.stem = nn.Sequential(*block(3, 8, 3, 2))
        self.blocks = nn.LayerList(
            [nn.Sequential(*block(8, 8, 5, 1, groups=8), *block(8, 8, 1, 1)) for _ in range(3)]
        )
        self.scores, self.boxes = nn.Conv2D(8, 2, 1), nn.Conv2D(8, 2, 1)
        small_net.draw_weights(self, seed)

    def forward(self, image):
        found = self.stem(image)
        for block in self.blocks:
            found = found + block(found)
        return self.scores(found), self.boxes(found)


@dataclass(repr=False)
class Graph:
    """A graph before a change or behind it; its operators' types and what they read and write, by slot."""

    forward: list[tuple]
    backward: list[tuple]

    def count(self, *types):
        return sum(op_type in types for op_type, _, _ in (*self.forward, *self.backward))


@dataclass(repr=False)
class Run:
    """Results and gradients of two steps whose weights differ, by name and step; graphs around each change."""

    numbers: dict[str, np.ndarray]
    graphs: dict[str, list[Graph]] = field(default_factory=dict)
    calls: list[bool] = field(default_factory=list)


def graph_of(block, start):
    found = [
        (
            op.type,
            {slot: tuple(op.input(slot)) for slot in op.input_names},
            {slot: tuple(op.output(slot)) for slot in op.output_names},
        )
        for op in block.ops
    ]
    return Graph(found[:start], found[start:])


def steps(folder, following):
    quant = QuantAwareSettings()
    operators = quantizable_operators(ProgramModel.load(folder), quant)
    student = open_student(folder, operators, quant, MovingAverage(), Convolutions(True))
    for one in student.ranges.values():
        one.initialise(3.0)
    for op in student.graph.operators if following else ():
        if op.op_type == "batch_norm":  # an export in evaluation mode says that it has running statistics
            op.attributes["use_global_stats"] = False
    forward = TracedForward(student.network, [one.stored for one in student.ranges.values()])
    found = {}
    for step in range(2):
        results = forward({"image": paddle.to_tensor(IMAGES)}, student.graph.outputs, following)
        sum((one**2).mean() for one in results).backward()
        found.update((f"{name} {step}", one.numpy()) for name, one in zip(student.graph.outputs, results))
        for weight in student.network.trained():
            found[f"{weight.name} {step}"] = weight.grad.numpy()
            with paddle.no_grad():
                weight.set_value(weight - 0.01 * weight.grad)
            weight.clear_gradient(False)
    return found


def changed(folder, following=False):
    """A run with all changes, which are watched."""
    graphs, calls = {}, []
    made, last = (
        {name: getattr(gradients, name) for name in CHANGES},
        gradients.Rounding.after_append_backward,
    )

    def watched(name):
        def change(block, start):
            before = graph_of(block, start)
            found = made[name](block, start)
            graphs[name] = [before, graph_of(block, start if found is None else found)]
            return found

        return change

    def after(self, program, start):
        found = last(self, program, start)
        calls.extend(op.has_attr("op_callstack") for op in found[0].global_block().ops)
        return found

    with pytest.MonkeyPatch.context() as patch:
        for name in CHANGES:
            patch.setattr(gradients, name, watched(name))
        patch.setattr(gradients.Rounding, "after_append_backward", after)
        patch.setattr(pointwise, "_PLACES", LARGE)
        return Run(steps(folder, following), graphs, calls)


def unchanged(folder, following=False):
    with pytest.MonkeyPatch.context() as patch:
        for name in CHANGES:
            patch.setattr(gradients, name, lambda block, start: start)
        return Run(steps(folder, following))


def export_repeated(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small_net, "Small", Repeated)
        small_net.export_small(folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return export_repeated(tmp_path_factory.mktemp("repeated"))


@pytest.fixture(scope="module")
def run(folder):
    return changed(folder)


def assert_same(run, expected, part=2e-6):
    assert run.numbers.keys() == expected.numbers.keys() and len(expected.numbers) > 40
    for name, value in expected.numbers.items():
        largest = np.abs(value).max()
        assert largest > 1e-7, name
        np.testing.assert_allclose(run.numbers[name], value, rtol=0, atol=part * largest, err_msg=name)


def test_numbers_are_those_of_the_graph_before(folder, run):
    assert_same(run, unchanged(folder))


def test_numbers_are_those_of_the_graph_before_where_statistics_follow_the_batch(folder):
    found = changed(folder, following=True)
    before, after = found.graphs["gradients_without_maps"]
    assert before.count("batch_norm_grad") == after.count("batch_norm_grad") == 7
    assert_same(found, unchanged(folder, following=True), 2e-5)


def test_what_batch_norms_by_running_statistics_normalise_is_not_held(run):
    before, after = run.graphs["gradients_without_maps"]
    assert before.count("batch_norm_grad") == 7 and after.count("batch_norm_grad") == 0
    for graph, held in ((before, 7), (after, 0)):
        normalised = {ins["X"][0] for op_type, ins, _ in graph.forward if op_type == "batch_norm"}
        read = {name for _, ins, _ in graph.backward for names in ins.values() for name in names}
        assert len(normalised & read) == held


def test_pointwise_convolutions_are_products(run):
    before, after = run.graphs["products"]
    if paddle_3():
        assert before == after
        return
    # Stem, three blocks, two heads. Gradients are of images and of weights.
    assert [before.count(name) for name in ("conv2d", "conv2d_grad", "matmul_v2")] == [6, 6, 0]
    assert [after.count(name) for name in ("conv2d", "conv2d_grad", "matmul_v2")] == [1, 1, 3 * 5]
    assert not [op_type for op_type, _, _ in after.forward if op_type.endswith("_grad")]


def test_convolutions_of_small_maps_stay(run, folder, monkeypatch):
    monkeypatch.setattr(f"{__name__}.LARGE", LARGE + 1)
    found = changed(folder)
    before, after = found.graphs["products"]
    assert before == after
    assert_same(found, run)

    def names(graph, kinds, *slots):
        return [tuple((ins | outs)[slot] for slot in slots) for kind, ins, outs in graph if kind in kinds]

    # Convolutions of one geometry have the same names, so that oneDNN keeps one copy of what they read.
    before, after = found.graphs["hold_less"]
    # The image's leads nowhere; those of filters are results.
    assert after.count(*_STRAIGHT_THROUGH) == before.count(*_STRAIGHT_THROUGH) - 7
    if paddle_3():  # shares nothing
        assert after.count("transfer_layout") == before.count("transfer_layout")
        return
    # Stem; depthwise and pointwise, three times; two heads of one geometry.
    results = names(after.forward, _CONVOLUTIONS, "Output")
    assert len(results) == 9 and len(set(results)) == 4
    # Weight gradients of the 5x5 filters are split in two, beside the operator for their images' gradient.
    read = names(after.backward, _GRADIENTS, "Input", "Filter")
    assert len(read) == 9 + 2 * 3 and len(set(read)) == 4 + 1
    # Each image, result and gradient is handed over or taken back; all but the first have an image's gradient.
    added = after.count("transfer_layout") - before.count("transfer_layout")
    assert added == 2 * len(results) + 3 * len(read) + 8


def test_no_operator_says_where_it_was_made(run):
    assert len(run.calls) > 100 and not any(run.calls)
