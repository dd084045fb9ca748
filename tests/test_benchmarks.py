"""The benchmarks' own side still runs: it calls what is inside, which changes."""

from __future__ import annotations

import json
import math
import subprocess
import sys

import pytest


@pytest.mark.parametrize(
    ("script", "side", "keys"),
    [
        ("quantize_setup.py", "picoquant", {"setup", "step", "cpu", "megabytes"}),
        ("quantize_setup.py", "picoquant, levels", {"setup", "step", "cpu", "megabytes"}),
        ("train_speed.py", "picoquant", {"wall", "cpu"}),
    ],
)
def test_picoquants_side_is_measured(root, script, side, keys):
    sizes = ["--size", "64", "--batch", "2", "--steps", "1"]
    command = [sys.executable, root / "benchmarks" / script, "--only", side, *sizes]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert keys <= found.keys()
    assert all(math.isfinite(found[key]) and found[key] > 0 for key in keys)


@pytest.mark.slow
def test_the_start_of_work_on_a_large_data_set_is_measured(root, tmp_path):
    sys.path.insert(0, str(root))
    from benchmarks.start_speed import export_network, write_data_set

    write_data_set(tmp_path / "data", 100)
    export_network(tmp_path / "data")
    for what in ("train", "eval", "quantize"):
        words = ("--only", "picoquant", "--folder", str(tmp_path / "data"), "--what", what)
        found = measured(root, "start_speed.py", *words)
        assert found["cpu"] > 0 and found["megabytes"] > 0 and found["at"] > 1e9


@pytest.mark.slow
def test_packages_alone_and_together_are_measured(root, evaluated_run):
    for how in ("alone", "together"):
        words = ("--run", str(evaluated_run), "--target", "generic_onnx", "--only", how)
        assert measured(root, "package_speed.py", *words)["wall"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["images", "evaluated", "classes_images", "classes", "step"])
def test_a_point_of_growth_is_measured(root, tmp_path, kind):
    value = {"images": "40", "evaluated": "20", "step": "64"}.get(kind, "3")
    found = measured(root, "scaling.py", "--out", str(tmp_path), "--only", kind, "--point", value)
    assert all(math.isfinite(found[key]) and found[key] > 0 for key in ("seconds", "megabytes", "work"))


def measured(root, script, *words):
    command = [sys.executable, root / "benchmarks" / script, *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_one_process_beside_two(root, tmp_path):
    sizes = [
        "--size",
        "64",
        "--batch",
        "2",
        "--steps",
        "1",
        "--runs",
        "1",
        "--record",
        tmp_path / "figures.json",
    ]
    done = subprocess.run(
        [sys.executable, root / "benchmarks/processes.py", *sizes],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    figures = json.loads((tmp_path / "figures.json").read_text())["figures"]
    assert [(one["contender"], one["processes"]) for one in figures] == [
        ("picoquant", 1),
        ("picoquant", 2),
        ("joint batch norm", 2),
        ("paddle.DataParallel", 2),
    ]
    assert figures[0]["efficiency"] == 1
    for one in figures:
        assert (
            0
            < one["efficiency"]
            == pytest.approx(one["images_per_second"] / one["processes"] / figures[0]["images_per_second"])
        )
    assert done.stdout.count("efficiency") == 4
