"""The board's program on this machine, against OpenCV and the NumPy post-processing."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest

from picoquant.packaging import expectation
from picoquant.packaging.sample import read_ppm
from picoquant.paddle_program.infer_config import InferConfig, padding_values
from picoquant.paddle_program.network_input import feed_of_image
from picoquant.postprocess import Decoder, Detections, NmsSettings, multiclass_nms
from tests.packaging.board import SETTINGS, Board, read_arrays, write_arrays, write_ppm

SIZE, STRIDES, CELLS = (64, 96), (8, 16), (96, 24)
CONFIG = InferConfig(SIZE, tuple(SETTINGS["labels"]), strides=STRIDES)


@pytest.fixture
def board(program, tmp_path):
    board = Board(program, tmp_path)
    board.settings()
    return board


@pytest.fixture(scope="module")
def photo():
    """Shades, edges and noise: cubic weights overshoot at the edges."""
    random = np.random.default_rng(3)
    image = random.integers(0, 256, (13, 17, 3), np.uint8)
    image = cv2.resize(image, (331, 257), interpolation=cv2.INTER_LINEAR)
    image[40:90, 50:120], image[100:140, 200:300] = 255, 0
    return np.clip(image.astype(int) + random.integers(-9, 10, image.shape), 0, 255).astype(np.uint8)


def nothing(folder):
    """Outputs without a detection, for tests of what goes in."""
    return write_arrays(folder / "none.bin", [np.zeros((0, 6)), np.zeros(1)])


@pytest.mark.parametrize("interpolation", [0, 1, 2])
@pytest.mark.parametrize("size", [(64, 96), (257, 331), (300, 200), (640, 700)])
def test_resize_is_opencv_s_to_one_level(board, photo, interpolation, size):
    plain = {"mean": [0, 0, 0], "std": [1, 1, 1], "is_scale": False, "outputs": "detections"}
    board.settings(size=list(size), interpolation=interpolation, **plain)
    image = write_ppm(board.folder / "image.ppm", photo)
    out = board.folder / "input.bin"
    board.run("--image", image, "--outputs", nothing(board.folder), "--save-input", out)
    factors = size[0] / photo.shape[0], size[1] / photo.shape[1]
    expected = cv2.resize(photo, None, fx=factors[1], fy=factors[0], interpolation=interpolation)
    found = read_arrays(out)[0][0].transpose(1, 2, 0)
    assert found.shape == expected.shape == (*size, 3)
    difference = np.abs(found - expected)
    # OpenCV's linear kernel rounds once more on the way (1 in 8 pixels is a level off), its cubic one not.
    assert difference.max() <= 1 and (difference > 0).mean() < (0.05 if interpolation == 2 else 0.15)
    if interpolation == 0 or size == photo.shape[:2]:
        assert difference.max() == 0


@pytest.mark.parametrize("is_scale", [True, False])
@pytest.mark.parametrize("keep_ratio", [True, False])
def test_input_is_the_evaluation_s(board, photo, is_scale, keep_ratio):  # 257x331, into 128x160
    mean, std = SETTINGS["mean"], SETTINGS["std"]
    if not is_scale:
        mean, std = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
    inputs = ["image", "scale_factor", "im_shape"]
    changed = {"mean": mean, "std": std, "is_scale": is_scale, "keep_ratio": keep_ratio, "size": [128, 160]}
    board.settings(inputs=inputs, outputs="detections", **changed)
    image, out = write_ppm(board.folder / "image.ppm", photo), board.folder / "input.bin"
    board.run("--image", image, "--outputs", nothing(board.folder), "--save-input", out)
    changed.pop("size")
    config = replace(CONFIG, input_size=(128, 160), **changed)
    expected = feed_of_image(photo, config)
    found = dict(zip(inputs, read_arrays(out)))
    level = 1 / (min(std) * (255 if is_scale else 1))
    assert np.abs(found["image"] - expected["image"]).max() <= 1.001 * level
    assert (found["image"] == expected["image"]).mean() > 0.95  # equal to the bit where the level is
    assert np.allclose(found["scale_factor"], expected["scale_factor"], rtol=1e-6)
    assert np.allclose(found["im_shape"], expected["im_shape"], atol=0.5)
    if keep_ratio:  # 257x331 fits into 128x160 at 0.4834: 124 rows, then nothing
        assert found["image"][0, :, 124:].max() == 0 and found["image"][0, :, 123].min() != 0


@pytest.mark.parametrize("upright", [True, False])
@pytest.mark.parametrize("padding", ["end", "centre", "start"])
def test_padding_and_the_way_back(board, photo, padding, upright):
    """Input and boxes equal those of Python, for a colour of padding and for images of both orientations."""
    image = photo[:, :140].copy() if upright else photo[:100].copy()
    config = replace(
        CONFIG, input_size=(128, 160), mean=(0.5,) * 3, std=(0.25,) * 3, interp=1, keep_ratio=True, padding=padding,
        fill=(114.0, 0.0, 255.0),
    )  # fmt: skip
    feed = feed_of_image(image, config)
    random = np.random.default_rng(4)
    corners = random.uniform(0, 100, (1, 40, 4)).astype(np.float32)
    boxes = np.concatenate([corners[..., :2], corners[..., :2] + corners[..., 2:]], axis=-1)
    two = [boxes, random.uniform(0, 0.6, (1, 3, 40)).astype(np.float32)]
    rows = [np.array([[2, 0.9, 1, 2, 3, 4], [0, 0.4, 50, 60, 70, 80]], np.float32), np.array([2])]
    path, out = write_ppm(board.folder / "image.ppm", image), board.folder / "input.bin"
    for kind, outputs in {"boxes": two, "detections": rows}.items():
        board.settings(
            outputs=kind, size=[128, 160], keep_ratio=True, padding=padding, fill=list(padding_values(config)),
            mean=[0.5] * 3, std=[0.25] * 3, interpolation=1,
        )  # fmt: skip
        recorded = write_arrays(board.folder / "out.bin", outputs)
        result = board.run("--image", path, "--outputs", recorded, "--min-score", "0", "--save-input", out)
        difference = np.abs(read_arrays(out)[0] - feed["image"])
        assert difference.max() < 1.001 / (255 * 0.25) and (difference > 1e-6).mean() < 0.15
        decoder = Decoder(kind, NmsSettings(), config.input_size, STRIDES)
        expected = decoder.decode(outputs, feed["scale_factor"], feed.get("pad_offset"))[0]
        assert_same(result["detections"], expected)
    high, wide = (128, 70) if upright else (48, 160)  # 257x140 by 0.498, 100x331 by 0.4834
    top, left = {
        "end": (0, 0),
        "centre": ((128 - high) // 2, (160 - wide) // 2),
        "start": (128 - high, 160 - wide),
    }[padding]
    assert feed["im_shape"].tolist() == [[high, wide]]
    box = next(row["box"] for row in result["detections"] if row["class"] == 0)  # 50 60 70 80 at a scale
    at = 50 - left * image.shape[1] / wide, 60 - top * image.shape[0] / high
    assert np.allclose(box[:2], at, atol=1e-3)


def raw_outputs(seed, alignment):
    """Logits with a few clear objects among many faint ones."""
    random = np.random.default_rng(seed)
    classes = [random.normal(-3.0, 1.5, (1, n, 3)).astype(np.float32) for n in CELLS]
    aligned = [random.normal(0.5, 1.0, (1, n, 1)).astype(np.float32) for n in CELLS]
    distances = [random.normal(0, 2, (1, n, 32)).astype(np.float32) for n in CELLS]
    return classes + (aligned if alignment else []) + distances


def reference(outputs, scale, nms):
    """Detections by NumPy from logits: scores here, the rest by the package's own post-processing."""

    def sigmoid(x):
        return 1 / (1 + np.exp(-x.astype(np.float64)))

    scores = [sigmoid(level) for level in outputs[:2]]
    if len(outputs) == 6:
        scores = [np.sqrt(s * sigmoid(a) + 1e-9) for s, a in zip(scores, outputs[2:4])]
    decoder = Decoder("raw", nms, SIZE, STRIDES)
    outputs = [score.astype(np.float32) for score in scores] + outputs[-2:]
    return decoder.decode(outputs, scale)[0]


