"""INT8 accuracy of real trained networks through the command, calibrated and trained on training images only.

python -m pytest -m slow tests/stages/test_quantization_goals.py
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace

import pytest

from tests.command_line import picoquant, with_sets


@dataclass(frozen=True)
class Known:
    """A trained network, the images it is measured on, and what it must keep.

    Attributes:
        data: folder, images and annotations to calibrate and train on, then to evaluate on.
        settings: of the run, besides data and weights.
        goals: least INT8 mAP by method.
        steps: of QAT; evaluated half-way, too.
        rollbacks: how often a step may be taken back.
    """

    weights: str
    data: tuple[tuple[str, str, str], tuple[str, str, str]]
    settings: tuple[str, ...]
    goals: dict[str, float]
    steps: int = 60
    rollbacks: int = 0


CELLS = Known(
    "picodet_s_npu_bccd.pdparams",
    (("bccd", "JPEGImages", "instances_train.json"), ("bccd", "JPEGImages", "instances_val.json")),
    ("Global.input_size=[320,320]",),
    {"qat": 0.340, "ptq": 0.340},  # FP32: 0.3402
)
COCO = Known(
    "picodet_s_320_coco.pdparams",
    (
        ("tiny_coco", "train2017", "annotations/instances_train2017.json"),
        ("tiny_coco", "val2017", "annotations/instances_val2017.json"),
    ),
    ("Global.config=picodet_s_320_coco",),
    {"qat": 0.327, "ptq": 0.30},  # FP32: 0.331; min-max without equalisation: 0.001
)
# The networks saw none of these images; 465 to evaluate on.
MANY = (("coco600", "images", "instances.json"), ("coco465", "images", "instances.json"))
ESNET = Known(
    "picodet_s_320_coco.pdparams",
    MANY,
    ("Global.config=picodet_s_320_coco",),
    {"qat": 0.2785, "ptq": 0.2745},  # FP32: 0.2825; at most 0.4 and 0.8 points less
    steps=300,
)
# Symmetric, such runs had 0.2404 to 0.2432: more than 0.4 points less than FP32. With zero points they keep it.
XS = Known(
    "picodet_xs_320_coco_lcnet.pdparams",
    MANY,
    ("Global.config=picodet_xs_320_coco_lcnet",),
    {"qat": 0.238, "ptq": 0.235},  # FP32: 0.2491
    steps=300,
)
XS_ZERO_POINTS = replace(
    XS,
    settings=(*XS.settings, "QuantAware.symmetric_activations=false"),
    goals={"qat": 0.243, "ptq": 0.241},
    rollbacks=1,
)

KNOWN = {"cells": CELLS, "coco": COCO, "esnet": ESNET, "xs": XS, "xs, zero points": XS_ZERO_POINTS}


def quantized(folder, shared, known, method, more=()):
    """Metrics of the stage `quantize` with the shipped recipe."""
    data = [
        f"{section}.{key}={value}"
        for section, (place, *names) in zip(("TrainDataset", "EvalDataset"), known.data)
        for key, value in zip(
            ("dataset_dir", "image_dir", "anno_path"), (shared / "datasets" / place, *names)
        )
    ]
    sets = [
        f"Quantize.method={method}",
        f"Global.weights={shared}/weights/{known.weights}",
        *known.settings,
        *data,
        f"TrainConfig.train_iter={known.steps}",
        f"TrainConfig.eval_iter={known.steps // 2}",
        *more,
    ]
    recipe = ["run", "--config", "picodet_s_qat_dis.yaml", "--until", "quantize", "--save-dir", folder]
    done = picoquant(*recipe, *with_sets(sets), timeout=3000)
    assert done.returncode == 0, done.stderr
    return json.loads((folder / "run.json").read_text())["stages"]["quantize"]["metrics"]


@pytest.mark.slow
@pytest.mark.parametrize("method", ["ptq", "qat"])
@pytest.mark.parametrize(
    "known", [CELLS, COCO, ESNET, XS, XS_ZERO_POINTS], ids=["cells", "coco", "esnet", "xs", "xs, zero points"]
)
def test_int8_keeps_the_accuracy(shared, tmp_path, known, method):
    metrics = quantized(tmp_path, shared, known, method)
    assert metrics["mAP"] >= known.goals[method]
    assert metrics["every_tensor_mAP"] >= known.goals[method]
    if method == "qat":
        assert len(metrics.get("rollbacks", [])) <= known.rollbacks
        start, *_, end = (one[1] for one in metrics["evaluations"])
        assert end > start - 0.005  # of so few images such a figure moves by half of that


@pytest.mark.slow
def test_one_scale_a_weight_keeps_the_accuracy(shared, tmp_path):
    """Channels that are off would take the whole range: 0.0003 with their weights."""
    metrics = quantized(tmp_path, shared, CELLS, "ptq", ["QuantAware.weight_quantize_type=abs_max"])
    assert metrics["settled_channels"] == 8
    assert metrics["mAP"] >= 0.340 and metrics["every_tensor_mAP"] >= 0.340


@pytest.mark.slow
def test_training_mends_what_one_scale_a_weight_costs(shared, tmp_path):
    """At most a point less than FP32's 0.2491, and well above the start."""
    metrics = quantized(tmp_path, shared, XS, "qat", ["QuantAware.weight_quantize_type=abs_max"])
    assert metrics["mAP"] >= 0.2391 and metrics["every_tensor_mAP"] >= 0.2391
    (_, _, start), *_, (_, _, end) = metrics["evaluations"]  # step, mAP, fidelity
    assert end > start + 0.05
