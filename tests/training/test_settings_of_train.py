"""Section `Train`: the linear rule, accumulation, frozen parts, mixed precision."""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
import sys

import numpy as np
import paddle
import pytest

from picoquant import build_detector
from picoquant.config.recipe import load_recipe
from picoquant.config.training import train_settings
from picoquant.errors import ConfigError
from picoquant.stages.plan import Plan
from picoquant.training.fast import fast_convolutions_available
from picoquant.training.loop import train
from picoquant.training.onednn.engine import bfloat16_available
from picoquant.training.schedule import by_linear_rule, hint_at_reference
from picoquant.training.settings import LearningRate, PiecewiseDecay
from picoquant.training.state import arrays_of
from picoquant.yaml_files.load import dump_yaml
from tests.training import tiny
from tests.training.several import settle
from tests.training.test_loop import OneBatch, detector, settled_detector


def published_rate_of(recipe):
    return Plan(recipe).published_rate


def of_recipe(*overrides: str):
    return train_settings(load_recipe("quickstart.yaml", overrides))


def test_the_section_reaches_the_settings():
    settings = of_recipe(
        "Train.reference_batch=224",
        "Train.accumulate_steps=2",
        "Train.freeze_backbone=true",
        "Train.freeze_batch_norm=true",
        "Train.amp=true",
    )
    assert (settings.reference_batch, settings.accumulate_steps) == (224, 2)
    assert settings.freeze_backbone and settings.freeze_batch_norm and settings.amp
    plain = of_recipe()
    assert (plain.reference_batch, plain.accumulate_steps) == (None, 1)
    assert not (plain.freeze_backbone or plain.freeze_batch_norm or plain.amp or plain.sync_bn)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Train.reference_batch=0", r"Train\.reference_batch: 0"),
        ("Train.accumulate_steps=0.5", r"Train\.accumulate_steps: 0\.5"),
        ("Train.amp=O1", r"Train\.amp: 'O1' is not true or false"),
        ("Train.freeze_backbon=true", r"did you mean freeze_backbone"),
        ("Train.early_stop=0", r"Train\.early_stop: 0 is not a whole number of 1 or more"),
        ("OptimizerBuilder.optimizer.type=AdamV", r"'AdamV' is not one of Momentum.*did you mean Adam"),
        ("OptimizerBuilder.optimizer.beta1=0.5", r"OptimizerBuilder\.optimizer: Momentum: unknown key beta1"),
        ("OptimizerBuilder.optimizer={type: Adam, momentum: 0.9}", r"optimizer: Adam: unknown key momentum"),
        (
            "OptimizerBuilder.optimizer={type: Adam, beta2: 1}",
            r"optimizer\.beta2: 1 is not at least 0 and below 1",
        ),
        ("OptimizerBuilder.optimizer={type: AdamW, epsilon: 0}", r"optimizer\.epsilon: 0 is not above 0"),
        ("OptimizerBuilder.optimizer={type: AdamW, weight_decay: -1}", r"optimizer\.weight_decay: -1 is not"),
        ("OptimizerBuilder.optimizer.use_nesterov=1", r"use_nesterov must be true or false, not 1"),
    ],
)
def test_a_wrong_value_names_its_key(text, message):
    with pytest.raises(ConfigError, match=message):
        of_recipe(text)


def test_each_optimizers_decay_is_where_paddledetection_has_it():
    adam = of_recipe("OptimizerBuilder.optimizer={type: Adam, beta1: 0.8}").optimizer
    assert (adam.type, adam.beta1, adam.beta2, adam.weight_decay) == (
        "Adam",
        0.8,
        0.999,
        4e-5,
    )  # the regulariser's
    adamw = of_recipe("OptimizerBuilder.optimizer={type: AdamW}").optimizer
    assert (adamw.weight_decay, adamw.epsilon) == (0.01, 1e-8)  # paddle's own; the regulariser is not read
    own = of_recipe("OptimizerBuilder.optimizer={type: AdamW, weight_decay: 0.05}").optimizer
    assert own.weight_decay == 0.05
    assert of_recipe("OptimizerBuilder.regularizer=false").optimizer.weight_decay == 0
    assert (
        of_recipe("OptimizerBuilder={optimizer: {type: SGD}}").optimizer.weight_decay == 1e-4
    )  # its default


