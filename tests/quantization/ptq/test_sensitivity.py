"""What errors cost: against NumPy's formulas, finite differences and a network whose answer is known."""

from __future__ import annotations

import numpy as np
import paddle
import pytest
from paddle import nn

from picoquant.export.paddle_export import write_layer
from picoquant.paddle_program.graph import read_graph
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.paddle_program.params import read_params
from picoquant.paddle_program.program import read_program
from picoquant.quantization.engine.network import FakeQuantNetwork
from picoquant.quantization.ptq.detection_error import DetectionError
from picoquant.quantization.ptq.sensitivity import measure_sensitivity, signs_like
from tests.networks.small_net import export_small

SIZE, CLASSES, BINS = 32, 3, 4  # of distances: 0 to 3 cells
STRIDES = (16, 32)
MAPS = {
    "scores": (CLASSES, 4 * BINS),
    "logits": (CLASSES, 4 * BINS),
    "aligned": (CLASSES, 1, 4 * BINS),
    "boxes": (CLASSES, 4),
}
IMAGE = np.random.RandomState(5).rand(1, 3, SIZE, SIZE).astype("float32")


class Head(nn.Layer):
    """Outputs of each kind that a `Decoder` knows, of two levels with 2x2 cells and with 1."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.convs = nn.LayerList(nn.Conv2D(3, size, 16, 16) for size in MAPS[kind])
        for number, conv in enumerate(self.convs):
            drawn = np.random.RandomState(number).randn(*conv.weight.shape)
            conv.weight.set_value((0.15 * drawn).astype("float32"))

    def forward(self, image):
        levels = [[one, nn.functional.avg_pool2d(one, 2)] for one in (conv(image) for conv in self.convs)]
        flat = [[paddle.flatten(one, 2) for one in level] for level in levels]
        if self.kind == "boxes":
            scores, sides = (paddle.concat(level, axis=2) for level in flat)
            corners = paddle.concat([sides[:, :2] * 3, sides[:, 2:] * 3 + 20], axis=1)
            return paddle.transpose(corners, [0, 2, 1]), nn.functional.sigmoid(scores)
        if self.kind == "scores":
            flat[0] = [nn.functional.sigmoid(one) for one in flat[0]]
        return [paddle.transpose(one, [0, 2, 1]) for level in flat for one in level]


def opened(make, folder, config):
    """A network exported and read by the engine, and the error of its outputs."""
    paddle.seed(3)  # what random signs show of its weights depends on them
    network = make()
    network.eval()
    with paddle.utils.unique_name.guard():
        spec = [paddle.static.InputSpec([-1, 3, SIZE, SIZE], "float32", "image")]
        write_layer(network, spec, folder)
    program = read_program(folder / "model.pdmodel")
    found = FakeQuantNetwork(read_graph(program), read_params(program, folder / "model.pdiparams"), (), {})
    return found, DetectionError(found, config)


def config_of(kind):
    raw = "scores" if kind == "scores" else "logits"
    return InferConfig((SIZE, SIZE), ("a", "b", "c"), strides=STRIDES, raw_outputs=raw)


def sigmoid(value):
    return 1 / (1 + np.exp(-value))


def what_counts(kind, outputs):
    """Squares of scores, sides of boxes and their factors, of an image's outputs, in NumPy."""
    outputs = [one[0].astype(np.float64) for one in outputs]
    if kind == "boxes":
        boxes, scores = outputs
        sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1)
        return scores**2, boxes, 3 * scores.max(0)[:, None] / np.tile(sides, 2)
    classes, *alignment, distances = (
        np.concatenate(outputs[at : at + 2]) for at in range(0, len(outputs), 2)
    )
    scores = classes if kind == "scores" else sigmoid(classes)
    squares = scores * sigmoid(alignment[0]) if alignment else scores**2
    parts = np.exp(distances.reshape(-1, 4, BINS))
    sides = (parts / parts.sum(-1, keepdims=True)) @ np.arange(BINS)
    lengths = sides[:, :2] + sides[:, 2:] + 0.5
    return squares, sides, 3 * np.sqrt(squares.max(1))[:, None] / np.tile(lengths, 2)


