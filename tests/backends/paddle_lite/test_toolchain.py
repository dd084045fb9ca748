"""Finding, running and installing Paddle Lite's opt."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from picoquant.backends import interpreters
from picoquant.backends.paddle_lite import install
from picoquant.backends.paddle_lite import toolchain as lite
from picoquant.backends.paddle_lite.opt_tool import OptTool
from picoquant.errors import ToolError
from picoquant.utils.subprocesses import run_program


def script(path: Path, lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def nothing_installed(tmp_path, monkeypatch):
    """A machine without opt: the places it may be in are empty folders."""
    monkeypatch.delenv(lite.VARIABLE, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "venv/bin/python"))
    monkeypatch.setattr(install, "_homes", lambda: [tmp_path / "home"])
    return tmp_path


def test_missing_opt_says_what_to_do(nothing_installed):
    with pytest.raises(ToolError, match=r"not installed: run `picoquant toolchain install`.*--opt"):
        lite.find_opt()


def test_named_opt_is_refused_when_it_is_not_there(nothing_installed):
    with pytest.raises(ToolError, match=r"^--opt: no such file: .*none"):
        lite.find_opt(nothing_installed / "none")


def test_variable_that_leads_nowhere_is_refused_though_another_would_do(nothing_installed, monkeypatch):
    script(nothing_installed / "bin/paddle_lite_opt", "echo v2.13")
    monkeypatch.setenv(lite.VARIABLE, "/none/opt")
    with pytest.raises(ToolError, match="PICOQUANT_LITE_OPT: no such file: /none/opt"):
        lite.find_opt()


def test_order_of_search(nothing_installed, monkeypatch):
    own = nothing_installed / "home"
    script(own / "bin/paddle_lite_opt", "echo v1.4")
    assert not install.own_environments()  # half made: its last file is missing
    (own / "picoquant.json").write_text("{}")
    assert lite.find_opt().version == "v1.4"
    script(nothing_installed / "bin/paddle_lite_opt", "echo v1.3")
    assert lite.find_opt().version == "v1.3"
    script(nothing_installed / "venv/bin/paddle_lite_opt", "echo v1.2")
    assert lite.find_opt().version == "v1.2"
    monkeypatch.setenv(lite.VARIABLE, str(script(nothing_installed / "opt1", "echo v1.1")))
    assert lite.find_opt().version == "v1.1"
    assert lite.find_opt(script(nothing_installed / "opt0", "echo v1.0")).version == "v1.0"


def test_one_that_does_not_run_is_passed_over(nothing_installed, caplog):
    script(nothing_installed / "venv/bin/paddle_lite_opt", "echo command not found; exit 127")
    script(nothing_installed / "bin/paddle_lite_opt", "echo v2.13")
    assert lite.find_opt().origin == "PATH"
    assert "command not found" in caplog.text


def test_program_ended_by_a_signal(tmp_path):
    outcome = run_program([str(script(tmp_path / "dies", "echo last words; kill -ABRT $$"))])
    assert (outcome.ended, outcome.text) == ("SIGABRT", "last words\n")


def test_program_that_hangs_is_stopped(tmp_path):
    with pytest.raises(ToolError, match="did not end within 1s"):
        run_program([str(script(tmp_path / "hangs", "exec sleep 60"))], timeout=1)


def test_own_python_settings_do_not_reach_other_programs(monkeypatch, tmp_path):
    monkeypatch.setenv("PYTHONPATH", "/ours")
    assert run_program(["/usr/bin/env"]).text.find("/ours") == -1


def test_real_opt_names_what_it_dislikes_and_leaves_nothing(opt: OptTool, tmp_path):
    (tmp_path / "model.pdmodel").write_bytes(b"no program")
    (tmp_path / "model.pdiparams").write_bytes(b"no weights")
    with pytest.raises(ToolError, match=r"model\.pdmodel for verisilicon\S+ \(SIGABRT\): Check failed"):
        opt.run(
            tmp_path / "model.pdmodel",
            tmp_path / "model.pdiparams",
            tmp_path / "out/model.nb",
            "verisilicon_timvx,arm",
        )
    assert sorted(os.listdir(tmp_path)) == ["model.pdiparams", "model.pdmodel"]


def test_silent_crash_names_the_pass(tmp_path):
    text = "[1 11/21 5:51:23.425 …optimizer.cc:99 ApplyPasses] == Running pass: some_fuse_pass"
    crashing = script(tmp_path / "opt", f"echo '{text}'; echo Model is loaded; kill -SEGV $$")
    (tmp_path / "m").write_text("")
    with pytest.raises(ToolError, match=r"\(SIGSEGV\): it crashed in its some_fuse_pass without naming"):
        OptTool(crashing).run(tmp_path / "m", tmp_path / "m", tmp_path / "out.nb", "arm")
    assert not (tmp_path / "out.nb").exists()


def test_real_opt_has_a_version(opt: OptTool):
    assert opt.version.startswith("v2.")


def test_install_without_a_python_names_what_to_install(nothing_installed, monkeypatch):
    monkeypatch.setattr(interpreters, "_pythons", lambda versions: iter([]))
    with pytest.raises(ToolError, match=r"Python 3\.10 or 3\.8.*--python PATH"):
        install.install_lite()
    assert not (nothing_installed / "home").exists()


def test_install_with_a_python_of_another_version(nothing_installed):
    other = script(nothing_installed / "python", "echo /usr/bin/python3.12; echo 3.12.1")
    with pytest.raises(ToolError, match=r"is Python 3\.12\.1; Paddle Lite's opt needs 3\.10 or 3\.8"):
        install.install_lite(python=other)


def test_failed_install_leaves_nothing(nothing_installed):
    broken = nothing_installed / "python"
    script(broken, f'case "$1" in -c) echo {broken}; echo 3.10.1;; *) echo no space; exit 1;; esac')
    with pytest.raises(ToolError, match="could not make .*home: no space"):
        install.install_lite(python=broken)
    assert not (nothing_installed / "home").exists()


def test_install_refuses_a_folder_that_holds_something_else(nothing_installed):
    (nothing_installed / "home").mkdir()
    (nothing_installed / "home/photos").write_text("precious")
    with pytest.raises(ToolError, match="holds something else"):
        install.install_lite()
    assert (nothing_installed / "home/photos").exists()


@pytest.mark.slow
def test_install_makes_an_opt_that_runs_and_is_used_again(tmp_path):
    folder = tmp_path / "with space" / "lite"
    assert "is installed" in install.install_lite(folder)
    tool = OptTool(folder / "bin/paddle_lite_opt")
    assert tool.version.startswith("v2.13")
    before = (folder / "picoquant.json").stat().st_mtime_ns
    install.install_lite(folder)
    assert (folder / "picoquant.json").stat().st_mtime_ns == before