def test_what_says_which_evaluation_is_best():
    assert Plan(load_recipe("quickstart.yaml", ["Train.save_best=AP50"])).training.save_best == "AP50"
    voc = Plan(
        load_recipe("quickstart.yaml", ["metric=VOC", "Train.save_best=VOC_11point", "Train.early_stop=5"])
    )
    assert (voc.voc, voc.training.save_best, voc.training.early_stop) == (True, "VOC_11point", 5)
    with pytest.raises(ConfigError, match=r"Train.save_best: 'VOC_11point' is no number of an evaluation"):
        _ = Plan(load_recipe("quickstart.yaml", ["Train.save_best=VOC_11point"])).training
    with pytest.raises(ConfigError, match=r"'map' is no number of an evaluation \(did you mean mAP\?\)"):
        _ = Plan(load_recipe("quickstart.yaml", ["Train.save_best=map"])).training
    with pytest.raises(ConfigError, match="metric: expected COCO or VOC, found 'voc'"):
        _ = Plan(load_recipe("quickstart.yaml", ["metric=voc"])).training


def test_the_rate_is_in_proportion_to_the_images_of_an_update(caplog):
    settings = dataclasses.replace(of_recipe(), reference_batch=224, accumulate_steps=2)
    settings = dataclasses.replace(settings, learning_rate=LearningRate(0.32))
    with caplog.at_level("INFO", logger="picoquant"):
        scaled = by_linear_rule(settings, batch_size=7, devices=4)
    assert scaled.learning_rate.base_lr == pytest.approx(0.08)  # 56 of 224 images
    assert "base_lr 0.08 = 0.32 x 56 / 224, 56 images an update (4 x 7, 2 steps)" in caplog.text


def test_rates_given_as_values_are_scaled_too():
    decay = PiecewiseDecay(gamma=(0.1,), milestones=(5,), values=(0.4, 0.04))
    settings = dataclasses.replace(of_recipe(), reference_batch=16, learning_rate=LearningRate(0.4, (decay,)))
    scaled = by_linear_rule(settings, batch_size=8, devices=1).learning_rate
    assert scaled.decay.values == pytest.approx((0.2, 0.02))


def test_without_a_reference_the_rate_stays_and_is_logged(caplog):
    settings = of_recipe()
    with caplog.at_level("INFO", logger="picoquant"):
        assert by_linear_rule(settings, 16, 1) == settings
    assert "base_lr 0.01 as it is, 16 images an update (1 x 16)" in caplog.text


def test_a_published_rate_with_few_images_is_hinted_at(caplog):
    published = published_rate_of(load_recipe("picodet_s_416_coco_npu.yml", ["TrainReader.batch_size=8"]))
    rate, batch = published
    hint_at_reference(8, rate / 2, published)
    hint_at_reference(4 * batch, rate, published)
    hint_at_reference(8, rate, None)
    assert not caplog.text
    hint_at_reference(8, rate, published)
    assert f"Train.reference_batch={4 * batch}" in caplog.text


OWN_FILES = {
    "on a shipped configuration": ("_BASE_: picodet_s_320_coco_lcnet.yml\nnum_classes: 7\n", (0.32, 64)),
    "on its parts": (
        "_BASE_: [../datasets/coco_detection.yml, ../runtime.yml, _base_/picodet_v2_s.yml, _base_/optimizer_300e.yml,"
        " _base_/picodet_416_reader.yml]\nLearningRate: {base_lr: 0.24}\nTrainReader: {batch_size: 4}\n",
        (0.24, 48),
    ),
    "of PaddleX": ("Global: {model: PicoDet-M}\nTrain: {batch_size: 2, learning_rate: 0.24}\n", (0.24, 48)),
    "named by a recipe": ("Global: {config: base.yml}\n", (0.28, 56)),
    "with a rate of its own": ("_BASE_: picodet_s_320_coco_lcnet.yml\nLearningRate: {base_lr: 0.01}\n", None),
    "with a network of its own": ("_BASE_: picodet_s_320_coco_lcnet.yml\nLCNet: {scale: 0.5}\n", None),
}


@pytest.mark.parametrize("kind", OWN_FILES)
def test_a_file_of_ones_own_has_the_rate_of_what_it_builds_on(kind, tmp_path):
    text, expected = OWN_FILES[kind]
    (tmp_path / "base.yml").write_text("_BASE_: picodet_xs_416_coco_lcnet.yml\n")
    (tmp_path / "my.yml").write_text(text)
    recipe = load_recipe(str(tmp_path / "my.yml"))
    assert published_rate_of(recipe) == expected
    (tmp_path / "config.yml").write_text(dump_yaml(recipe.document))  # as a run folder keeps it
    assert published_rate_of(load_recipe(str(tmp_path / "config.yml"))) == expected


