"""Vendors' packages in environments of their own: what their installation refuses, and what is found afterwards.

Nothing is fetched here.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

import pytest

from picoquant.backends.acuity.package import PACKAGE as ACUITY
from picoquant.backends.base import Machine
from picoquant.backends.esp_ppq.package import PACKAGE as ESP_PPQ
from picoquant.backends.homes import tool_homes
from picoquant.backends.own_environment import installing, package
from picoquant.backends.own_environment.package import find_package_tool, install_package
from picoquant.backends.rknn.package import PACKAGE as RKNN
from picoquant.backends.tpu_mlir.package import PACKAGE as TPU_MLIR
from picoquant.errors import ToolError
from picoquant.utils.subprocesses import Outcome

PACKAGES = (RKNN, TPU_MLIR, ESP_PPQ, ACUITY)


@pytest.fixture(params=PACKAGES, ids=lambda one: one.name)
def one(request, tmp_path, monkeypatch):
    for known in PACKAGES:
        monkeypatch.delenv(known.variable, raising=False)
    monkeypatch.setenv("PICOQUANT_HOME", str(tmp_path / "own"))
    first = tool_homes
    monkeypatch.setattr(package, "tool_homes", lambda name: first(name)[:1])
    return request.param


@pytest.fixture
def home(one):
    return tool_homes(one.name)[0]


def refusal(work) -> str:
    """The one line that the user reads."""
    with pytest.raises(ToolError) as error:
        work()
    said = str(error.value)
    assert said and "\n" not in said
    return said


def test_each_is_whole(one):
    assert set(one.pythons) <= set(one.wheels) and all(len(digest) == 64 for digest in one.wheels.values())
    assert one.version in one.terms.licence and one.accepting.startswith(one.command)
    toolchain = import_module(f"picoquant.backends.{one.name}.toolchain")
    assert toolchain.OPTIONAL and one.title == toolchain.TITLE and toolchain.DISTRIBUTIONS == ()


def test_absent_it_says_what_to_install(one, home):
    said = refusal(lambda: find_package_tool(one))
    assert said.startswith(f"{one.title} is not installed: run `picoquant toolchain install {one.name}")
    assert one.variable in said and ("--accept-licence" in said) == one.terms.accept


def test_a_python_without_it_is_refused(one, monkeypatch):
    monkeypatch.setenv(one.variable, sys.executable)
    said = refusal(lambda: find_package_tool(one))
    assert f"(from {one.variable}) has no {one.title}: " in said and "NotFoundError" in said
    monkeypatch.setenv(one.variable, "/nowhere/python")
    assert refusal(lambda: find_package_tool(one)).startswith("cannot run /nowhere/python: No such file")


def a_python(folder, one, version):
    """A program like `python` that has the package."""
    about = folder / "packages" / f"{one.distribution.replace('-', '_')}-{version}.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {one.distribution}\nVersion: {version}\n")
    program = folder / "python"
    program.write_text(f'#!/bin/sh\nPYTHONPATH="{folder / "packages"}" exec {sys.executable} "$@"\n')
    program.chmod(0o755)
    return program


def test_another_version_is_used_with_a_warning(one, tmp_path, monkeypatch, caplog):
    program = a_python(tmp_path, one, "99.1")
    monkeypatch.setenv(one.variable, str(program))
    found = find_package_tool(one)
    assert (found.title, found.version, found.python, found.origin) == (
        one.title,
        "99.1",
        program,
        one.variable,
    )
    assert caplog.messages == [f"{one.title} 99.1 is used, picoquant was tried with {one.version}: {program}"]


def test_what_was_installed_is_found(one, home, tmp_path):
    (home / "bin").mkdir(parents=True)
    a_python(tmp_path, one, one.version).rename(home / "bin" / "python")
    (home / installing.COMPLETE).write_text("{}")
    found = import_module(f"picoquant.backends.{one.name}.toolchain").find(Machine())
    assert (found.version, found.python) == (one.version, home / "bin" / "python")
    assert "is installed" in install_package(one, False, folder=home)


def test_a_licence_with_terms_must_be_accepted(one, home, monkeypatch):
    monkeypatch.setattr(package, "find_python", lambda *_: refuse())

    def refuse():
        raise ToolError("looked for a Python")

    said = refusal(lambda: install_package(one, False, folder=home))
    if one.terms.accept:
        assert said == f"{one.terms.licence}: if you accept that, add --accept-licence"
    else:
        assert said == "looked for a Python"
    assert not home.exists()


def test_only_linux_on_x86(one, home, monkeypatch):
    monkeypatch.setattr(installing.platform, "machine", lambda: "aarch64")
    said = refusal(lambda: install_package(one, True, folder=home))
    assert said == f"{one.terms.tool} is for Linux on 64-bit x86, this is Linux aarch64: {one.terms.instead}"


def test_a_folder_with_something_else_is_left(one, home):
    home.mkdir(parents=True)
    (home / "mine.txt").write_text("x")
    assert refusal(lambda: install_package(one, True, folder=home)).endswith(
        "holds something else; name an empty folder"
    )
    assert (home / "mine.txt").read_text() == "x"


def test_without_its_python_it_says_which(one, home, monkeypatch):
    monkeypatch.setattr("picoquant.backends.interpreters._pythons", lambda versions: [])
    said = refusal(lambda: install_package(one, True, folder=home))
    assert said.startswith(f"{one.title} needs a Python {' or '.join(one.pythons)} and none was found")
    assert f"{one.command} --python PATH" in said and not home.exists()
    monkeypatch.setattr(
        "picoquant.backends.interpreters.run_program", lambda *_, **__: Outcome(0, "/p\n3.7.9\n")
    )
    said = refusal(lambda: install_package(one, True, "/p", home))
    assert said == f"/p is Python 3.7.9; {one.title} needs {' or '.join(one.pythons)}"


@pytest.mark.parametrize(
    ("fetched", "said"), [(False, "could not fetch {}: ERROR: no matching"), (True, "its SHA-256 is another")]
)
def test_another_file_or_none_leaves_nothing(one, home, monkeypatch, fetched, said):
    def pip(command, **own):
        if fetched:
            folder = command[command.index("--dest") + 1]
            (Path(folder) / "a.whl").write_bytes(b"something else")
        return Outcome(0 if fetched else 1, "looking\nERROR: no matching distribution\n")

    monkeypatch.setattr(installing, "run_program", pip)
    environment(monkeypatch, one)
    assert said.format(one.requirement) in refusal(lambda: install_package(one, True, folder=home))
    assert not home.exists() and not list(home.parent.iterdir())


def environment(monkeypatch, one):
    """No environment is made, only a folder for packages."""
    monkeypatch.setattr(package, "find_python", lambda *_: (Path(sys.executable), f"{one.pythons[0]}.7"))
    monkeypatch.setattr(
        package,
        "make_environment",
        lambda folder, *_: (folder / "lib/python3.9/site-packages").mkdir(parents=True),
    )


@pytest.mark.parametrize("fails", [0, 1], ids=["installed", "what it needs is not there"])
def test_it_is_installed_whole_or_not_at_all(one, home, monkeypatch, fails):
    commands = []

    def pip(command, **own):
        commands.append(command)
        if "download" in command:
            (Path(command[command.index("--dest") + 1]) / "a.whl").write_bytes(b"it")
            return Outcome(0, "")
        if command[-1].endswith(".whl"):
            third = home / "lib/python3.9/site-packages/tpu_mlir/lib/third_party"
            third.mkdir(parents=True)
            (third / "libc.so.6").write_text("")
            (third / "libopenblas.so.0").write_text("")
        return Outcome(fails, "ERROR: no torch\n")

    monkeypatch.setattr(installing, "run_program", pip)
    monkeypatch.setattr(installing, "_sha256", lambda path: one.wheels[one.pythons[0]])
    listed = '[{"name": "numpy", "version": "1.2"}]\n'
    monkeypatch.setattr(package, "run_program", lambda *_, **__: Outcome(0, listed))
    environment(monkeypatch, one)
    if fails:
        said = refusal(lambda: install_package(one, True, folder=home))
        assert said.startswith(f"pip could not install what {one.requirement} needs: ERROR: no torch; check")
        assert said.endswith(f"run `{one.command}` again") and not home.exists()
        return
    assert install_package(one, True, folder=home) == f"{one.requirement} is installed: {home}"
    facts = json.loads((home / installing.COMPLETE).read_text())
    assert (facts["package"], facts["python"]) == (one.requirement, f"{one.pythons[0]}.7")
    assert facts["packages"] == ["numpy==1.2"] and facts["licence"] == one.terms.licence
    assert [command[3] for command in commands] == ["download", "install", "install"]
    assert commands[1][-len(one.requirements) :] == list(one.requirements) and "--no-deps" in commands[2]
    # Of TPU-MLIR the C library of another system goes, what is its own stays.
    left = {path.name for path in home.rglob("*.so*")}
    assert left == {"libopenblas.so.0"} | (set() if one is TPU_MLIR else {"libc.so.6"})