@pytest.mark.parametrize("kind", MAPS)
def test_a_probe_measures_the_change_of_scores_and_boxes(kind, tmp_path):
    """Its mean squared derivative along a change of the image is the squared change of what counts."""
    network, error = opened(lambda: Head(kind), tmp_path, config_of(kind))
    assert error.names == network.graph.outputs

    def run(image):
        with paddle.no_grad():
            return what_counts(
                kind, [one.numpy() for one in network({"image": paddle.to_tensor(image)}, error.names)]
            )

    change = np.random.RandomState(1).randn(*IMAGE.shape).astype("float32")
    squares, sides, factor = run(IMAGE)
    ahead, behind = run(IMAGE + 1e-2 * change), run(IMAGE - 1e-2 * change)
    expected = (((ahead[0] - behind[0]) / 2e-2) ** 2).sum() + (
        (factor * (ahead[1] - behind[1]) / 2e-2) ** 2
    ).sum()
    random, found = np.random.RandomState(2), []
    for _ in range(250):
        image = paddle.to_tensor(IMAGE, stop_gradient=False)
        error.probe(network({"image": image}, error.names), lambda one: signs_like(one, random)).backward()
        found.append(float((image.grad.numpy() * change).sum()) ** 2)
    assert np.mean(found) == pytest.approx(expected, rel=0.3)  # of 250 draws: a standard error of 9 % at most


@pytest.mark.parametrize("kind", MAPS)
def test_training_makes_changes_of_scores_themselves_small(kind, tmp_path):
    """Of two outputs, one with less of everything: worked out in NumPy, roots flattened by 1e-4."""
    network, _ = opened(lambda: Head(kind), tmp_path, config_of(kind))
    error = DetectionError(network, config_of(kind), of_scores=True)
    with paddle.no_grad():
        both = [
            network({"image": paddle.to_tensor(one)}, error.names) for one in (IMAGE, np.float32(0.7) * IMAGE)
        ]
        (squares, sides, factor), (changed, moved, _) = (
            what_counts(kind, [tensor.numpy() for tensor in one]) for one in both
        )
        of_scores = (np.sqrt(changed + 1e-4) - np.sqrt(squares + 1e-4)) ** 2
        expected = of_scores.sum() + ((factor * (moved - sides)) ** 2).sum()
        assert error.between(*both).item() == pytest.approx(expected, rel=1e-4)
        by_squares = expected - of_scores.sum() + ((changed - squares) ** 2).sum()
        plain = DetectionError(network, config_of(kind))
        assert plain.between(*both).item() == pytest.approx(by_squares, rel=1e-4)
        assert abs(expected - by_squares) > 1e-3 * expected


class Known(nn.Layer):
    """A convolution with a hard-swish, and one with a single result."""

    def __init__(self):
        super().__init__()
        self.first, self.last = nn.Conv2D(3, 4, 1), nn.Conv2D(4, 1, 1)

    def forward(self, image):
        return self.last(nn.functional.hardswish(self.first(image) * 1.0))


def test_of_a_network_with_one_linear_result(tmp_path):
    """It is no detector, so changes of the result count in its standard deviations."""
    network, error = opened(Known, tmp_path, config_of("logits"))
    images = np.random.RandomState(3).randn(160, 3, SIZE, SIZE).astype("float32")
    found = measure_sensitivity(network, error, [{"image": images[i : i + 1]} for i in range(160)])
    swish = next(op for op in network.graph.operators if op.op_type == "hard_swish")
    weight = next(name for name, value in network.stored.items() if value.shape == [1, 4, 1, 1])
    with paddle.no_grad():
        names = (swish.results[0], swish.input("X0"), error.names[0])
        after, before, result = (one.numpy() for one in network({"image": paddle.to_tensor(images)}, names))
    per_level = network.stored[weight].numpy().reshape(1, 4, 1, 1) / result.std((1, 2, 3), keepdims=True)
    squares = np.broadcast_to(per_level, after.shape) ** 2
    np.testing.assert_allclose(found.tensors[swish.results[0]], squares.sum((2, 3)).mean(0), rtol=1e-4)
    np.testing.assert_allclose(
        found.gates[swish.results[0]], (squares * (before / 6) ** 2).sum((2, 3)).mean(0), rtol=1e-4
    )
    by_weight = ((after / result.std((1, 2, 3), keepdims=True)) ** 2).sum((2, 3)).mean(0)
    np.testing.assert_allclose(found.weights[weight][0], by_weight, rtol=0.4)  # random signs, of 160 images


def test_a_network_that_is_no_detector_is_measured_at_its_last_layers(tmp_path):
    export_small(tmp_path)
    program = read_program(tmp_path / "model.pdmodel")
    network = FakeQuantNetwork(
        read_graph(program), read_params(program, tmp_path / "model.pdiparams"), (), {}
    )
    error = DetectionError(network, config_of("logits"))
    assert len(error.names) == 2 and set(error.names).isdisjoint(network.graph.outputs[:1])
    tensors = network({"image": paddle.to_tensor(IMAGE)}, error.names)
    for value, factor in error.weighted(tensors):
        assert (value * factor).std(unbiased=False).item() == pytest.approx(1)