def test_mixed_precision_is_refused_on_a_cpu_without_bfloat16():
    """In a process that may not use its processor's instructions for it."""
    script = (
        "from picoquant.errors import UserError\n"
        "from picoquant.training.settings import check_precision\n"
        "check_precision(False, 'cpu'), check_precision(True, 'gpu:0')\n"
        "try:\n    check_precision(True, 'cpu')\n"
        "except UserError as error:\n    print(error)\n"
    )
    environment = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_VNNI"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
    )
    assert re.match(r"Train\.amp: .* multiplies bfloat16 .* Train\.amp=false", done.stdout)


@pytest.mark.skipif(not bfloat16_available(), reason="this processor does not multiply bfloat16")
def test_training_in_bfloat16_is_near_that_in_floats(tmp_path, root):
    """Weights and their updates are 32-bit floats; the losses of 6 steps differ by what maps are rounded to."""
    ends = {}
    for name in ("floats", "bfloat16", "again"):
        paddle.seed(1)
        model = build_detector(root / "configs/picodet_s_416_coco_npu.yml", 2)
        result = train(
            model,
            OneBatch(6),
            tiny.settings(epochs=1, amp=name != "floats", fast_convolutions=True),
            tmp_path / name,
        )
        rows = (result.work_dir / "metrics.csv").read_text().splitlines()
        place = rows[0].split(",").index("loss")
        ends[name] = ([float(row.split(",")[place]) for row in rows[1:]], arrays_of(model))
    assert ends["again"][0] == ends["bfloat16"][0] != ends["floats"][0]
    np.testing.assert_allclose(ends["bfloat16"][0], ends["floats"][0], rtol=0.05)
    for name, value in ends["bfloat16"][1].items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, ends["again"][1][name])


class Same:
    """Batches of `size` times the same image, so that a part's loss is normalised as the whole's."""

    def __init__(self, size: int, steps: int) -> None:
        self.batch_size, self.steps_per_epoch = size, steps

    def epoch(self, epoch, start_step=0):
        whole = next(OneBatch(1).epoch(0))
        batch = {name: value[:1].repeat(self.batch_size, axis=0) for name, value in whole.items()}
        return iter([batch] * (self.steps_per_epoch - start_step))


def test_two_accumulated_half_batches_are_one_whole_batch(tmp_path):
    constant = LearningRate(0.05, (PiecewiseDecay(gamma=(), milestones=()),))
    options = {"epochs": 1, "ema": None, "freeze_batch_norm": True, "learning_rate": constant}
    ends = []
    for name, reader, steps in (("whole", Same(4, 2), 1), ("halves", Same(2, 4), 2)):
        model = detector()
        settle(model, paddle.to_tensor(next(OneBatch(1).epoch(0))["image"]))
        start = arrays_of(model)
        train(model, reader, tiny.settings(accumulate_steps=steps, **options), tmp_path / name)
        ends.append(arrays_of(model))
    moved = max(np.abs(ends[0][name] - value).max() for name, value in start.items())
    assert moved > 1e-3
    for name, value in ends[0].items():
        np.testing.assert_allclose(ends[1][name], value, rtol=1e-5, atol=1e-5 * moved, err_msg=name)


@pytest.mark.parametrize("fast", [False, pytest.param(True, marks=pytest.mark.skipif(
    not fast_convolutions_available(), reason="this paddle has no oneDNN"))])  # fmt: skip
def test_a_frozen_backbone_stays_as_it_is(tmp_path, fast):
    model = settled_detector()
    before = arrays_of(model)
    changes = {"epochs": 2, "freeze_backbone": True, "fast_convolutions": fast}
    train(model, OneBatch(1), tiny.settings(**changes), tmp_path)
    after = arrays_of(model)
    changed = {name for name in after if not np.array_equal(before[name], after[name])}
    assert not [name for name in changed if name.startswith("backbone.")]
    for part in ("neck.", "head."):
        for value in ("conv.weight", "._mean"):
            assert any(name.startswith(part) and name.endswith(value) for name in changed), (part, value)
