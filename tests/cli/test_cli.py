"""The command line as a user meets it: a real process, its exit code, its one line."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
import zipfile

import pytest

from tests.command_line import picoquant, refusal


def test_a_recipe_without_its_data_stops_at_once_and_says_how_to_set_it(tmp_path):
    began = time.monotonic()
    done = picoquant("run", "--config", "picodet_s_qat_dis.yaml", "--save-dir", "out", cwd=tmp_path)
    line = refusal(done)
    assert "instances_train2017.json" in line and "TrainDataset.dataset_dir" in line
    assert "quickstart.yaml" in line
    assert time.monotonic() - began < 60  # 3 s where nothing else runs; a hang is what this is for


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "--config is needed"),
        (["run", "-c", "nowhere.yaml"], "nowhere.yaml"),
        (["run", "-c", "a/nowhere.yaml"], "no such file: a/nowhere.yaml"),
        (["run", "-c", "quickstart", "-o", "TrainConfig.train_itr=1"], "did you mean train_iter?"),
        (["run", "-c", "quickstart", "-o", "epoch=1", "Globl.seed=1"], "did you mean Global?"),
        (["run", "-c", "quickstart", "--from", "package", "--until", "train"], "comes after"),
        (["run", "-c", "quickstart", "--device", "tpu"], "no device"),
        (["run", "-c", "quickstart", "--device", "gpu:0"], "--device"),
        (["run", "-c", "quickstart", "--input-size", "300"], "300 is not a multiple of 32"),
        (["run", "-c", "quickstart", "--input-size", "big"], "is no size"),
        (["quantize", "-c", "quickstart"], "no exported model"),
        (["export", "-c", "quickstart"], "no trained weights"),
        (["package", "--target", "rv1126"], "holds no earlier run"),
        (["eval", "-c", "quickstart", "--weights", "nowhere.pdparams"], "nowhere.pdparams"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(tmp_path, arguments, message):
    assert message in refusal(picoquant(*arguments, cwd=tmp_path))


def test_a_save_dir_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    done = picoquant("run", "-c", "quickstart", "--save-dir", tmp_path / "file" / "out")
    assert f"cannot write {tmp_path}/file" in refusal(done)


@pytest.mark.parametrize("words", [["--quiet", "export"], ["export", "--quiet"]])
def test_quiet_is_taken_before_and_after_the_command(words, tmp_path):
    done = picoquant(*words, "-c", "quickstart", "--save-dir", tmp_path)
    assert "generate" not in done.stderr and len(done.stderr.strip().splitlines()) == 1
    assert "generate" in (tmp_path / "run.log").read_text()
    refusal(done)


def test_debug_shows_where(tmp_path):
    done = picoquant("--debug", "run", "-c", "nowhere.yaml", cwd=tmp_path)
    assert done.returncode == 2 and "Traceback" in done.stderr


def test_doctor_lists_packages_as_json():
    done = picoquant("doctor", "--json")
    said = json.loads(done.stdout)
    found = {check["name"]: check for check in said["checks"]}
    assert found["paddlepaddle"]["ok"], done.stdout
    assert all(check["advice"] for check in found.values() if not check["ok"])
    missing = [name for name, check in found.items() if not check["ok"]]
    assert said["ready"] is (not missing) is (done.returncode == 0)
    assert said["verdict"].startswith(f"not ready: {', '.join(missing)}; " if missing else "ready ")


def test_a_wheel_holds_recipes_configurations_and_targets(tmp_path, root):
    build = tmp_path / "src"
    shutil.copytree(
        root, build, ignore=shutil.ignore_patterns(".git", ".venv", "output", "build", "*.egg-info")
    )
    wheel = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "-q",
        "-w",
        tmp_path,
        build,
    ]
    subprocess.run(list(map(str, wheel)), check=True, capture_output=True)
    (archive,) = tmp_path.glob("picoquant-*.whl")
    with zipfile.ZipFile(archive) as content:
        (licence,) = (name for name in content.namelist() if name.endswith("LICENSE"))
        assert content.read(licence) == (root / "LICENSE").read_bytes()
        (metadata,) = (name for name in content.namelist() if name.endswith(".dist-info/METADATA"))
        assert b"License: Apache-2.0" in content.read(metadata)
    target = tmp_path / "site"
    install = [sys.executable, "-m", "pip", "install", "--no-deps", "-q", "--target", target, archive]
    subprocess.run(list(map(str, install)), check=True, capture_output=True)
    code = (
        "from picoquant.config.recipe import load_recipe\n"
        "from picoquant.yaml_files.locate import shipped_names\n"
        "import picoquant; print(picoquant.__file__)\n"
        "print(load_recipe('quickstart').document['architecture'], load_recipe('quickstart').calibration.images)\n"
        "assert 'rv1126' in shipped_names('npu_targets')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(target)},
    )
    assert done.returncode == 0, done.stderr
    assert str(target) in done.stdout and "PicoDet train" in done.stdout
