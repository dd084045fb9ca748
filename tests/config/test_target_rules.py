"""The quantize stage takes its settings from the target unless the recipe overrides them."""

from __future__ import annotations

import logging
import shutil

import pytest
import yaml

from picoquant.config.target_rules import say_origin
from picoquant.errors import ConfigError
from picoquant.stages.plan import load_plan
from picoquant.yaml_files.locate import shipped


@pytest.fixture
def recipe_file(tmp_path):
    """A recipe without bits or weight type, and beside it a board that wants one scale a weight."""
    document = yaml.safe_load(shipped("recipes", "picodet_s_qat_dis").read_text())
    for key in ("weight_bits", "activation_bits"):
        del document["QuantAware"][key]
    document["Package"] = {"target": "my_board"}
    profile = yaml.safe_load(shipped("npu_targets", "rv1126").read_text())
    profile["quantization"].update(weights="per_tensor", weight_bits=7)
    (tmp_path / "my_board.yaml").write_text(yaml.safe_dump(profile))
    path = tmp_path / "recipe.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def settings(path, *overrides):
    quant = load_plan(str(path), overrides).quant_aware
    return quant.weight_quantize_type, quant.weight_bits, quant.activation_bits


def log_origin(path, *overrides):
    plan = load_plan(str(path), overrides)
    say_origin(plan.quant_aware_section, plan.targets, plan.recipe.targets)


def test_from_the_profile_beside_the_recipe(recipe_file, caplog):
    assert settings(recipe_file) == ("abs_max", 7, 8)
    caplog.set_level(logging.INFO)
    log_origin(recipe_file)
    assert "weight_quantize_type is abs_max, as " in caplog.text and "my_board.yaml takes it" in caplog.text


def test_the_recipe_wins_and_the_log_says_so(recipe_file, caplog):
    overrides = ["QuantAware.weight_quantize_type=channel_wise_abs_max", "QuantAware.weight_bits=8"]
    assert settings(recipe_file, *overrides) == ("channel_wise_abs_max", 8, 8)
    log_origin(recipe_file, *overrides)
    assert "QuantAware.weight_bits is 8, but" in caplog.text and "the recipe's value holds" in caplog.text


def test_the_strictest_of_several_targets(recipe_file):
    assert settings(recipe_file, "Package.target=[rv1126, rk1808]") == ("channel_wise_abs_max", 8, 8)
    assert settings(recipe_file, "Package.target=[rv1126, a311d]") == ("abs_max", 8, 8)
    assert settings(recipe_file, "Package.target=[rv1126, my_board]") == ("abs_max", 7, 8)


def test_zero_points_only_where_every_target_holds_them(recipe_file, caplog):
    board = recipe_file.with_name("my_board.yaml")
    profile = yaml.safe_load(board.read_text())
    profile["quantization"]["symmetric"] = False
    board.write_text(yaml.safe_dump(profile))

    def symmetric(*overrides):
        return load_plan(str(recipe_file), overrides).quantization.quant_aware.symmetric_activations

    assert not symmetric() and symmetric("Package.target=[rv1126, my_board]")
    assert symmetric("QuantAware.symmetric_activations=true")  # the recipe wins
    assert not symmetric("Package.target=rv1126", "QuantAware.symmetric_activations=false")
    assert symmetric("Quantize.training=configured")  # training learns symmetric ranges
    assert not symmetric("Quantize.training=configured", "Quantize.method=ptq")
    caplog.set_level(logging.INFO)
    log_origin(recipe_file)
    assert "symmetric_activations is False, as " in caplog.text


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("Quantize.training=configured", "Quantize.training: configured learns symmetric ones"),
        ("QuantAware.onnx_format=true", "QuantAware.onnx_format: true writes operators whose kernels"),
    ],
)
def test_zero_points_that_nothing_could_keep_are_refused(recipe_file, override, message):
    with pytest.raises(ConfigError, match=message):
        _ = load_plan(str(recipe_file), ["QuantAware.symmetric_activations=false", override]).quantization


def test_a_resolved_recipe_still_finds_the_board(recipe_file, tmp_path):
    document = load_plan(str(recipe_file)).recipe.document
    assert document["Package"]["target"] == str(tmp_path / "my_board.yaml")
    moved = tmp_path / "elsewhere"
    moved.mkdir()
    shutil.move(recipe_file, moved / "recipe.yaml")
    with pytest.raises(ConfigError, match="unknown target my_board"):
        settings(moved / "recipe.yaml")


def test_all_stands_for_every_shipped_target(recipe_file):
    """Of them the A311D and its like take one scale a weight, which is the strictest."""
    assert settings(recipe_file, "Package.target=all") == ("abs_max", 8, 8)
    assert settings(recipe_file, "Package.target=[rv1126,all]") == ("abs_max", 8, 8)
    assert settings(recipe_file, "Package.target=[rv1126,rk3588]") == ("channel_wise_abs_max", 8, 8)


@pytest.mark.parametrize("key", ["keep_float=[conv2d_1]", "max_drop=0.004"])
def test_layers_in_float_are_not_for_an_npu_of_int8_only(recipe_file, key):
    def own(*overrides):
        return load_plan(str(recipe_file), [f"Quantize.{key}", *overrides]).quantization.own

    name = key.split("=")[0]
    with pytest.raises(
        ConfigError, match=f"Quantize.{name}: a311d takes INT8 only.*Quantize.allow_float: true"
    ):
        own("Package.target=[arm_cpu, a311d]")
    assert own("Package.target=[arm_cpu, a311d]", "Quantize.allow_float=true").allow_float
    for target in ("arm_cpu", "generic_onnx"):
        assert not own(f"Package.target={target}").allow_float
