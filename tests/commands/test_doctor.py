"""The doctor's report."""

from __future__ import annotations

import configparser
import subprocess
import sys

import pytest
from packaging.requirements import Requirement

from picoquant.backends.base import load_backends
from picoquant.backends.own_environment.installing import COMPLETE
from picoquant.backends.python_package import finder
from picoquant.commands import doctor


def by_name(report):
    return {check.name: check for check in report}


def test_report_names_every_requirement_and_advises_only_where_needed(tmp_path):
    report = by_name(doctor.checks(tmp_path / "not/yet"))
    wanted = {"python", "paddlepaddle", "paddleslim", "onnx", "Paddle Lite opt", "GPU", "CPU cores"}
    assert wanted | {"save dir", "free disk"} <= set(report)
    assert report["save dir"].found.startswith(str(tmp_path))
    assert all(check.found and bool(check.advice) != check.ok for check in report.values())


def test_missing_package_and_wrong_version():
    missing = doctor._package(Requirement("no-such-package-anywhere>=2"))
    assert not missing.ok and missing.found == "not installed (needs >=2)"
    assert missing.advice.endswith("-m pip install 'no-such-package-anywhere>=2'")
    old = doctor._package(Requirement("click>=1000"))
    assert not old.ok and "(needs >=1000)" in old.found and "click>=1000" in old.advice


@pytest.mark.parametrize("version", ["3.4.0.dev20260701", "0.0.0", "2.6.1", "3.4.0"])
def test_a_paddle_that_is_not_known(version, monkeypatch):
    (wanted,) = [one for one in doctor.requirements() if one.name == "paddlepaddle"]
    monkeypatch.setattr(doctor, "_version", {"paddlepaddle": version}.get)
    check = doctor._package(wanted)
    assert not check.ok and check.found == f"{version} (needs <3.4,>=2.6.2)" and "pip install" in check.advice
    monkeypatch.setattr(doctor, "_version", {"paddlepaddle-gpu": "3.3.1"}.get)
    assert doctor._package(wanted).ok


def test_opt_that_is_not_there_is_advised(tmp_path):
    check = by_name(doctor.checks(tmp_path, str(tmp_path / "none")))["Paddle Lite opt"]
    assert not check.ok and "picoquant toolchain install" in check.advice


def test_every_runtime_that_pip_brings_is_an_extra_and_a_line(root, tmp_path):
    parser = configparser.ConfigParser()
    parser.read(root / "setup.cfg", encoding="utf-8")
    extras = {name: text.splitlines() for name, text in parser["options.extras_require"].items()}
    needed = {requirement.name for requirement in doctor.requirements()}
    lines = by_name(doctor.checks(tmp_path))
    for backend in load_backends():
        tool = backend.toolchain
        assert backend.runtime is None or tool.TITLE in lines or needed & set(tool.DISTRIBUTIONS)
        if tool.DISTRIBUTIONS and not needed & set(tool.DISTRIBUTIONS):
            wanted = f"{tool.DISTRIBUTIONS[0]}{tool.VERSIONS}"
            name = backend.family.replace("-", "_").removesuffix("_16x8")
            assert any(line.startswith(wanted) for line in extras[name]), backend.name
            assert any(line.startswith(wanted) for line in extras["dev"]), backend.name


def test_a_runtime_of_another_version_stops_nothing_but_its_own_backend(tmp_path, monkeypatch):
    (tool,) = (one.toolchain for one in load_backends() if one.name == "openvino")
    monkeypatch.setattr(tool, "find", finder("click", ("click",), ">=99"))
    check = by_name(doctor.checks(tmp_path))["OpenVINO"]
    assert check.ok and "none is needed but for its own backend: click " in check.found
    assert "is installed, picoquant takes >=99" in check.found


def test_verisilicons_emulator_is_a_line_and_stops_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.verisilicon, "tool_homes", lambda name: [tmp_path])
    absent = doctor._emulator()
    assert absent.ok and "`picoquant toolchain install verisilicon` has it" in absent.found
    record = tmp_path / COMPLETE
    record.write_text("{}")
    assert doctor._emulator().ok and doctor._emulator().found.startswith("damaged, and not needed: ")
    record.write_text('{"package": "acuitylite==6.57.1"}')
    assert doctor._emulator().found == f"6.57.1 {tmp_path} (from picoquant's own folder)"


def test_save_dir_that_is_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    check = by_name(doctor.checks(tmp_path / "file"))["save dir"]
    assert not check.ok and "--save-dir" in check.advice


def test_the_verdict_names_what_is_missing():
    good, bad = doctor.Check("python", True, "3.11"), doctor.Check("GPU", False, "none", "mend it")
    assert doctor.verdict([good]).ready and doctor.verdict([good]).text.startswith("ready for every command")
    said = doctor.verdict([good, bad, doctor.Check("free disk", False, "1 GB", "free some")])
    assert (said.ready, said.text) == (False, "not ready: GPU, free disk; the lines above say what to do")


def test_nothing_heavy_is_imported():
    code = "import sys; from picoquant.commands.doctor import checks; checks(); "
    code += "print({'paddle', 'onnx', 'cv2'} & set(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "set()"
