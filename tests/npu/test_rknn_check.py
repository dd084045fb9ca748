"""`picoquant check` for Rockchip's NPUs: what is said of a report, and what is refused before the toolkit is asked."""

from __future__ import annotations

import pytest

from picoquant.backends.own_environment.package import OwnTool
from picoquant.backends.placement import CPU, NPU, BoardReport
from picoquant.commands.check import check_target
from picoquant.errors import SchemeError, ToolError, UserError, WeightsError
from picoquant.npu.rknn_check import RknnCheck, check_with_rknn
from picoquant.targets.profiles import load_target
from tests.networks.small_int8 import write_small

TARGET = load_target("rk3588")
REPORT = {"cycles": 2_176_728, "memory": {"tensors": 2_764_800, "weights": 1_224_643}}


def test_the_whole_network_on_the_npu():
    made = RknnCheck("rk3588", "rk3588", "2.5.0", BoardReport(operators={NPU: 151, CPU: 0}, **REPORT))
    lines = made.to_text().splitlines()
    assert lines[1].split() == ["operators", "151", "NPU,", "0", "CPU"]
    assert lines[2].startswith("cycles          2.18 M (estimated by rknn-toolkit2")
    assert lines[3] == "memory          2700 KiB tensors, 1196 KiB weights"
    assert lines[-1] == "the whole network runs on the NPU of rk3588" and not made.rules_broken
    assert made.to_json()["operators"] == {"npu": 151, "cpu": 0}


def test_operators_on_the_cpu_break_a_rule():
    on_cpu = tuple(("Softmax", f"part_{number}") for number in range(10))
    board = BoardReport(operators={NPU: 140, CPU: 10}, on_cpu=on_cpu, **REPORT)
    made = RknnCheck("rk3588", "rk3588", "2.5.0", board)
    assert [one.message for one in made.rules_broken] == ["Softmax is left to the CPU by rknn-toolkit2"] * 10
    assert made.to_text().splitlines()[-2:] == ["  Softmax: part_7", "  and 2 more, all of them with --json"]
    assert made.to_json()["cpu_operators"][3] == {"operator": "part_3", "type": "Softmax"}


def test_models_that_it_cannot_hold_are_refused_before_the_tool_is_asked(small, tmp_path):
    nothing = OwnTool("rknn-toolkit2", "2.5.0", tmp_path / "python", "test")
    with pytest.raises(SchemeError, match=r"rknn cannot hold .*: tensor .* has no range"):
        check_with_rknn(small, TARGET, nothing)
    fp32 = write_small(tmp_path / "fp32", quantised=False)
    with pytest.raises(
        WeightsError, match=r"is a float model, and the \.rknn of rk3588 is INT8: run `picoquant quan"
    ):
        check_with_rknn(fp32, TARGET, nothing)


def test_the_command_without_the_tool_and_with_a_picture(small, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"and rk3588 is compiled by rknn-toolkit2: leave it out"):
        check_target(small, TARGET, str(tmp_path), picture="a.svg")
    monkeypatch.setenv("PICOQUANT_RKNN_PYTHON", str(tmp_path / "python"))
    with pytest.raises(ToolError, match=r"cannot run .*python: No such file"):
        check_target(small, TARGET, str(tmp_path))
