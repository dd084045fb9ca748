"""PaddleDetection's `--slim_config` files, as they stand in its configs/slim (keys and values, not its text)."""

from __future__ import annotations

import logging

import pytest

from picoquant.config.slim import slim_overrides
from picoquant.errors import ConfigError
from picoquant.stages.plan import load_plan
from tests.command_line import picoquant, refusal

CONFIG = (
    "'weight_quantize_type': 'channel_wise_abs_max', 'activation_quantize_type': 'moving_average_abs_max', "
)
CONFIG += (
    "'weight_bits': 8, 'activation_bits': 8, 'dtype': 'int8', 'window_size': 10000, 'moving_rate': 0.9, "
)
CONFIG += "'quantizable_layer_type': ['Conv2D', 'Linear']"
# picodet_s_quant.yml; those of lcnet, MobileNetV3 and ShuffleNetV2 differ in weights and schedule.
QAT = f"""
pretrain_weights: https://example.org/models/picodet_s_320_coco.pdparams
slim: QAT
QAT:
  quant_config: {{'activation_preprocess_type': 'PACT', {CONFIG}}}
  print_model: False
epoch: 50
LearningRate:
  base_lr: 0.001
  schedulers:
  - !PiecewiseDecay {{gamma: 0.1, milestones: [30, 40]}}
  - !LinearWarmup {{start_factor: 0., steps: 100}}
TrainReader:
  batch_size: 96
"""
PTQ = """
weights: https://example.org/models/picodet_s_320_coco.pdparams
slim: PTQ
PTQ:
  ptq_config: {'activation_quantizer': 'HistQuantizer', 'upsample_bins': 127, 'hist_percent': 0.999}
  quant_batch_num: 10
  fuse: True
"""
WEIGHTS = "https://example.org/models/picodet_s_320_coco.pdparams"


@pytest.fixture
def plan_of(tmp_path):
    def plan(text, *typed):
        (tmp_path / "slim.yml").write_text(text)
        texts = [*slim_overrides(str(tmp_path / "slim.yml"), typed), *typed]
        return load_plan("picodet_s_416_coco_lcnet", texts)

    return plan


def test_qat_becomes_quantaware_and_its_weights_those_that_are_quantised(plan_of, caplog):
    caplog.set_level(logging.INFO, "picoquant")
    plan = plan_of(QAT)
    quant = plan.quantization.quant_aware
    assert plan.common.weights == WEIGHTS and plan.quantization.own.method == "qat"
    assert quant.use_pact and quant.quantize_op_types == ("conv2d", "depthwise_conv2d")
    assert (quant.weight_bits, quant.moving_rate, quant.window_size) == (8, 0.9, 10000)
    # The schedule is QAT's in PaddleDetection: training in FP32 keeps the detector's own.
    assert plan.training.epochs == 300 and plan.train_reader.batch_size == 48
    line = next(line for line in caplog.messages if "slim.yml" in line)
    assert (
        "QAT of PaddleDetection's is stage quantize here: Quantize.method=qat, QuantAware.use_pact=true"
        in line
    )
    assert (
        "not read: epoch, LearningRate, TrainReader (sections Quantize, TrainConfig and Calibration" in line
    )


def test_other_bits_and_no_pact(plan_of):
    changed = QAT.replace("'activation_preprocess_type': 'PACT', ", "").replace(
        "'weight_bits': 8", "'weight_bits': 6"
    )
    quant = plan_of(changed).quantization.quant_aware
    assert (quant.use_pact, quant.weight_bits, quant.activation_bits) == (False, 6, 8)


def test_ptq(plan_of):
    plan = plan_of(PTQ)
    own = plan.quantization.own
    assert (own.method, own.ranges, own.percentile) == ("ptq", "percentile", 99.9)
    assert plan.common.weights == WEIGHTS
    assert plan.quantization.quant_aware.weight_quantize_type == "channel_wise_abs_max"
    # PaddleSlim's own default where a file names no quantiser, and HistQuantizer's where it names no part.
    assert plan_of("slim: PTQ\nPTQ: {ptq_config: {}}\n").quantization.own.ranges == "kl"
    bare = plan_of("slim: PTQ\nPTQ: {ptq_config: {activation_quantizer: HistQuantizer}}\n")
    assert bare.quantization.own.percentile == 99.999


