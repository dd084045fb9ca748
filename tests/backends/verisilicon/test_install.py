"""What the installation of VeriSilicon's emulator refuses, and what is found afterwards; nothing is fetched here."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from picoquant.backends.base import Machine
from picoquant.backends.homes import tool_homes
from picoquant.backends.verisilicon import install, toolchain
from picoquant.errors import ToolError
from picoquant.utils.subprocesses import Outcome


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("PICOQUANT_HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    home = tool_homes("verisilicon")[0]
    monkeypatch.setattr(toolchain, "tool_homes", lambda name: [home])
    return home


def test_the_licence_must_be_accepted(home):
    with pytest.raises(ToolError, match=r"licence as UNKNOWN.*if you accept that, add --accept-licence"):
        install.install_emulator(False, home)
    assert not home.exists()


def test_absent_it_says_what_to_install(home):
    with pytest.raises(ToolError, match=r"run `picoquant toolchain install verisilicon --accept-licence`"):
        toolchain.find(Machine())


def test_only_linux_on_x86(home, monkeypatch):
    monkeypatch.setattr(install.platform, "machine", lambda: "aarch64")
    with pytest.raises(ToolError, match=r"for Linux on 64-bit x86, this is Linux aarch64"):
        install.install_emulator(True, home)


def test_no_compiler(home, monkeypatch):
    monkeypatch.setattr(install.shutil, "which", lambda name: None)
    with pytest.raises(ToolError, match=r"no C compiler was found.*install gcc"):
        install.install_emulator(True, home)


@pytest.mark.parametrize(
    ("fetched", "said"),
    [(False, r"could not fetch acuitylite==6.57.1: ERROR: no matching"), (True, r"its SHA-256 is another")],
)
def test_another_file_or_none_leaves_nothing(home, monkeypatch, fetched, said):
    def pip(command, **own):
        if fetched:
            folder = command[command.index("--dest") + 1]
            (Path(folder) / "acuitylite-6.57.1.whl").write_bytes(b"something else")
        return Outcome(0 if fetched else 1, "looking\nERROR: no matching distribution\n")

    monkeypatch.setattr(install, "run_program", pip)
    monkeypatch.setattr(install.shutil, "which", lambda name: "/usr/bin/cc")
    with pytest.raises(ToolError, match=said):
        install.install_emulator(True, home)
    assert not home.exists() and not list(home.parent.glob("acuitylite-*"))


def test_a_folder_with_something_else_is_left(home, monkeypatch):
    monkeypatch.setattr(install.shutil, "which", lambda name: "/usr/bin/cc")
    home.mkdir(parents=True)
    (home / "mine.txt").write_text("x")
    with pytest.raises(ToolError, match=r"holds something else; name an empty folder"):
        install.install_emulator(True, home)
    assert (home / "mine.txt").read_text() == "x"


def test_what_was_installed_is_found(home):
    home.mkdir(parents=True)
    (home / install.COMPLETE).write_text(json.dumps({"package": install.REQUIREMENT}))
    found = toolchain.find(Machine())
    assert (found.version, found.path, found.program) == ("6.57.1", home, home / "network_runner")
    assert "is installed" in install.install_emulator(False, home)


def test_chips():
    assert toolchain.chip_of("imx8mp") == "VIP8000NANOSI_PLUS_PID0X9F"
    with pytest.raises(
        ToolError, match=r"no NPU of rv1126: it has those of a311d, s905d3, imx8mp, c308x, rk1808"
    ):
        toolchain.chip_of("rv1126")
