"""Keys of PaddleDetection that are accepted and do nothing are named, once, with their file."""

from __future__ import annotations

import logging

import pytest

from picoquant.config.recipe import load_recipe
from picoquant.errors import ConfigError

# The keys of PaddleDetection's legacy_model/application/layout_analysis/picodet_lcnet_x2_5_layout.yml,
# legacy_model/pruner/optimizer_300e_pruner.yml and configs/slim.
DISTILL = "slim: Distill\nslim_method: FGD\ndistill_loss: FGDFeatureLoss\ndistill_loss_name: [neck_f_3]\n"
DISTILL += "FGDFeatureLoss: {student_channels: 128, teacher_channels: 128, temp: 0.5}\n"
PRUNE = "unstructured_prune: true\nstable_epochs: 0\npruning_epochs: 150\ntunning_epochs: 150\n"
PRUNE += "pruning_steps: 300\nratio: 0.75\ninitial_ratio: 0.15\nprune_params_type: conv1x1_only\n"
QUANT = "slim: QAT\nQAT: {quant_config: {weight_bits: 8}, print_model: false}\n"
PTQ = "slim: PTQ\nPTQ: {quant_batch_num: 10, fuse: true}\n"
SEARCH = (
    "slim: OFA\ntask: expand_ratio\nexpand_ratio: [0.5, 1]\nskip_neck: true\nRunConfig: {skip_layers: []}\n"
)


@pytest.fixture
def warnings(tmp_path, caplog):
    def load(text, *overrides):
        (tmp_path / "mine.yml").write_text(f"_BASE_: picodet_s_320_coco_lcnet.yml\n{text}")
        with caplog.at_level(logging.WARNING, "picoquant"):
            load_recipe(str(tmp_path / "mine.yml"), overrides)
        return [record.getMessage().replace(str(tmp_path), "") for record in caplog.records]

    return load


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (
            PRUNE.partition("\n")[2],
            "pruning_epochs, tunning_epochs, pruning_steps, ratio, initial_ratio, prune_params_type",
        ),
        (SEARCH, "slim, task, expand_ratio, skip_neck, RunConfig"),
        ("fp16: false\nclasswise: true\n", "classwise"),
    ],
)
def test_a_file(text, keys, warnings):
    assert warnings(text) == [f"/mine.yml: {keys}: accepted, but without effect here"]


def test_a_teacher_in_the_detectors_own_file(warnings):
    keys = "slim, slim_method, distill_loss, distill_loss_name, FGDFeatureLoss"
    assert warnings(DISTILL) == [
        f"/mine.yml: {keys}: accepted, but without effect here; for distill_loss use --slim_config"
    ]


@pytest.mark.parametrize(("text", "kind"), [(QUANT, "QAT"), (PTQ, "PTQ")])
def test_what_to_use_instead(text, kind, warnings):
    expected = f"/mine.yml: slim, {kind}: accepted, but without effect here; for {kind} use --slim_config"
    assert warnings(text) == [expected]


def test_pruning_has_an_effect(warnings):
    assert warnings(PRUNE) == []
    assert warnings("slim: Pruner\nPruner: {pruned_params: [conv2d_1.w_0], pruned_ratios: ['0.2']}\n") == []
    assert warnings("slim: Pruner\n") == ["/mine.yml: slim: accepted, but without effect here"]


def test_an_override(warnings):
    assert warnings("", "use_gpu=false", "epoch=3") == [
        "--set use_gpu=false: accepted, but without effect here; for use_gpu use --device"
    ]


def test_what_every_file_has_is_no_news(warnings):
    assert warnings("weights: output/x/best_model\nfind_unused_parameters: true\nuse_gpu: true\n") == []


ANCHORS = "picodet_channel: &picodet_channel 128\nLCPAN: {out_channels: *picodet_channel}\n"


@pytest.mark.parametrize(
    ("text", "keys"),
    [
        (ANCHORS, "picodet_channel"),
        ("bufsize: 4\nnum_workers: 2\n", "bufsize, num_workers"),
        ("my_lr: &lr 0.1\nteam: {name: cells}\n3: x\n", "my_lr, team, 3"),
    ],
)
def test_keys_that_nobody_reads_are_ignored_and_named(text, keys, warnings):
    assert warnings(text) == [f"/mine.yml: {keys}: no key of picoquant or PaddleDetection, ignored"]


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("epohc: 4", "epoch"),
        ("LearnRate: {base_lr: 1}", "LearningRate"),
        ("EvalDatset: {}", "EvalDataset"),
        ("trainreader: {}", "TrainReader"),
        ("Distilation: {}", "Distillation"),
        ("Quantise: {method: ptq}", "Quantize"),
        ("worker_nums: 2", "worker_num"),
    ],
)
def test_a_typing_error_stays_an_error(text, known, warnings):
    key = text.split(":")[0]
    with pytest.raises(ConfigError, match=rf"unknown key {key} \(did you mean {known}\?\)"):
        warnings(text + "\n")


def test_an_override_of_such_a_key_is_an_error(warnings):
    with pytest.raises(ConfigError, match="unknown key bufsize"):
        warnings("", "bufsize=3")
