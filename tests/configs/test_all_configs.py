"""Every shipped configuration: it is understood, has the published size, predicts and learns."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Callable

import numpy as np
import paddle
import pytest

from picoquant.config.detector import load_detector
from picoquant.config.recipe import Recipe
from picoquant.detector.picodet import PicoDet
from picoquant.detector.settings import DetectorSettings
from picoquant.evaluation.export_parity import verify_export
from picoquant.export import InferConfig
from picoquant.export.paddle_export import export_model
from picoquant.stages.plan import Plan, load_plan
from picoquant.yaml_files.load import load_detection_config
from picoquant.yaml_files.locate import shipped_files

NAMES = [
    name for name, path in shipped_files("configs").items() if path.parent.name != "paddlex"
]  # see test_paddlex

# Millions of parameters from PaddleDetection's tables (configs/picodet/README and legacy_model/README).
# They are the weights that training changes at 80 classes: running means and variances of the
# batch-norms are not counted, prediction layers that PicoHeadV2 saves under two names are counted once.
# So counted, ours differ by less than 1 % (XS: 0.7043 for 0.70, S: 1.1865 for 1.18, M: 3.4653 for 3.46,
# L: 5.8045 for 5.80). The tables of 2021.08 have megabytes instead, here divided by 4 bytes; those are
# sizes of files, and 2 to 4 % off.
PUBLISHED = {
    r"picodet_xs_.*_lcnet": 0.70,
    r"picodet_s_.*_lcnet": 1.18,
    r"picodet_m_.*_lcnet": 3.46,
    r"picodet_l_.*_lcnet": 5.80,
    r"picodet_s_\d+_coco": 0.99,
    r"picodet_m_\d+_coco": 2.15,
    r"picodet_l_\d+_coco": 3.30,
    r"picodet_shufflenetv2_1x_416_coco": 1.17,
    r"picodet_mobilenetv3_large_1x_416_coco": 3.55,
    r"picodet_lcnet_1_5x_416_coco": 3.10,
    r"picodet_s_shufflenetv2_.*": 3.8 / 4,
    r"picodet_m_shufflenetv2_.*": 8.1 / 4,
    r"picodet_m_mbv3_.*": 11.6 / 4,
}
# No figure: LCNet x1.5 at 640 is published with that of the network at 416, which has narrower layers;
# ResNet18-vd with 11.10 M, less than its backbone alone has (11.2 M).

# Tensors in the weights file, numbers in them, and numbers that training changes, of the networks that
# PaddleDetection 2.6.0 builds from the same values (2021.08: with PAN and the 3x3 head of that time).
COUNTS = {
    "picodet_l_320_coco": (660, 3_341_085, 3_305_013),
    "picodet_l_320_coco_lcnet": (543, 5_922_544, 5_804_504),
    "picodet_l_416_coco": (660, 3_341_085, 3_305_013),
    "picodet_l_416_coco_lcnet": (543, 5_922_544, 5_804_504),
    "picodet_l_640_coco": (660, 3_341_085, 3_305_013),
    "picodet_l_640_coco_lcnet": (543, 5_922_544, 5_804_504),
    "picodet_lcnet_1_0x_416_coco": (491, 1_856_236, 1_830_692),
    "picodet_lcnet_1_5x_416_coco": (491, 3_138_684, 3_107_668),
    "picodet_lcnet_1_5x_640_coco": (491, 3_534_268, 3_499_604),
    "picodet_lcnet_2_5x_416_coco": (491, 7_126_684, 7_084_724),
    "picodet_lcnet_2_5x_640_coco": (491, 7_126_684, 7_084_724),
    "picodet_lcnet_x1_0_layout": (491, 1_817_536, 1_791_992),
    "picodet_lcnet_x2_5_640_mainbody": (491, 7_085_920, 7_043_960),
    "picodet_lcnet_x2_5_layout": (491, 7_087_984, 7_046_024),
    "picodet_m_320_coco": (660, 2_181_430, 2_152_558),
    "picodet_m_320_coco_lcnet": (543, 3_558_752, 3_465_320),
    "picodet_m_416_coco": (660, 2_181_430, 2_152_558),
    "picodet_m_416_coco_lcnet": (543, 3_558_752, 3_465_320),
    "picodet_m_mbv3_320_coco": (338, 3_032_433, 3_006_841),
    "picodet_m_mbv3_416_coco": (338, 3_032_433, 3_006_841),
    "picodet_m_shufflenetv2_320_coco": (351, 2_089_867, 2_065_395),
    "picodet_m_shufflenetv2_416_coco": (351, 2_089_867, 2_065_395),
    "picodet_mobilenetv3_large_1x_416_coco": (610, 3_591_778, 3_554_666),
    "picodet_r18_640_coco": (463, 12_038_956, 12_014_500),
    "picodet_s_192_lcnet_pedestrian": (463, 1_188_224, 1_155_844),
    "picodet_s_192_pedestrian": (580, 979_723, 962_067),
    "picodet_s_320_coco": (580, 1_010_375, 992_719),
    "picodet_s_320_coco_lcnet": (463, 1_249_528, 1_186_496),
    "picodet_s_320_lcnet_pedestrian": (463, 1_188_224, 1_155_844),
    "picodet_s_320_pedestrian": (580, 979_723, 962_067),
    "picodet_s_320_voc": (580, 987_095, 969_439),
    "picodet_s_416_coco": (580, 1_010_375, 992_719),
    "picodet_s_416_coco_lcnet": (463, 1_249_528, 1_186_496),
    "picodet_s_416_coco_npu": (583, 1_217_464, 1_154_048),
    "picodet_s_shufflenetv2_320_coco": (351, 966_483, 950_039),
    "picodet_s_shufflenetv2_416_coco": (351, 966_483, 950_039),
    "picodet_shufflenetv2_1x_416_coco": (543, 1_200_932, 1_178_920),
    "picodet_xs_320_coco_lcnet": (463, 762_906, 704_258),
    "picodet_xs_416_coco_lcnet": (463, 762_906, 704_258),
}

_SMALL = (128, 96)  # height, width: pixels of the quick sweep


@pytest.fixture(scope="module")
def plans() -> dict[str, Plan]:
    return {name: load_plan(name) for name in NAMES}


def trained(model: paddle.nn.Layer) -> int:
    """Weights that training changes, where nothing is frozen."""
    return sum(p.size for p in model.parameters() if not p.stop_gradient)


@pytest.mark.parametrize("name", NAMES)
def test_it_is_understood(name, plans):
    plan = plans[name]
    detector, train, evaluation = plan.detector, plan.train_reader, plan.eval_reader
    assert plan.train_dataset.annotation_file.name
    assert plan.eval_dataset.annotation_file.name
    schedule = plan.training
    assert schedule.ema is not None and schedule.learning_rate.schedulers
    named = re.search(r"_(192|320|416|640)(_|$)", name)
    size = (int(named.group(1)),) * 2 if named else (800, 608)
    assert plan.input_size == size
    image = plan.recipe.document["TestReader"]["inputs_def"]["image_shape"]
    assert image == [1, 3, *size]
    assert train.batch_size >= evaluation.batch_size and len(detector.head.fpn_stride) in (3, 4)
    one_class = "pedestrian" in name or "mainbody" in name
    classes = 1 if one_class else 5 if "layout" in name else 20 if "voc" in name else 80
    assert detector.num_classes == classes


def _published(name: str) -> float | None:
    return next((value for pattern, value in PUBLISHED.items() if re.fullmatch(pattern, name)), None)


@pytest.mark.parametrize("name", [name for name in NAMES if _published(name)])
def test_it_has_the_published_number_of_parameters(name, networks):
    assert trained(networks(name)) / 1e6 == pytest.approx(_published(name), rel=0.05)


@pytest.mark.parametrize("name", NAMES)
def test_it_has_paddledetections_number_of_parameters(name, networks):
    found = networks(name)
    sizes = [value.size for value in found.state_dict().values()]
    assert (len(sizes), sum(sizes), trained(found)) == COUNTS[name]


def sweep(model: PicoDet, size: tuple[int, int], folder: Path, kinds: Sequence[str]) -> None:
    """Predict, on noise; export, reload and compare; take one step of training."""
    image = np.random.RandomState(0).rand(2, 3, *size).astype(np.float32)
    points = sum(math.ceil(size[0] / s) * math.ceil(size[1] / s) for s in model.strides)
    model.eval()
    with paddle.no_grad():
        scores, boxes = model(paddle.to_tensor(image[:1]))
    assert scores.shape == [1, model.num_classes, points] and boxes.shape == [1, points, 4]
    assert float(scores.min()) >= 0 and float(scores.max()) <= 1

    for kind in kinds:
        exported = export_model(
            model, folder / kind, kind, size, InferConfig(size, class_names(model), strides=model.strides)
        )
        verify_export(model, exported, image)

    model.train()
    sides = np.float32([size[1], size[0], size[1], size[0]])
    box = sides * np.float32([[[0.1, 0.2, 0.6, 0.7]], [[0.3, 0.1, 0.9, 0.9]]])
    labels = np.zeros((2, 1, 1), np.int64)
    truth = (paddle.to_tensor(value) for value in (box, labels, np.ones((2, 1, 1), np.float32)))
    loss = model.loss(paddle.to_tensor(image), *truth, epoch=0)["loss"]
    assert math.isfinite(float(loss)) and float(loss) > 0
    before = model.head.state_dict()
    before = {key: value.numpy() for key, value in before.items()}
    loss.backward()
    paddle.optimizer.SGD(1e-3, parameters=model.parameters()).step()
    after = {key: value.numpy() for key, value in model.state_dict().items()}
    assert all(np.isfinite(value).all() for value in after.values())
    assert any((after[f"head.{key}"] != value).any() for key, value in before.items())


def class_names(model: PicoDet) -> list[str]:
    return [f"class{i}" for i in range(model.num_classes)]


def build(name: str) -> PicoDet:
    """The network, its prediction layers strong enough for scores and boxes to differ."""
    paddle.seed(0)
    model = load_detector(name)
    for key, parameter in model.head.named_parameters():
        if key.startswith(("head_cls", "head_reg")) and key.endswith("weight"):
            parameter.set_value(parameter * 20)
    return model


@pytest.fixture(scope="module")
def networks(plans) -> Callable[[str], PicoDet]:
    """By name, the network of a configuration; configurations that differ in size or schedule share one."""
    built: dict[DetectorSettings, PicoDet] = {}

    def network(name: str) -> PicoDet:
        settings = plans[name].detector
        if settings not in built:
            built[settings] = build(name)
        return built[settings]

    return network


@pytest.fixture(scope="module")
def swept() -> set[object]:
    """What went through the quick sweep: networks, and kinds of network that were exported."""
    return set()


# S and the older names have every kind of backbone; M and L are the same ones, wider.
_LARGE = re.compile(r"picodet_[ml]_")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if _LARGE.match(name) else name for name in NAMES]
)
def test_it_predicts_exports_and_learns(name, plans, networks, swept, tmp_path):
    """An export takes seconds: here the first of each backbone, neck and head; the slow test has them all."""
    model = networks(name)
    if id(model) not in swept:
        settings = plans[name].detector
        kind = tuple(type(part) for part in (settings.backbone, settings.neck, settings.head))
        sweep(model, _SMALL, tmp_path, [] if kind in swept else ["boxes"])
        swept.update([id(model), kind])


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_it_predicts_exports_and_learns_at_its_own_size(name, plans, tmp_path):
    sweep(build(name), plans[name].input_size, tmp_path, ["raw", "boxes", "detections"])


GOLDEN = {
    "lcnet_xs": "picodet_xs_320_coco_lcnet",
    "lcnet_s": "picodet_s_320_coco_lcnet",
    "npu_s": "picodet_s_416_coco_npu",
    "esnet_s": "legacy_model/picodet_s_320_coco",
    "legacy_lcnet_1_0x": "picodet_lcnet_1_0x_416_coco",
    "mobilenetv3": "picodet_mobilenetv3_large_1x_416_coco",
    "shufflenetv2_1x": "picodet_shufflenetv2_1x_416_coco",
}


@pytest.mark.parametrize("golden", GOLDEN)
def test_it_has_the_values_of_paddledetections(golden, shared):
    facts = json.loads((shared / "alignment" / f"{golden}.json").read_text())
    expected = facts["hyperparameters"]
    assert facts["config"].endswith(GOLDEN[golden].split("/")[-1] + ".yml")
    document = load_detection_config(GOLDEN[golden])
    for part in ("backbone", "neck", "head"):
        section = expected.pop(part)
        assert document["PicoDet"][part] == section["name"]
        assert {**document[section["name"]], "name": section["name"]} == section
    # The goldens spell out defaults of the schedule, so compare what is made of it. epochs_first, true
    # there, says that a warm-up's epochs count before its steps.
    schedule = expected.pop("LearningRate")
    schedule["schedulers"] = [
        {key: value for key, value in entry.items() if key != "epochs_first"}
        for entry in schedule["schedulers"]
    ]
    given, golden_made = (
        Plan(Recipe({**document, **over, "Global": {}}, golden)).training
        for over in ({}, {"LearningRate": schedule})
    )
    assert given == golden_made
    for key, value in expected.items():
        if isinstance(value, dict):
            assert {name: document[key][name] for name in value} == value, key
        else:
            assert document[key] == value, key