@pytest.mark.parametrize(
    ("typed", "weights"),
    [
        ("pretrain_weights=mine.pdparams", "mine.pdparams"),
        ("weights=mine.pdparams", "mine.pdparams"),
        ("Global.weights=null", None),
        ("pretrain_weights=null", None),
    ],
)
def test_what_is_typed_wins(plan_of, typed, weights):
    assert plan_of(QAT, typed).common.weights == weights
    assert plan_of(QAT, "QuantAware.use_pact=false").quantization.quant_aware.use_pact is False


def test_an_exported_model_takes_the_place_of_the_weights(plan_of):
    plan = plan_of(QAT, "Global.model_dir=exported")
    assert (plan.common.weights, plan.common.model_dir) == (None, "exported")


@pytest.mark.parametrize(
    ("kind", "meant"),
    [
        ("DistillPrune", "distillation and pruning"),
        ("OFA", "search of a smaller network"),
    ],
)
def test_other_kinds_are_refused_by_name(tmp_path, kind, meant):
    (tmp_path / "slim.yml").write_text(f"slim: {kind}\n")
    with pytest.raises(
        ConfigError, match=f"slim: {kind.split()[0]}: {meant}.* is not supported; --slim_config takes"
    ):
        slim_overrides(str(tmp_path / "slim.yml"))


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (
            "slim: QTA\n",
            r"expected one of QAT, PTQ, Distill, .*, PrunerQAT, found 'QTA' \(did you mean QAT\?\)",
        ),
        (
            "epoch: 3\n",
            "expected one of QAT, PTQ, Distill, UnstructuredPruner, Pruner, PrunerQAT, found None",
        ),
        ("slim: QAT\n", "QAT: expected keys and values, found None"),
        ("slim: QAT\nQAT: {quant_config: 8}\n", "QAT.quant_config: expected keys and values, found 8"),
        (
            "slim: QAT\nQAT: {quant_config: {weight_bit: 8}}\n",
            "unknown key weight_bit .did you mean weight_bits",
        ),
        (
            "slim: QAT\nQAT: {quant_config: {quantizable_layer_type: [GRU]}}\n",
            "'GRU' is not known, only Conv2D",
        ),
        (
            "slim: QAT\nQAT: {quant_config: {activation_preprocess_type: LSQ}}\n",
            "expected PACT or null, found 'LSQ'",
        ),
        (
            "slim: PTQ\nPTQ: {ptq_config: {activation_quantizer: A}}\n",
            "expected one of KLQuantizer, .* found 'A'",
        ),
        (
            "slim: PTQ\nPTQ: {ptq_config: {activation_quantizer: HistQuantizer, hist_percent: 99.9}}\n",
            "between 0.5",
        ),
        ("slim: QAT\nQAT: {quant_config: {}}\nepohc: 3\n", "unknown key epohc .did you mean epoch"),
    ],
)
def test_what_is_wrong_in_a_file(tmp_path, text, error):
    (tmp_path / "slim.yml").write_text(text)
    with pytest.raises(ConfigError, match=error):
        slim_overrides(str(tmp_path / "slim.yml"))


def test_in_the_place_of_the_detector(tmp_path):
    (tmp_path / "slim.yml").write_text(QAT)
    with pytest.raises(
        ConfigError, match="slim: QAT is a file for --slim_config; --config takes the detector's"
    ):
        load_plan(str(tmp_path / "slim.yml"))


def test_the_command(tmp_path):
    """`train` with such a file ends with the INT8 model, as QAT is a way to train in PaddleDetection."""
    (tmp_path / "slim.yml").write_text(QAT)
    done = picoquant(
        "train", "-c", "quickstart", "--slim_config", tmp_path / "slim.yml", "-o", "weights=gone.pdparams",
        "--save-dir", tmp_path / "run",
    )  # fmt: skip
    assert "no weights at gone.pdparams" in refusal(done)  # of export: training is skipped
    assert "Global.weights names trained weights (gone.pdparams)" in done.stderr
    assert picoquant("eval", "--slim_config", tmp_path / "slim.yml").stderr.count("the run folder keeps") == 1