def assert_same(found, expected):
    """Printed detections are the expected ones: classes and order, scores and boxes to 1e-3."""
    assert [row["class"] for row in found] == expected.classes.tolist()
    assert np.allclose([row["score"] for row in found], expected.scores, atol=1e-3)
    assert np.allclose([row["box"] for row in found], expected.boxes, atol=1e-3)


NMS = {
    "usual": NmsSettings(),
    "few": NmsSettings(0.1, 0.3, 20, 7),
    "all": NmsSettings(0.0, 0.5, -1, -1),
}


@pytest.mark.parametrize("name", NMS)
@pytest.mark.parametrize("alignment", [True, False])
def test_raw_logits_decode_as_in_numpy(board, photo, name, alignment):
    nms = NMS[name]
    board.settings(nms=vars(nms))
    outputs = raw_outputs(1, alignment)
    scale = np.array([[SIZE[0] / photo.shape[0], SIZE[1] / photo.shape[1]]], np.float32)
    image = write_ppm(board.folder / "image.ppm", photo)
    recorded = write_arrays(board.folder / "out.bin", outputs)
    result = board.run("--image", image, "--outputs", recorded, "--min-score", "0")
    expected = reference(outputs, scale, nms)
    assert len(expected) == {"usual": 100, "few": 7}.get(name, len(expected)) and len(expected) > 5
    assert_same(result["detections"], expected)
    assert result["detections"][0]["label"] == "red cell"
    assert result["runtime"] == "recorded outputs" and result["size"] == [257, 331]
    assert result["milliseconds"]["runs"] == 1 and result["milliseconds"]["preprocess"] > 0


