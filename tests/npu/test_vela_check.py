"""`picoquant check` on an Ethos-U."""

from __future__ import annotations

import json

import pytest

from picoquant.backends.base import MACHINE, load_backend
from picoquant.backends.placement import BoardReport
from picoquant.commands.check import check_target
from picoquant.errors import ToolError, UserError, WeightsError
from picoquant.npu.vela_check import VelaCheck, check_with_vela
from picoquant.targets.profiles import load_target
from tests.networks.quick_int8 import exported


@pytest.fixture(scope="module")
def vela():
    try:
        return load_backend("ethos-u").toolchain.find(MACHINE)
    except ToolError as error:
        pytest.skip(str(error))


def test_it_says_what_vela_says(models, vela, tmp_path):
    target = load_target("imx93")
    found = check_target(models(), target, str(tmp_path))
    assert not found.broken and found.written == [tmp_path / "check" / "imx93.json"]
    values = json.loads(found.written[0].read_text())
    assert values == found.values and values["operators"]["cpu"] == 0 == len(values["cpu_operators"])
    assert values["vela_version"] == vela.version and values["accelerator"] == "ethos-u65-256"
    assert 0 < values["latency_estimate_ms"] < 5 and set(values["memory_bytes"]) == {"SRAM", "DRAM"}
    lines = dict(line.split(None, 1) for line in found.text.splitlines() if line)
    assert lines["operators"] == f"{values['operators']['npu']} NPU, 0 CPU"
    assert lines["latency"].endswith("ms (estimated by Vela for this configuration, not measured)")
    assert found.text.endswith("the whole network runs on the NPU of imx93")


def test_operators_on_the_cpu_break_the_rule():
    target = load_target("imx93")
    on_cpu = tuple(("CONCATENATION", f"concat_{index}") for index in range(10))
    counts = {"npu": 140, "cpu": 10}
    board = BoardReport(None, 2_000_000, {"SRAM": 393216}, 2.0, 1e9, counts, on_cpu)
    found = VelaCheck("imx93", target.ethos_u, "5.2.0", board)
    assert [broken.operator for broken in found.rules_broken] == [name for _, name in on_cpu]
    assert found.rules_broken[0].message == "CONCATENATION is left to the CPU by Vela"
    text = found.to_text()
    assert "cycles          2.00 M at 1000 MHz\nmemory          384 KiB SRAM\n" in text
    assert text.endswith("  CONCATENATION: concat_7\n  and 2 more, all of them with --json")
    assert (
        len(found.to_json()["rules_broken"]) == 10 and found.to_json()["rules_broken"][3]["rule"] == "on_cpu"
    )
    assert found.to_json()["cpu_operators"][9] == {"operator": "concat_9", "type": "CONCATENATION"}


def test_bad_input_is_refused_in_one_line(models, vela, tmp_path):
    target = load_target("imx93")
    with pytest.raises(WeightsError, match="is a float model, and the NPU of imx93 runs INT8 only"):
        check_with_vela(exported("picodet_s_416_coco_npu.yml", tmp_path / "fp32"), target, vela)
    with pytest.raises(
        UserError, match="--picture is drawn of opt's partition, and imx93 is compiled by Vela"
    ):
        check_target(models(), target, str(tmp_path), picture="a.svg")
