"""Real networks through the real opt: what it makes of them, read back and held against the rules."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from xml.etree import ElementTree

import pytest

from picoquant.errors import ConfigError, UserError, WeightsError
from picoquant.npu.check import check_model
from picoquant.npu.picture import draw
from picoquant.npu.report import text_report
from picoquant.targets.profiles import load_target
from tests.networks.quick_int8 import exported
from tests.targets.test_profiles import SOCS

FAMILIES = {
    "picodet_s_416_coco_npu.yml": 12,
    "picodet_s_320_coco_lcnet.yml": 12,
    "picodet_s_320_coco.yml": 8,  # ESNet, head of 2021: no alignment outputs
    "picodet_shufflenetv2_1x_416_coco.yml": 8,
    "picodet_mobilenetv3_large_1x_416_coco.yml": 8,
}


def rules(result):
    return {finding.rule for finding in result.rules_broken}


@pytest.mark.parametrize("target", SOCS)
def test_one_piece_on_every_soc(checked, target):
    result = checked(target)
    assert (result.npu_pieces, result.cpu_operators, result.operators_without_scales) == (1, (), ())
    assert len(result.conversions) == 1 + 12  # one for each network input and output
    assert {row["where"] for row in result.conversions} == {"input", "output"}
    assert {row["kind"] for row in result.conversions} == {"fp32_to_int8", "int8_to_fp32"}
    assert result.weight_types == {"int8 of one channel": 8, "int8 per_channel": 114}
    assert result.rules_broken == () and result.partition == ""


@pytest.mark.slow
@pytest.mark.parametrize("config", [name for name in FAMILIES if "npu" not in name])
def test_every_family_is_one_piece(checked, config):
    result = checked("rv1126", config)
    assert result.npu_pieces == 1 and not result.cpu_operators and not result.rules_broken
    assert len(result.conversions) == 1 + FAMILIES[config]


def test_multiply_accumulates_are_those_of_the_network(checked):
    import picoquant
    from picoquant.summary.summarise import summarise

    model = picoquant.build_detector("picodet_s_416_coco_npu.yml", num_classes=3)
    counted = checked().macs
    assert counted["npu"] == pytest.approx(summarise(model, (64, 64)).macs, rel=0.01) and counted["cpu"] == 0


def test_activations_by_hand(checked):
    # The largest pair at one time: the stem's 16 x 32 x 32 and the first pointwise 24 x 32 x 32 or less; INT8.
    assert 16 * 32 * 32 + 24 * 16 * 16 <= checked().activation_bytes <= 4 * 24 * 32 * 32


def test_scores_inside_split_the_network_and_the_partition_file_joins_it(checked):
    result = checked(kind="boxes")
    assert result.npu_pieces == 2 and len(result.cpu_operators) == 4
    assert {row["type"] for row in result.cpu_operators} == {"sqrt"}
    assert "no converter of sqrt for verisilicon_timvx" in result.cpu_operators[0]["why"]
    assert rules(result) == {"one_piece", "conversions"}
    assert "post_process: false" in result.rules_broken[0].mend
    assert result.pieces_with_partition == 1  # opt itself says so, given the file
    assert [line.split(":")[0] for line in result.partition.splitlines()] == ["reshape2"] * 4 + ["concat"]


def test_post_processing_inside_is_named(checked):
    result = checked(kind="detections")
    assert {"no_scale_factor", "one_piece", "scales"} <= rules(result)
    (row,) = result.operators_without_scales
    assert row["type"] == "concat" and row["slots"] == ["X2", "X3"]  # split from scale_factor, not calibrated
    assert any(row["type"] == "multiclass_nms3" for row in result.cpu_operators)


def test_boards_without_npu_take_any_model(checked, opt, tmp_path):
    result = checked("arm_cpu")
    assert result.npu_pieces == 0 and result.rules_broken == () and len(result.cpu_operators) > 100
    assert result.macs["cpu"] == checked("rv1126").macs["npu"] and result.latency.milliseconds is None
    assert result.latency.method.startswith("no estimate: arm_cpu has no NPU")
    float_model = check_model(exported("picodet_s_416_coco_npu.yml", tmp_path), load_target("arm_cpu"), opt)
    assert float_model.rules_broken == () and set(float_model.weight_types) == {"float32 without scales"}


def test_a_float_model_and_hardware_without_paddle_lite_are_refused(models, opt, tmp_path):
    float_model = exported("picodet_s_416_coco_npu.yml", tmp_path)
    with pytest.raises(
        WeightsError, match=r"model\.pdmodel is a float model, and the NPU of rv1126 runs INT8"
    ):
        check_model(float_model, load_target("rv1126"), opt)
    with pytest.raises(UserError, match="generic_onnx is hardware that Paddle Lite does not reach"):
        check_model(models(), load_target("generic_onnx"), opt)


def test_rules_of_the_profile(models, opt):
    """A chip that takes one scale a weight, and 7 bits."""
    target = load_target("rv1126")
    strict = replace(target.quantization, weights="per_tensor", weight_bits=7)
    result = check_model(models(), replace(target, quantization=strict), opt)
    broken = [finding for finding in result.rules_broken if finding.rule == "granularity"]
    assert rules(result) == {"granularity", "bits"} and len(broken) == 114
    assert broken[0].operator == "conv2d_0.tmp_0" and "abs_max" in broken[0].mend
    kept = check_model(
        models(weight_quantize_type="abs_max"),
        replace(target, quantization=replace(target.quantization, weights="per_tensor")),
        opt,
    )
    assert kept.rules_broken == () and kept.weight_types["int8 per_tensor"] == 114


def test_a_convolution_left_in_float_is_named(models, opt):
    model = models(quantize_op_types=("conv2d",))
    result = check_model(model, load_target("rv1126"), opt)
    assert "weights_int8" in rules(result)
    finding = next(finding for finding in result.rules_broken if finding.rule == "weights_int8")
    assert finding.message.startswith("depthwise_conv2d: its weight is float32")


def test_layers_kept_in_float_go_to_the_cpu_by_a_partition_file(checked):
    result = checked(kept=(0, 40))
    names = ["conv2d_0.tmp_0", "conv2d_26.tmp_0"]
    assert [(row["operator"], row["why"].split(",")[0]) for row in result.cpu_operators] == [
        (name, "it is kept in float (Quantize.keep_float or max_drop)") for name in names
    ]
    assert result.partition == "".join(f"conv2d::{name}\n" for name in names)
    assert (result.npu_pieces, result.pieces_with_partition) == (2, 2)  # the first layer splits nothing
    assert rules(result) == {"one_piece", "conversions"}
    assert "quantise these layers, too" in result.rules_broken[0].mend


def test_json_table_and_picture(checked):
    result = checked(kind="boxes")
    values = json.loads(json.dumps(result.to_json()))
    needed = {
        "npu_pieces", "cpu_operators", "conversions", "operators_without_scales", "latency_estimate_ms",
        "rules_broken", "weight_types", "activation_bytes",
    }  # fmt: skip
    assert needed <= set(values) and values["npu_pieces"] == 2
    assert "estimated, not measured" in values["latency_estimate_method"]
    text = text_report(result)
    assert "NPU pieces      2" in text and "4 x sqrt" in text and "rules broken:" in text
    picture = ElementTree.fromstring(draw(result.graph, "rv1126 <2 pieces>"))
    named = "".join(picture.itertext())
    assert "sqrt: sqrt_3.tmp_0" in named and "rv1126 <2 pieces>" in named
    shown = [op for op in result.graph.operators if op.op_type in ("conv2d", "sqrt", "calib")]
    assert all(f"{op.op_type}: {op.name}" in named for op in shown)


@pytest.fixture(scope="module")
def run(models, tmp_path_factory):
    """A run folder with a model that keeps the rules, and one that breaks them."""
    folder = tmp_path_factory.mktemp("run")
    shutil.copytree(models().path, folder / "good" / "quantize")
    shutil.copytree(models(kind="boxes").path, folder / "bad" / "quantize")
    return folder


def test_command(run):
    from tests.command_line import picoquant, refusal

    good = picoquant("check", "--target", "rv1126", "--save-dir", run / "good", "--json")
    assert good.returncode == 0, good.stderr
    assert json.loads(good.stdout) == json.loads((run / "good/check/rv1126.json").read_text())
    assert (run / "good/check/rv1126.svg").read_text().startswith("<svg")
    bad = picoquant("check", "--target", "rv1126", "--save-dir", run / "bad")
    assert bad.returncode == 1 and "one_piece: sqrt_0.tmp_0: 2 NPU pieces" in bad.stdout
    assert (run / "bad/check/rv1126.partition.txt").read_text().startswith("reshape2::")
    unknown = refusal(picoquant("check", "--target", "rv1162", "--save-dir", run / "good"))
    assert "unknown target rv1162; known, the nearest first: rv1106, rv1126" in unknown
    assert unknown.endswith("or name a YAML file of your own")
    missing = refusal(picoquant("check", "--target", "rv1126", "--save-dir", run / "none"))
    assert "no INT8 model in" in missing and "picoquant quantize" in missing


def test_own_profile_that_the_run_was_made_for(run, tmp_path):
    """A profile beside the recipe is found by its name: the run's own configuration says where it is."""
    from picoquant.config.target_rules import target_of_run
    from picoquant.yaml_files.locate import shipped

    profile = tmp_path / "my_board.yaml"
    text = shipped("npu_targets", "rv1126").read_text()
    profile.write_text(text.replace("weights: per_channel", "weights: per_tensor"))
    shutil.copyfile(profile, tmp_path / "rv1126.yaml")
    named = f"Package: {{target: [{profile}, {tmp_path}/rv1126.yaml]}}\n"
    (run / "good" / "config.yml").write_text("Global: {config: picodet_s_416_coco_npu.yml}\n" + named)
    assert target_of_run("my_board", run / "good").quantization.weights == "per_tensor"
    assert target_of_run("rv1126", run / "good").quantization.weights == "per_channel"  # the shipped one
    with pytest.raises(ConfigError, match="unknown target my_bord"):
        target_of_run("my_bord", run / "good")