def test_scores_boxes_and_rows_decode_as_in_numpy(board, photo):
    image = write_ppm(board.folder / "image.ppm", photo)
    scale = np.array([[SIZE[0] / photo.shape[0], SIZE[1] / photo.shape[1]]], np.float32)
    random = np.random.default_rng(2)
    scores = [random.uniform(0, 0.6, (1, n, 3)).astype(np.float32) for n in CELLS]
    outputs = scores + raw_outputs(2, False)[2:]
    corners = random.uniform(0, 60, (1, 120, 4)).astype(np.float32)
    boxes = np.concatenate([corners[..., :2], corners[..., :2] + corners[..., 2:]], axis=-1)
    two = [boxes, random.uniform(0, 0.6, (1, 3, 120)).astype(np.float32)]
    rows = np.array([[2, 0.9, 1, 2, 3, 4], [0, 0.4, 5, 6, 7, 8], [-1, 0, 0, 0, 0, 0]], np.float32)
    cases = {"raw": outputs, "boxes": two, "detections": [rows, np.array([3.0])]}
    for kind, arrays in cases.items():
        board.settings(outputs=kind, class_outputs="scores")
        recorded = write_arrays(board.folder / "out.bin", arrays)
        result = board.run("--image", image, "--outputs", recorded, "--min-score", "0")
        arrays = [a if a.ndim > 1 else a.astype(np.int64) for a in arrays]
        expected = Decoder(kind, NmsSettings(), SIZE, STRIDES).decode(arrays, scale)[0]
        assert_same(result["detections"], expected)


def test_touching_boxes_without_area_and_equal_scores(board, photo):
    image = write_ppm(board.folder / "image.ppm", photo[:64, :96].copy())
    boxes = np.array([[[5, 5, 5, 5], [5, 5, 5, 5], [0, 0, 9, 9], [0, 0, 9, 9], [40, 40, 50, 50]]], np.float32)
    scores = np.full((1, 3, 5), 0.5, np.float32)
    board.settings(outputs="boxes")
    recorded = write_arrays(board.folder / "out.bin", [boxes, scores])
    found = board.run("--image", image, "--outputs", recorded, "--min-score", "0")["detections"]
    assert_same(found, multiclass_nms(boxes[0], scores[0], NmsSettings()))
    assert len(found) == 9


def some_detections():
    return Detections(
        np.array([0, 0, 1, 2]),
        np.array([0.9, 0.52, 0.7, 0.3], np.float32),
        np.array([[10, 10, 30, 30], [50, 10, 70, 30], [10, 40, 30, 60], [60, 40, 80, 60]], np.float32),
    )


def shifted(**changed):
    base = some_detections()
    return Detections(**{"classes": base.classes, "scores": base.scores, "boxes": base.boxes, **changed})


CHANGES = {
    "same": (some_detections(), 0),
    "a little": (shifted(boxes=some_detections().boxes + 1, scores=some_detections().scores - 0.1), 0),
    "another class": (shifted(classes=np.array([0, 0, 2, 2])), 2),
    "far away": (shifted(boxes=some_detections().boxes + 15), 6),
    "lower": (shifted(scores=np.array([0.9, 0.52, 0.4, 0.3], np.float32)), 1),
    "higher": (shifted(scores=np.array([0.9, 0.52, 0.7, 0.6], np.float32)), 1),
    "none": (Detections(np.zeros(0, int), np.zeros(0, np.float32), np.zeros((0, 4), np.float32)), 3),
}


@pytest.mark.parametrize("name", CHANGES)
def test_comparison_is_the_same_in_both_languages(board, photo, name):
    found, wrong = CHANGES[name]
    image = write_ppm(board.folder / "image.ppm", photo)
    labels, tolerance = SETTINGS["labels"], expectation.Tolerance(0.5, 0.15, 0.7)
    text = expectation.as_json(some_detections(), labels, tolerance, "hand")
    path = board.folder / "expected.json"
    path.write_text(json.dumps(text))
    rows = np.concatenate([found.classes[:, None], found.scores[:, None], found.boxes], axis=1)
    board.settings(outputs="detections")
    recorded = write_arrays(board.folder / "out.bin", [rows.reshape(-1, 6), np.array([len(rows)])])
    options = ["--image", image, "--outputs", recorded, "--expected", path]
    comparison = board.run(*options, code=1 if wrong else 0)["comparison"]
    expected, read = expectation.from_json(json.loads(path.read_text()), str(path))
    assert read == tolerance and len(expected) == 4
    lines = expectation.differences(expected, found, read, labels)
    assert comparison["wrong"] == lines and len(lines) == wrong
    assert comparison["expected"] == 3 and comparison["as_expected"] == (not wrong)


