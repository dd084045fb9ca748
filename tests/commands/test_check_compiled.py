"""`check --emulator` of a network with zero points, which opt is not asked about."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from picoquant.backends.verisilicon.install import SDK
from picoquant.backends.verisilicon.report import LayerCost
from picoquant.backends.verisilicon.toolchain import Emulator
from picoquant.commands import check
from picoquant.errors import SchemeError, UserError
from picoquant.npu.emulated.agreement import Agreement
from picoquant.npu.emulated.cycles import Cycles
from picoquant.npu.emulated.published_time import Time
from picoquant.targets.profiles import load_target
from tests.networks.every_operator import quantised_with_zero_points

TARGET = load_target("a311d")
CYCLES = Cycles(
    "VIPX, emulator 6.57.1", [LayerCost("a", {"NN": 600, "SH": 100}, 10, 5)], {"a": "conv2d"}, False
)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return quantised_with_zero_points(tmp_path_factory.mktemp("zero_points"))


@pytest.fixture
def emulated(monkeypatch):
    """What the emulator said, which tests may not need."""

    def says(cycles):
        monkeypatch.setattr(
            check, "on_emulator", lambda model, target: ([Agreement("conv2d", 1, 1, 9, 0, 0)], cycles)
        )

    return says


def test_cycles_without_opt(model, tmp_path, emulated):
    emulated(replace(CYCLES, time=Time(2.5, 800.0, {"resnet50_int8_224": -0.45})))
    found = check.check_target(model, TARGET, str(tmp_path), opt="no such opt", emulator=True)
    assert not found.broken and [path.name for path in found.written] == ["a311d.json"]
    values = json.loads(found.written[0].read_text())
    assert values == found.values
    assert values["cycles"]["total"] == 700 and values["cycles"]["time"]["errors"] == {
        "resnet50_int8_224": -0.45
    }
    assert [one["operator"] for one in values["advice"]] == ["a"] and values["emulator"][0]["values"] == 9
    assert "Paddle Lite's files cannot hold; the compiled network can" in found.text
    assert "2.5 ms, not measured: 800 MHz fit the published times best (resnet50_int8_224 -45%)" in found.text


def test_without_a_time(model, tmp_path, emulated):
    emulated(CYCLES)
    found = check.check_target(model, TARGET, str(tmp_path), opt="no such opt", emulator=True)
    assert "unknown: of cycles on shaders, or of this chip, none is made" in found.text
    assert found.values["cycles"]["time"] is None


def test_no_picture(model, tmp_path, emulated):
    emulated(CYCLES)
    with pytest.raises(
        UserError, match=r"--picture is drawn of opt's partition, and Paddle Lite cannot hold"
    ):
        check.check_target(model, TARGET, str(tmp_path), picture="a.svg", opt="no such opt", emulator=True)
    assert not list(tmp_path.iterdir())


def test_without_the_emulator_it_is_refused(model, tmp_path, opt):
    with pytest.raises(SchemeError, match=r"is not symmetric about 0"):
        check.check_target(model, TARGET, str(tmp_path), opt=str(opt.path))


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """An emulator that knows the A311D's chip by name and can compile nothing."""
    library = tmp_path / "home" / SDK / "lib" / "libEmulator.so"
    library.parent.mkdir(parents=True)
    library.write_bytes(b"\0VIPNANOQI_PID0X88\0")
    monkeypatch.setattr(check.verisilicon, "find", lambda machine: Emulator("6.57.1", tmp_path / "home"))


@pytest.mark.parametrize(("target", "asked"), [("a311d", True), ("s905d3", False), ("rv1126", False)])
def test_an_installed_emulator_that_fails_leaves_the_estimate(small, opt, tmp_path, installed, target, asked):
    found = check.check_target(small, load_target(target), str(tmp_path), opt=str(opt.path))
    assert ("no cycles of VeriSilicon's emulator, so the latency is an estimate: " in found.text) == asked
    assert "cycles" not in found.values or not found.values["cycles"]


def test_an_installed_emulator_says_cycles_without_being_asked(opt, tmp_path, installed, monkeypatch):
    monkeypatch.setattr(check, "cycles_of", lambda simulation, model, target, tool: CYCLES)
    symmetric = quantised_with_zero_points(tmp_path / "symmetric", symmetric=True)
    found = check.check_target(symmetric, TARGET, str(tmp_path), opt=str(opt.path))
    assert found.values["cycles"]["total"] == 700 and "emulator" not in found.values
    assert "so the latency is an estimate" not in found.text
