"""results/*.yaml: what is refused, and that the documentation's tables are theirs."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import yaml

from benchmarks.results.record import Result, load_result, load_results
from benchmarks.results.table import refreshed, stale_pages
from benchmarks.results.tables import TABLES
from picoquant.errors import ConfigError

GOOD = """
model: PicoDet-S-NPU
weights: trained
scheme: PTQ
runtime: paddle
target: null
data: {name: cells, images: 87, input: 320, calibration: 64 training images}
fp32: {mAP: 0.3401}
int8: {mAP: 0.3461}
difference: {value: 0.006, low: -0.001, high: 0.012}
fidelity: unknown
size: unknown
latency: unknown
machine: unknown
versions: unknown
command: make run
date: "2026-11-21"
commit: c4358bb
"""


@pytest.fixture(scope="module")
def results():
    return load_results()


@pytest.fixture
def wrong(tmp_path):
    """The one line about a file whose values are others."""

    def said(**values):
        document = {**yaml.safe_load(GOOD), **values}
        path = tmp_path / "cells.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in document.items() if value != "gone"}))
        with pytest.raises(ConfigError) as error:
            load_result(path)
        assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)
        return str(error.value)

    return said


def test_a_good_one_is_read(tmp_path):
    (tmp_path / "cells.yaml").write_text(GOOD)
    result = load_result(tmp_path / "cells.yaml")
    assert (result.name, result.runtime, result.int8["mAP"], result.fidelity) == (
        "cells",
        ("paddle",),
        0.3461,
        None,
    )
    assert (result.difference.low, result.difference.high) == (-0.001, 0.012)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"int8": {"mAP": 34.61}}, "int8.mAP: expected a number from 0 to 1, found 34.61"),
        ({"int8": {"mAP": True}}, "int8.mAP: expected a number"),
        ({"fp32": {"AP50": 0.5}}, "fp32: expected numbers by name, mAP among them"),
        ({"network": "x"}, "unknown key network; known: model, weights"),
        ({"machine": "gone"}, "machine is missing; where nobody wrote it down it is `unknown`"),
        ({"machine": ""}, "machine: expected a text"),
        ({"date": "21.11.2026"}, "date: expected 'YYYY-MM-DD'"),
        ({"commit": "main"}, "commit: expected its hexadecimal name"),
        ({"data": {"name": "cells"}}, "data: expected name, images, input, calibration"),
        (
            {"difference": {"value": 0.006, "low": 0.007, "high": 0.012}},
            "low and high must be around the value",
        ),
        ({"difference": {"value": 0.006, "low": 0.001}}, "low and high must be around the value"),
        ({"difference": {"value": 0.016}}, "difference.value is +0.0160, int8.mAP - fp32.mAP is +0.0060"),
        ({"course": [{"mAP": 2}]}, "course.0.mAP: expected a number from 0 to 1"),
        ({"cycles": {"NN": 1, "TP": 2}}, "cycles: expected whole numbers by NN, TP, SH, found"),
        ({"cycles": {"NN": 1, "TP": 2, "SH": -3}}, "cycles: expected whole numbers"),
        ({"latency": "5 ms"}, "latency: expected values by what they are of"),
    ],
)
def test_a_wrong_one_is_refused_in_one_line(wrong, values, text):
    assert text in wrong(**values)


def test_every_result_is_in_a_table(results):
    used = {name for table in TABLES.values() for name in table.uses}
    assert used == {name for name in results if not name.startswith("speed_")}  # the tables of these take all


def test_the_tables_are_as_the_results_say(root, results):
    assert [page.name for page in stale_pages(root, results, TABLES)] == []


def test_another_figure_makes_its_pages_stale(root, results, tmp_path):
    path = tmp_path / "quickstart.yaml"
    figure = f"{results['quickstart'].int8['mAP']:.4f}"
    path.write_text((root / "results/quickstart.yaml").read_text().replace(figure, "0.1234"))
    changed = {**results, "quickstart": load_result(path)}
    stale = {page.name: text for page, text in stale_pages(root, changed, TABLES).items()}
    assert set(stale) == {"README.md", "README_cn.md"}
    assert all("| 0.1234 |" in text for text in stale.values())


def test_a_marker_of_no_table_and_a_table_without_marker(results):
    with pytest.raises(
        ConfigError,
        match="docs/simulation.md has the markers of no table, and its tables are emulated, simulation",
    ):
        refreshed("docs/simulation.md", "# Simulation\n", results, TABLES)
    with pytest.raises(ConfigError, match="has the markers simulatoin"):
        refreshed(
            "docs/simulation.md", "<!-- results: simulatoin -->\n<!-- end of results -->", results, TABLES
        )


def test_no_figure_of_a_table_stands_in_prose_again(root, results):
    """FP32's are left out: other measurements begin with them, too."""
    pages = dict.fromkeys(page for table in TABLES.values() for page in table.pages)
    again = []
    for name, result in results.items():
        if not isinstance(result, Result):
            continue
        figures = [f"{value:.4f}" for value in (result.int8.get("mAP"), result.every_tensor) if value]
        if result.difference and result.difference.low is not None:
            figures.append(f"{result.difference.low:.4f} to")
        for page in pages:
            prose = re.sub(r"^\|.*$", "", (root / page).read_text(encoding="utf-8"), flags=re.MULTILINE)
            again += [f"{page}: {figure} of {name}" for figure in figures if figure in prose]
    assert again == []


def test_the_command_line(root):
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.results", "--check"], capture_output=True, text=True, cwd=root
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


