"""Target profiles: the shipped ones, a user's own, and what is wrong with a bad one."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
import yaml

from picoquant.backends.rknn.platforms import PLATFORMS, platform_of
from picoquant.errors import ConfigError
from picoquant.targets.integer_rules import MultiplierRule
from picoquant.targets.profile_files import known_targets
from picoquant.targets.profiles import load_target, load_targets
from picoquant.yaml_files.locate import shipped

SOCS = [name for name in known_targets() if load_target(name).on_npu]


@pytest.mark.parametrize("name", SOCS)
def test_shipped_targets_load_and_can_be_written_as_json(name):
    target = load_target(name)
    assert target.name == name
    assert target.paddle_lite.device in target.paddle_lite.valid_targets.split(",")
    assert json.loads(json.dumps(asdict(target)))["soc"] == target.soc


def test_rv1126_facts():
    target = load_target("rv1126")
    assert (target.abi, target.int8_tops, target.driver.version) == ("armhf", 2.0, "6.4.6.5")
    assert target.latency_ms["picodet_relu6_int8_416"] == {"cpu": 661.7, "npu": 122.3}
    # What Paddle Lite's demo sets there quantises the weights a second time.
    assert "VIV_VX_ENABLE_GRAPH_TRANSFORM" not in target.environment


def test_all_is_every_shipped_target_once():
    names = [target.name for target in load_targets(["rv1126", "all"])]
    assert names[0] == "rv1126" and sorted(names) == known_targets()


def test_unknown_target_lists_the_nearest_first():
    with pytest.raises(ConfigError, match=r"unknown target RV1226; known, the nearest first: rv1126, "):
        load_target("RV1226")


def test_target_file_that_is_not_there():
    with pytest.raises(ConfigError, match=r"no such target file: boards/mine\.yaml; shipped targets: "):
        load_target("boards/mine.yaml")


def profile(**changes):
    values = yaml.safe_load(shipped("npu_targets", "rv1126").read_text())
    for key, value in changes.items():
        *above, last = key.split("__")
        here = values
        for part in above:
            here = here[part]
        if value is None:
            del here[last]
        else:
            here[last] = value
    return values


def test_own_file_is_as_good_as_a_shipped_one(tmp_path):
    path = tmp_path / "my-board.yaml"
    path.write_text(yaml.safe_dump(profile(quantization__weights="per_tensor")))
    target = load_target(path)
    assert (target.name, target.quantization.weights) == ("my-board", "per_tensor")
    path.write_text(yaml.safe_dump(profile(tried=None)))  # the two keys that a profile need not have
    assert (load_target(path).backends, load_target(path).tried) == ((), "")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"vendor": None}, r"board\.yaml: key vendor is missing"),
        ({"vendr": "x"}, r"board\.yaml: unknown key vendr \(did you mean vendor\?\)"),
        ({"driver__version": None}, r"board\.yaml: driver: key version is missing"),
        ({"paddle_lite__devise": "x"}, r"paddle_lite: unknown key devise \(did you mean device\?\)"),
        ({"paddle_lite": "arm"}, r"paddle_lite: keys and values expected, found 'arm'"),
        ({"int8_tops": "two"}, r"int8_tops: a number or null expected, found 'two'"),
        ({"quantization__weight_bits": True}, r"weight_bits: a whole number expected, found True"),
        ({"quantization__weights": "per_row"}, r"'per_row' is none of per_channel, per_tensor"),
        ({"arithmetic__rounding": "up"}, r"arithmetic: rounding: 'up' is none of half_to_even, half_away"),
        ({"arithmetic__multiplier": 31}, r"arithmetic: multiplier: keys and values expected, found 31"),
        ({"arithmetic__multiplier_bits": 31}, r"unknown key multiplier_bits \(did you mean multiplier\?\)"),
        (
            {"arithmetic__multiplier": {"bits": 8, "rounding": "nearest"}},
            r"multiplier: bits: 8 is none of 15, 16, 31",
        ),
        ({"arithmetic__multiplier": {"rounding": "nearest"}}, r"arithmetic: multiplier: key bits is missing"),
        ({"quantization__schemes": {"int4": "nn"}}, r"quantization: schemes: unknown key int4"),
        (
            {"quantization__schemes": {"int8_per_tensor": "cpu"}},
            r"schemes: int8_per_tensor: 'cpu' is none of nn, shader",
        ),
        (
            {"arithmetic__multiplier": {"bits": 16, "rounding": "up"}},
            r"multiplier: rounding: 'up' is none of nearest, truncate",
        ),
        ({"abi": "mips"}, r"abi: 'mips' is none of armhf, arm64, armeabi-v7a, arm64-v8a, any"),
        ({"kernels": "4.19"}, r"kernels: a list of texts expected"),
        ({"backends": "openvino"}, r"backends: a list of texts expected, found 'openvino'"),
        ({"tried": 1}, r"tried: text expected, found 1"),
        ({"environment": {"A B": "1"}}, r"'A B' is no name of an environment variable"),
        ({"environment": {"A": "1\nrm"}}, r"environment: A: a text or whole number in one line"),
        ({"latency_ms": {"m": {"gpu": 1}}}, r"latency_ms: m: unknown key gpu"),
        ({"latency_ms": {"m": {"npu": "fast"}}}, r"latency_ms: m: npu: milliseconds or null"),
        ({"name": "other"}, r"unknown key name"),
        ({"quantization__mixed_precision": "no"}, r"mixed_precision: true or false expected, found 'no'"),
        ({"quantization__needs_scales": "some"}, r"needs_scales: all, or a list of operator types expected"),
    ],
)
def test_bad_profile_names_file_and_key(tmp_path, changes, message):
    path = tmp_path / "board.yaml"
    path.write_text(yaml.safe_dump(profile(**changes)))
    with pytest.raises(ConfigError, match=message):
        load_target(path)


def test_boards_without_npu():
    cpu, generic = load_target("arm_cpu"), load_target("generic_onnx")
    assert (cpu.on_npu, generic.on_npu, load_target("rv1126").on_npu) == (False, False, True)
    assert cpu.paddle_lite.valid_targets == "arm" and generic.paddle_lite is None
    assert cpu.int8_tops is None and "conv2d" in cpu.quantization.needs_scales


def test_each_chip_of_rknn_toolkit2_has_a_profile_of_its_name():
    found = {name: load_target(name) for name in known_targets() if "rknn" in load_target(name).backends}
    assert sorted(found) == sorted(PLATFORMS)
    assert {name: platform_of(target) for name, target in found.items()} == {name: name for name in PLATFORMS}
    tops = {name: target.int8_tops for name, target in found.items()}
    assert (tops["rk3588"], tops["rk3566"], tops["rv1126b"], found["rv1106"].abi) == (6.0, 0.8, 3.0, "armhf")
    assert all(target.int8_tops_source and target.tried for target in found.values())


def test_the_multiplier_of_each_chip():
    """As VeriSilicon's emulator has it; where it does not have the chip, TFLite's 31 bits."""
    truncated = MultiplierRule(16, "truncate", of_values=False)
    found = {name: load_target(name).arithmetic for name in known_targets()}
    multipliers = {name: one.multiplier for name, one in found.items() if one is not None}
    assert multipliers == {
        **dict.fromkeys(("a311d", "a311d_android", "s905d3", "s905d3_android", "c308x", "rk1808"), truncated),
        "imx8mp": MultiplierRule(31, "nearest", of_values=False),
        **dict.fromkeys(("rv1109", "rv1126"), MultiplierRule(31, "nearest")),
        **dict.fromkeys(("imx93", "ethos_u55_128", "ethos_u85_256"), MultiplierRule(31, "nearest")),
        **dict.fromkeys(("generic_onnx", "openvino")),
        **dict.fromkeys(PLATFORMS),
    }


def test_a_profile_of_one_s_own_is_another_one_and_what_differs(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("_BASE_: arm_cpu\nabi: armhf\ndriver: {version: '7'}\n")
    mine, shipped_one = load_target(path), load_target("arm_cpu")
    assert (mine.name, mine.abi, mine.driver.version, mine.driver.name) == ("mine", "armhf", "7", "")
    assert mine.paddle_lite == shipped_one.paddle_lite and mine.cpu == shipped_one.cpu
    below = tmp_path / "below.yaml"
    below.write_text("_BASE_: mine.yaml\nsoc: X1\n")
    assert (load_target(below).abi, load_target(below).soc) == ("armhf", "X1")


@pytest.mark.parametrize(
    "text, message",
    [
        ("_BASE_: rv1127", "mine.yaml: _BASE_: unknown target rv1127; known, the nearest first: rv1126"),
        ("_BASE_: boards/no.yaml", "mine.yaml: _BASE_: no such target file: boards/no.yaml"),
        ("_BASE_: [rv1126]", "mine.yaml: _BASE_: the name of one target or file expected, found"),
        ("_BASE_: mine.yaml", "mine.yaml: _BASE_ goes round in a circle"),
        (
            "_BASE_: rv1126\nabi: x86",
            "mine.yaml: abi: 'x86' is none of armhf, arm64, armeabi-v7a, arm64-v8a, any",
        ),
    ],
)
def test_wrong_bases_of_a_profile_are_one_line(tmp_path, text, message):
    path = tmp_path / "mine.yaml"
    path.write_text(text + "\n")
    with pytest.raises(ConfigError) as raised:
        load_target(path)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_both_names_of_the_batch_norm_variable_where_tim_vx_runs():
    """Paddle Lite 2.12 reads the first, 2.13 the second."""
    name = "TIMVX_BATCHNORM_FUSION_MAX_ALLOWED_QUANT_SCALE_DEVIATION"
    for target in map(load_target, SOCS):
        assert target.paddle_lite.device == "verisilicon_timvx"
        assert target.environment[name] == target.environment[f"VERISILICON_{name}"] == "30000", target.name