def test_differences_are_named(board):
    lines = expectation.differences(
        some_detections(), CHANGES["another class"][0], expectation.Tolerance(), SETTINGS["labels"]
    )
    assert lines == [
        'not found: white "cell" 0.700 at 10.0, 40.0, 30.0, 60.0',
        "not expected: Zähler 0.700 at 10.0, 40.0, 30.0, 60.0",
    ]


def test_bad_input_is_one_line_and_exit_code_2(board, photo):
    image = write_ppm(board.folder / "image.ppm", photo)
    none = nothing(board.folder)
    good = ["--image", image, "--outputs", none]
    (board.folder / "cut.ppm").write_bytes(image.read_bytes()[:-1])
    (board.folder / "text.ppm").write_text("P3\n1 1\n255\n1 2 3\n")
    (board.folder / "cut.bin").write_bytes(
        write_arrays(board.folder / "a.bin", [np.zeros((4, 6))]).read_bytes()[:-2]
    )
    cases = [
        (["--image", board.folder / "no.ppm", "--outputs", none], "no.ppm cannot be read"),
        (["--image", board.folder / "cut.ppm", "--outputs", none], "cut.ppm is truncated"),
        (["--image", board.folder / "text.ppm", "--outputs", none], "text.ppm is no "),
        (["--image", image, "--outputs", board.folder / "cut.bin"], "cut.bin is truncated"),
        (["--image", image, "--outputs", image], "image.ppm holds no arrays"),
        (["--image", image], "built without Paddle Lite"),
        ([*good, "--runs", "0"], "--runs: 0 is no number from 1"),
        ([*good, "--wrong", "0"], "--wrong is no option"),
        ([*good], "outputs are not those of settings.json (raw): [0, 6] [1]"),
        ([*good, "--expected", board.folder / "settings.json"], "key tolerance is missing"),
    ]
    for options, message in cases:
        said = board.run(*options, code=2)
        assert message in said and "\n" not in said, said
    for changed, message in [
        ({"interpolation": 4}, "interpolation 0 (nearest), 1 (linear) and 2 (cubic) only"),
        ({"mean": [1, 2]}, "settings.json: mean and std: three numbers"),
        ({"size": [64.5, 64]}, "settings.json: size: a whole number"),
        ({"inputs": ["image", "other"]}, "an input unknown here: other"),
        ({"strides": [8, 0]}, "strides: numbers above 0"),
    ]:
        board.settings(**changed)
        assert message in board.run(*good, code=2)
    for text in ("", "{", '{"model": "a"', '{"a": 1} 2', '{"a": "\\q"}', "[" * 99):
        (board.folder / "settings.json").write_text(text)
        assert "settings.json: no JSON at byte" in board.run(*good, code=2)


def test_ppm_with_comments(board, photo, tmp_path):
    path = tmp_path / "commented.ppm"
    path.write_bytes(b"P6 # a comment\n# another\n331 # wide\n257\n255\n" + photo.tobytes())
    board.settings(size=[257, 331], outputs="detections", mean=[0] * 3, std=[1] * 3, is_scale=False)
    out = tmp_path / "input.bin"
    board.run("--image", path, "--outputs", nothing(tmp_path), "--save-input", out)
    assert np.array_equal(read_arrays(out)[0][0].transpose(1, 2, 0), photo)
    assert np.array_equal(read_ppm(path), photo)


def test_maps_are_rows_in_another_order(board):
    """What a `.nb` for an NPU and a compiled network end in."""
    random = np.random.default_rng(6)
    sides = [(8, 12), (4, 6)]
    maps = [random.normal(-1, 2, (1, width, *side)).astype(np.float32) for width in (3, 32) for side in sides]
    rows = [array.reshape(1, array.shape[1], -1).transpose(0, 2, 1) for array in maps]
    image = write_ppm(board.folder / "image.ppm", np.zeros((64, 96, 3), np.uint8))
    found = []
    for number, outputs in enumerate((maps, rows)):
        recorded = write_arrays(
            board.folder / f"{number}.bin", [np.ascontiguousarray(one) for one in outputs]
        )
        found.append(board.run("--image", image, "--outputs", recorded, "--min-score", "0")["detections"])
    assert found[0] == found[1] and len(found[0]) > 5
