"""Times made of cycles: what published networks say of them."""

from __future__ import annotations

import pytest

from benchmarks.results.record import load_results
from picoquant.npu.emulated import published_time
from picoquant.npu.emulated.published_time import Time, time_of
from picoquant.targets.profiles import load_target

# The results that hold the cycles of each published network.
RESULTS = {
    "mobilenet_v1_int8_224": "mobilenet_v1",
    "mobilenet_v2_int8_224": "mobilenet_v2",
    "resnet50_int8_224": "resnet50",
    "yolov5s_int8_640": "yolov5s",
    "picodet_relu6_int8_416": "picodet_416",
}
LATENCIES = {
    "mobilenet_v1_int8_224": {"npu": 10.0},
    "mobilenet_v2_int8_224": {"npu": 20.0},
    "resnet50_int8_224": {"npu": None},
    "yolov5s_int8_640": {"npu": 500.0},
}


def test_by_hand(monkeypatch):
    """2,000 and 500 cycles a millisecond: 1,000 is their geometric mean."""
    monkeypatch.setitem(published_time._CYCLES, "VIPX", (20_000, 10_000, 7, 250_000, 9))
    time = time_of(3_000, "VIPX", LATENCIES)
    assert (time.milliseconds, time.mhz) == (pytest.approx(3.0), pytest.approx(1.0))
    assert time.errors == pytest.approx(
        {"mobilenet_v1_int8_224": 1.0, "mobilenet_v2_int8_224": -0.5, "yolov5s_int8_640": -0.5}
    )
    assert time.to_text() == (
        "3 ms, not measured: 1 MHz fit the published times best (mobilenet_v1_int8_224 +100%, mobilenet_v2_int8_224 "
        "-50%); published with a scale for each channel: yolov5s_int8_640 -50%"
    )
    assert Time.from_json(time.to_json()).to_json() == time.to_json()


@pytest.mark.parametrize(
    ("chip", "latencies"), [("VIPY", LATENCIES), ("VIPNANOQI_PID0X88", {}), ("VIPNANOQI_PID0X88", {"x": {}})]
)
def test_no_time_without_published_ones(chip, latencies):
    assert time_of(1, chip, latencies) is None


@pytest.mark.parametrize("name", ["a311d", "s905d3", "c308x", "imx8mp"])
def test_the_cycles_are_those_of_the_results(name):
    results, target = load_results(), load_target(name)
    measured = tuple(sum(results[f"cycles_{network}_{name}"].cycles.values()) for network in RESULTS.values())
    assert measured == published_time._CYCLES[target.verisilicon.chip]
    assert tuple(RESULTS) == published_time._NETWORKS


def test_of_the_a311d():
    """As in docs/npu.md: 1181 MHz, +1, -7 and +6 %, -12 and -56 % of those that are not fitted."""
    target = load_target("a311d")
    time = time_of(9_481_681, target.verisilicon.chip, target.latency_ms)
    assert round(time.mhz) == 1181 and time.milliseconds == pytest.approx(8.03, abs=0.005)
    assert [round(100 * error) for error in time.errors.values()] == [1, -7, 6, -12, -56]
