"""Sections of AutoCompression's YAML: defaults, values that are refused, what PaddleSlim gets."""

from __future__ import annotations

import importlib
import inspect

import pytest

from picoquant.config.recipe import load_recipe
from picoquant.errors import ConfigError
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.quantization.paddle_classes import CLASSES
from picoquant.quantization.settings import DistillationSettings, QatTrainSettings, QuantizationSettings
from picoquant.stages.plan import load_plan
from picoquant.utils.paddle_version.differences import paddle_3

SECTIONS = {
    "Distillation": DistillationSettings,
    "QuantAware": QuantAwareSettings,
    "TrainConfig": QatTrainSettings,
}


def test_shipped_recipe_has_paddledetections_values():
    recipe = load_recipe("picodet_s_qat_dis")
    distillation, quant, train = (recipe.section(name, kind) for name, kind in SECTIONS.items())
    assert (distillation.alpha, distillation.loss) == (1.0, "l2")
    assert quant.use_pact and quant.quantize_op_types == ("conv2d", "depthwise_conv2d")
    assert (train.train_iter, train.eval_iter) == (8000, 1000)
    assert train.learning_rate["type"] == "CosineAnnealingDecay"
    assert train.optimizer_builder == {"optimizer": {"type": "SGD"}, "weight_decay": 4e-05}


@pytest.mark.parametrize(("name", "kind"), SECTIONS.items())
def test_paddleslim_takes_every_section(name, kind):
    config_helpers = pytest.importorskip("paddleslim.auto_compression.config_helpers")
    section = kind(train_iter=1) if kind is QatTrainSettings else kind()
    values = section.to_paddleslim()
    if name == "TrainConfig":
        taken = config_helpers.extract_train_config({name: values})
    else:
        taken = config_helpers.extract_strategy_config({name: values})[name]
    assert {key: vars(taken)[key] for key in values} == values


@pytest.mark.parametrize(
    ("kind", "values", "message"),
    [
        (DistillationSettings, {"loss": "l1"}, r"Distillation.loss: 'l1'.*did you mean l2"),
        (DistillationSettings, {"alpha": 0}, "Distillation.alpha: expected a number above 0"),
        (DistillationSettings, {"loss": ["l2", "skd"]}, "2 values need as many lists"),
        (DistillationSettings, {"node": [["a"], ["b"]]}, "Distillation.loss.*2 values are needed"),
        (QuantAwareSettings, {"quantize_op_types": ["conv2"]}, r"did you mean conv2d"),
        (QuantAwareSettings, {"quantize_op_types": []}, "nothing would become INT8"),
        (QuantAwareSettings, {"weight_bits": 16}, "weight_bits: expected 2 to 8 bits, found 16"),
        (QuantAwareSettings, {"activation_quantize_type": "abs_max"}, "moving_average_abs_max"),
        (QuantAwareSettings, {"use_pact": "yes"}, "use_pact: expected true or false, found 'yes'"),
        (QuantAwareSettings, {"is_full_quantize": True}, "is_full_quantize: true is not supported"),
        (QuantAwareSettings, {"moving_rate": 1.5}, "moving_rate: expected between 0 and 1"),
        (QatTrainSettings, {}, "train_iter: say how many steps"),
        (QatTrainSettings, {"train_iter": 0}, "train_iter: expected a whole number above 0"),
        (QatTrainSettings, {"train_iter": 1, "learning_rate": -1.0}, "learning_rate: expected a number"),
        (QatTrainSettings, {"train_iter": 1, "learning_rate": {"T_max": 9}}, "learning_rate.type is missing"),
        (
            QatTrainSettings,
            {"train_iter": 1, "optimizer_builder": {"type": "SGD"}},
            "'type' is not supported",
        ),
        (QatTrainSettings, {"train_iter": 1, "optimizer_builder": {}}, "optimizer.type is missing"),
        (
            QatTrainSettings,
            {"train_iter": 1, "target_metric": 34},
            "target_metric: expected a mAP from 0 to 1",
        ),
        (
            QuantizationSettings,
            {"rounding": "adaround"},
            "Quantize.rounding: 'adaround' is not.*nearest, reconstructed",
        ),
        (QatTrainSettings, {"train_iter": 1, "amp_config": {"a": 1}}, "amp_config is not supported"),
    ],
)
def test_what_cannot_be_honoured_is_refused(kind, values, message):
    with pytest.raises(ConfigError, match=message):
        kind(**values)


def test_steps_are_the_shorter_of_epochs_and_iterations():
    # 2 epochs of 30 batches are 60 steps, fewer than 100 and more than 50.
    assert QatTrainSettings(train_iter=100, epochs=2).steps(30) == 60
    assert QatTrainSettings(train_iter=50, epochs=2).steps(30) == 50
    assert QatTrainSettings(train_iter=50).steps(None) == 50
    with pytest.raises(ConfigError, match="set train_iter"):
        QatTrainSettings(epochs=2).steps(None)


def test_classes_that_paddle_does_not_have_are_refused_before_anything_runs():
    def train(**values):
        return load_plan("picodet_s_qat_dis", [f"TrainConfig.{key}={value}" for key, value in values.items()])

    builder = "TrainConfig.optimizer_builder"
    for values, message in (
        (
            {"optimizer_builder.optimizer.type": "SDG"},
            rf"{builder}.optimizer.type: paddle.optimizer has no SDG \(did you mean SGD\?\)",
        ),
        ({"learning_rate.type": "CosineDecay"}, "learning_rate.type: paddle.optimizer.lr has no CosineDecay"),
        ({"optimizer_builder.regularizer": "{type: L3Decay}"}, "paddle.regularizer has no L3Decay"),
        ({"optimizer_builder.grad_clip": "{type: Conv2D}"}, "grad_clip.type: paddle.nn has no Conv2D"),
    ):
        with pytest.raises(ConfigError, match=message):
            train(**values).check()
    train(**{"optimizer_builder.grad_clip": "{type: ClipGradByNorm}"}).check()


def test_known_classes_are_paddles():
    import paddle

    bases = {
        "paddle.optimizer": paddle.optimizer.Optimizer,
        "paddle.optimizer.lr": paddle.optimizer.lr.LRScheduler,
        "paddle.regularizer": paddle.regularizer.WeightDecayRegularizer,
        "paddle.nn": paddle.nn.clip.ClipGradBase,
    }
    for name, base in bases.items():
        public = vars(importlib.import_module(name))
        found = {
            key
            for key, value in public.items()
            if inspect.isclass(value) and issubclass(value, base) and value is not base and key[0] != "_"
        }
        # Paddle 3 has more; those of both are taken.
        assert set(CLASSES[name]) <= found if paddle_3() else found == set(CLASSES[name]), name