SPEED = {
    "title": "training step", "unit": "s", "now": 1.5, "now_cpu": 2.9, "peer": "PaddleDetection", "theirs": 4.5,
    "theirs_cpu": 8.0, "before": 3.0, "before_commit": "a30e038aa", "bound": 0.6, "turns": 5, "busy": 0.02,
    "command": "python -m benchmarks.speed --only training", "machine": "2 threads", "versions": "Python 3.11",
    "date": "2026-11-29", "commit": "a30e038",
}  # fmt: skip
GROWTH = {
    "kinds": {
        "images": [
            {"value": 100, "seconds": 0.5, "megabytes": 200.0, "work": 100},
            {"value": 1000, "seconds": 1.0, "megabytes": 200.0, "work": 1000},
            {"value": 10000, "seconds": 5.0, "megabytes": 300.0, "work": 10000},
        ]
    },
    **{key: SPEED[key] for key in ("busy", "command", "machine", "versions", "date", "commit")},
}


def speed_rows(tmp_path, name, document):
    (tmp_path / f"speed_{name}.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    results = load_results(tmp_path)
    return {
        name: table.rows(results) for name, table in TABLES.items() if name.startswith(("speed", "onnx_k"))
    }


def test_a_figure_of_speed_makes_a_row(tmp_path):
    rows = speed_rows(tmp_path, "training", SPEED)
    assert rows["speed"] == [
        ["training step", "PaddleDetection", "4.5 s (8 s of CPU)", "3 s (a30e038)", "1.5 s (2.9 s of CPU)", "3.00",
         "0.6 s", "40%", "`python -m benchmarks.speed --only training`"]
    ]  # fmt: skip
    alone = {
        **SPEED,
        **dict.fromkeys(("peer", "theirs", "theirs_cpu", "before", "before_commit", "bound", "now_cpu")),
    }
    rows = speed_rows(tmp_path, "qat_memory", {**alone, "unit": "MB", "now": 1234.5})
    assert rows["speed"][1] == ["training step", "", "", "", "1,234 MB", "", "", "", rows["speed"][1][-1]]
    assert rows["speed_conditions"] == [
        ["qat_memory, training", "2 threads", "Python 3.11", "2026-11-29", "a30e038", "at most 2%"]
    ]


def test_the_stages_of_a_run_and_the_rest(tmp_path):
    parts = {"quantize": {"seconds": 40.0, "idle": 0.25}, "package": {"seconds": 10.0, "idle": 0.5}}
    rows = speed_rows(tmp_path, "run", {**SPEED, "now": 60.0, "parts": parts})["speed_stages"]
    assert rows == [
        ["quantize", "40 s", "25%"], ["package", "10 s", "50%"], ["before, between and after them", "10 s", ""],
    ]  # fmt: skip


def test_growth_is_the_power_between_two_points(tmp_path):
    rows = speed_rows(tmp_path, "growth", GROWTH)["speed_growth"]
    assert [row[1:] for row in rows] == [
        [
            "100 to 10,000",
            "0.5 to 5 s",
            "0.50",
            "0.70",
            "200 to 300 MB",
            "10,592 bytes",
        ]  # 100 MB for 9,900 more
    ]


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"turns": 4}, "turns: expected at least 5, found 4"),
        ({"busy": 0.2}, "busy: others took 0.2 of the processors"),
        ({"now": 0}, "now: expected a number above 0"),
        ({"bound": float("nan")}, "bound: expected a number above 0, or null"),
        ({"theirs": None}, "peer and theirs: one is there without the other"),
        ({"before_commit": None}, "before and before_commit: one is there without the other"),
        ({"unit": "h"}, "title and unit: expected a text and one of s, ms, MB"),
        ({"commit": "main"}, "commit: expected its hexadecimal name"),
        ({"machine": ""}, "machine: expected a text"),
        ({"parts": {"train": {"seconds": 1}}}, "parts.train: expected seconds and idle"),
        ({"notes": "x"}, "unknown key notes; known: title, unit"),
    ],
)
def test_a_wrong_figure_of_speed_is_refused_in_one_line(tmp_path, values, text):
    with pytest.raises(ConfigError) as error:
        speed_rows(tmp_path, "training", {**SPEED, **values})
    assert text in str(error.value) and "speed_training.yaml: " in str(error.value)
    assert "\n" not in str(error.value)


def test_growth_needs_two_points(tmp_path):
    with pytest.raises(ConfigError, match="kinds.images: expected at least two points"):
        speed_rows(tmp_path, "growth", {**GROWTH, "kinds": {"images": GROWTH["kinds"]["images"][:1]}})


KERNELS = {
    **{key: value for key, value in GROWTH.items() if key != "kinds"},
    "networks": {
        "s_npu": {
            "fp32": {"dense": 0.008, "depthwise": 0.002, "single": 0.0001, "other": 0.0009},
            "int8": {"dense": 0.003, "depthwise": 0.0025, "single": 0.0002, "other": 0.0003},
            "least": 0.0015,
        }
    },
}


def test_kernels_and_what_int8_gains_at_most(tmp_path):
    rows = speed_rows(tmp_path, "kernels", KERNELS)["onnx_kernels"]
    assert rows == [
        [
            "S-NPU",
            "11.00, 6.00",
            "8.00, 3.00",
            "2.00, 2.50",
            "0.10, 0.20",
            "0.90, 0.30",
            "1.50",
            "1.83",
            "2.44",
        ]
    ]  # 11 / (6 - 3 + 1.5)


def test_kernels_need_all_kinds(tmp_path):
    wrong = {"s_npu": {**KERNELS["networks"]["s_npu"], "int8": {"dense": 0.003}}}
    with pytest.raises(ConfigError, match="networks.s_npu: expected least, and fp32 and int8"):
        speed_rows(tmp_path, "kernels", {**KERNELS, "networks": wrong})
