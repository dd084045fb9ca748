"""results/*.yaml: what is refused, and that the documentation's tables are theirs."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import yaml

from benchmarks.results.record import load_result, load_results
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
    assert used == set(results)


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
