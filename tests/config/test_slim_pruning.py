"""PaddleDetection's `--slim_config` files for pruning: keys and values as in its configs/slim, not its text."""

from __future__ import annotations

import logging

import pytest

from picoquant.config.slim import ends_with_quantize, slim_overrides
from picoquant.errors import ConfigError
from picoquant.stages.plan import load_plan
from tests.command_line import picoquant, refusal

# configs/slim/prune/picodet_m_unstructured_prune_75.yml
SPARSE = """
pretrain_weights: https://example.com/picodet_m_320_coco.pdparams
slim: UnstructuredPruner
UnstructuredPruner:
    {stable_epochs: 0, pruning_epochs: 150, tunning_epochs: 150, pruning_steps: 300, ratio: 0.75, initial_ratio: 0.15,
     prune_params_type: conv1x1_only}
"""
# Shaped as configs/slim/prune/yolov3_prune_fpgm.yml
FILTERS = """
pretrain_weights: whole.pdparams
slim: Pruner
Pruner:
  {criterion: fpgm, pruned_params: ['conv2d_1.w_0', 'conv2d_3.w_0'], pruned_ratios: [0.1,'0.2'], print_params: False}
"""
# Shaped as configs/slim/extensions/yolov3_mobilenetv1_prune_qat.yml
BOTH = """
pretrain_weights: whole.pdparams
slim: PrunerQAT
LearningRate: {base_lr: 0.03}
TrainReader: {batch_size: 7}
PrunerQAT:
  criterion: l1_norm
  pruned_params: ['conv2d_1.w_0']
  pruned_ratios: [0.3]
  print_prune_params: True
  quant_config: {weight_quantize_type: channel_wise_abs_max, quantizable_layer_type: [Conv2D], weight_bits: 8}
  print_qat_model: True
"""


@pytest.fixture
def plan_of(tmp_path, caplog):
    def load(text, *typed, config="picodet_s_416_coco_npu.yml"):
        (tmp_path / "slim.yml").write_text(text)
        with caplog.at_level(logging.INFO, "picoquant"):
            texts = slim_overrides(str(tmp_path / "slim.yml"), typed)
        return load_plan(config, [*texts, *typed])

    return load


def test_weights_that_become_0(plan_of, caplog):
    plan = plan_of(SPARSE)
    found = plan.unstructured_pruner
    assert (found.mode, found.ratio, found.initial_ratio, found.pruning_steps) == ("gmp", 0.75, 0.15, 300)
    assert (found.prune_params_type, found.local_sparsity) == ("conv1x1_only", True)
    assert plan.pretrain_weights == "https://example.com/picodet_m_320_coco.pdparams"
    assert plan.pruner is None
    assert plan.common.weights is None  # they are trained on
    assert len(caplog.records) == 1
    assert "section UnstructuredPruner; also laid over the detector's file: pretrain_weights" in caplog.text


def test_what_is_typed_wins(plan_of):
    plan = plan_of(SPARSE, "pretrain_weights=mine.pdparams", "UnstructuredPruner.ratio=0.5")
    assert plan.pretrain_weights == "mine.pdparams"
    assert (plan.unstructured_pruner.ratio, plan.unstructured_pruner.pruning_epochs) == (0.5, 150)


def test_filters(plan_of):
    found = plan_of(FILTERS).pruner
    assert (found.criterion, found.pruned_params) == ("fpgm", ("conv2d_1.w_0", "conv2d_3.w_0"))
    assert found.pruned_ratios == (0.1, 0.2)


def test_filters_and_qat(plan_of):
    """The schedule is laid over the detector's key by key, as PaddleDetection does; its schedulers stay."""
    plan = plan_of(BOTH)
    assert (plan.pruner.criterion, plan.pruner.print_params) == ("l1_norm", True)
    assert plan.quantization.own.method == "qat"
    assert plan.quantization.quant_aware.quantize_op_types == ("conv2d", "depthwise_conv2d")
    assert (plan.training.learning_rate.base_lr, plan.train_reader.batch_size) == (0.03, 7)
    assert plan.training.learning_rate.warmup.epochs == 2


def test_a_schedule_with_tags(plan_of):
    text = (
        SPARSE
        + "LearningRate: {schedulers: [!CosineDecay {max_epochs: 9}, !LinearWarmup {steps: 3}]}\nepoch: 301\n"
    )
    training = plan_of(text).training
    assert (training.learning_rate.decay.max_epochs, training.learning_rate.warmup.steps) == (9, 3)
    assert training.epochs == 301


def test_which_commands_go_on_to_int8(tmp_path):
    for text, expected in ((SPARSE, False), (FILTERS, False), (BOTH, True)):
        (tmp_path / "slim.yml").write_text(text)
        assert ends_with_quantize(str(tmp_path / "slim.yml")) is expected


def test_the_keys_at_the_top_of_a_detectors_file(tmp_path):
    """configs/picodet/legacy_model/pruner/optimizer_300e_pruner.yml as earlier releases had it."""
    (tmp_path / "mine.yml").write_text(
        "_BASE_: picodet_s_320_coco_lcnet.yml\nunstructured_prune: true\nstable_epochs: 0\npruning_epochs: 150\n"
        "tunning_epochs: 150\npruning_steps: 300\nratio: 0.75\ninitial_ratio: 0.15\nprune_params_type: conv1x1_only\n"
    )
    found = load_plan(str(tmp_path / "mine.yml")).unstructured_pruner
    assert (found.ratio, found.tunning_epochs, found.prune_params_type) == (0.75, 150, "conv1x1_only")
    assert load_plan(str(tmp_path / "mine.yml"), ["unstructured_prune=false"]).unstructured_pruner is None


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("slim: Pruner\n", "Pruner: expected keys and values, found None"),
        (
            "slim: Pruner\nPruner: {pruned_param: [a]}\n",
            "Pruner: unknown key pruned_param .did you mean pruned_params",
        ),
        (
            "slim: UnstructuredPruner\nUnstructuredPruner: {}\nepohc: 3\n",
            "unknown key epohc .did you mean epoch",
        ),
        ("slim: PrunerQAT\nPrunerQAT: {quant_config: {weight_bit: 8}}\n", "unknown key weight_bit"),
        (
            "slim: UnstructuredPruner\nUnstructuredPruner: {ratio: 1.5}\n",
            "UnstructuredPruner.ratio: expected a part",
        ),
    ],
)
def test_what_is_wrong(plan_of, text, error):
    with pytest.raises(ConfigError, match=error):
        _ = plan_of(text).unstructured_pruner


def test_pruning_before_there_are_weights(tmp_path):
    (tmp_path / "slim.yml").write_text(FILTERS)
    done = picoquant(
        "train", "-c", "quickstart", "--slim_config", tmp_path / "slim.yml", "-o", "pretrain_weights=null",
        "--save-dir", tmp_path / "run",
    )  # fmt: skip
    assert "Pruner: pruning needs trained weights, and pretrain_weights is null; name a file of" in refusal(
        done
    )
