"""The package for Android boards: what is in it, `run_android.sh` with a stand-in of adb, the NDK's CMake file.

The stand-in copies files and runs the board's commands on this machine, and writes down what it is told. No Android
board, no adb and no NDK were at hand.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from picoquant.packaging.board_program import quoted, write_board
from picoquant.packaging.forms import Forms, forms_of
from picoquant.packaging.readme import readme
from picoquant.targets.profiles import load_target
from tests.packaging.board import SETTINGS, SOURCE

ADB = r"""#!/bin/sh
echo "$@" >> "$RECORD"
case $1 in
  get-state) echo "${STATE:-device}"; exit "${STATE_CODE:-0}" ;;
  push) [ -z "${FULL:-}" ] && cp -r "$2" "$3" ;;
  pull) cp -r "$2" "$3" ;;
  shell)
    case $2 in
      "getprop ro.product.cpu.abilist") printf '%s\r\n' "${ABIS-armeabi-v7a,armeabi}" ;;
      "getprop ro.product.cpu.abi") printf '%s\r\n' "${ABI:-armeabi-v7a}" ;;
      *) sh -c "$2" ;;
    esac
    ;;
esac
"""
PROGRAM = r"""#!/bin/sh
echo "$VSI_NN_LOG_LEVEL|$LD_LIBRARY_PATH"
for word in "$@"; do echo "<$word>"; done
while [ $# -gt 0 ]; do
  case $1 in --draw) echo drawn > "$2" ;; --image) cat "$2" ;; esac
  shift
done
exit "${PROGRAM_CODE:-0}"
"""


class Computer:
    """A package on a computer, with a board on it."""

    def __init__(self, folder: Path, target: str) -> None:
        self.folder, self.package, self.device = (
            folder,
            folder / "the package",
            folder / "on the board's disk",
        )
        self.record = folder / "record.txt"
        profile = load_target(target)
        self.package.mkdir()
        write_board(self.package, profile, SETTINGS)
        variables = "".join(f"export {key}={quoted(text)}\n" for key, text in profile.environment.items())
        (self.package / "environment.sh").write_text(variables)
        (self.package / "model.nb").write_bytes(b"network")
        (self.package / "model_int8.onnx").write_bytes(b"large")
        (self.package / "sample").mkdir()
        (self.package / "sample" / "expected.json").write_text("{}")
        self.board = self.package / "board"
        (self.board / "lib").mkdir()
        for line in (self.board / "target.sh").read_text().splitlines():
            if line.startswith("TARGET_LIBRARIES="):
                self.libraries = line.split("'")[1].split()
        for name in self.libraries:
            (self.board / "lib" / name).write_bytes(b"\x7fELF\x01\x01\x01")
        self.executable(self.board / "build" / "detect", PROGRAM)
        self.executable(folder / "bin" / "adb", ADB)
        # The board's own commands.
        self.executable(folder / "bin" / "uname", "#!/bin/sh\necho armv8l\n")
        self.executable(folder / "bin" / "dmesg", "#!/bin/sh\necho 'Galcore version 6.4.4.3.310723a'\n")

    @staticmethod
    def executable(path: Path, text: str) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def run(self, *options, **variables):
        self.record.write_text("")
        environment = {
            **os.environ,
            "PATH": f"{self.folder / 'bin'}{os.pathsep}{os.environ['PATH']}",
            "DEVICE_DIR": str(self.device),
            "RECORD": str(self.record),
            **variables,
        }
        command = ["sh", str(self.board / "run_android.sh"), *map(str, options)]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=self.folder)


@pytest.fixture
def computer(tmp_path):
    return Computer(tmp_path, "s905d3_android")


def test_profiles_are_their_linux_ones_but_for_the_system():
    for name in ("a311d", "s905d3"):
        target, linux = load_target(f"{name}_android"), load_target(name)
        assert (target.abi, target.os, target.android, linux.android) == (
            "armeabi-v7a",
            "Android 9",
            True,
            False,
        )
        assert target.driver.version == linux.driver.version == "6.4.4.3"
        assert target.driver.library_folder == "viv_sdk_android_9_armeabi_v7a_6_4_4_3"
        assert (target.environment, target.paddle_lite) == (linux.environment, linux.paddle_lite)
        assert (target.quantization, target.arithmetic) == (linux.quantization, linux.arithmetic)
        assert forms_of(target) == Forms(True, False)


def test_only_packages_for_android_hold_what_is_android_s(tmp_path):
    for name in ("a311d", "a311d_android"):
        write_board(tmp_path / name, load_target(name), SETTINGS)
    linux, android = (
        {one.name for one in (tmp_path / n / "board").iterdir()} for n in ("a311d", "a311d_android")
    )
    assert linux - android == {"arm64.cmake", "armhf.cmake"}
    assert android - linux == {"android.cmake", "run_android.sh"}
    assert os.access(tmp_path / "a311d_android" / "board" / "run_android.sh", os.X_OK)


def test_readme_says_how_to_build_and_run_and_what_was_not_tried():
    target = load_target("a311d_android")
    text = readme(target, forms_of(target), True, nb={"int8": "model.nb"})
    for words in (
        "v2.13-rc for Android, armeabi-v7a, clang, c++_shared, with NNAdapter",
        "export ANDROID_NDK=/path/to/ndk",
        "-DCMAKE_TOOLCHAIN_FILE=android.cmake\n",
        "/data/local/tmp/picoquant/a311d_android",
        "**Not tried**: any Android board, adb itself",
        "galcore 6.4.4.3",
    ):
        assert words in text
    assert "arm64.cmake" not in text and "board/run.sh`" not in text


def test_pushes_what_the_board_needs_and_runs_the_sample(computer):
    done = computer.run()
    assert done.returncode == 0, done.stderr
    device = computer.device
    pushed = sorted(str(path.relative_to(device)) for path in device.rglob("*") if path.is_file())
    libraries = sorted(f"board/lib/{name}" for name in computer.libraries)
    assert {"libc++_shared.so", "libpaddle_light_api_shared.so", "libverisilicon_timvx.so"} <= set(
        computer.libraries
    )
    assert [name for name in pushed if "lib/" in name] == libraries
    assert [name for name in pushed if "lib/" not in name] == [
        "board/build/detect", "board/run.sh", "board/target.sh", "environment.sh", "exit_code", "model.nb",
        "sample/expected.json", "settings.json",
    ]  # fmt: skip
    environment, *words = done.stdout.splitlines()
    assert environment.startswith(f"0|{device}/board/lib")  # of environment.sh
    assert words == [
        "<--package>", f"<{device}>", "<--cache>", f"<{device}/board/cache>", "<--expected>",
        f"<{device}/sample/expected.json>",
    ]  # fmt: skip
    assert "may take more than a minute" in done.stderr


def test_both_names_of_the_batch_norm_variable_reach_the_program(computer):
    computer.executable(computer.board / "build" / "detect", "#!/bin/sh\nenv\n")
    lines = computer.run().stdout.splitlines()
    name = "TIMVX_BATCHNORM_FUSION_MAX_ALLOWED_QUANT_SCALE_DEVIATION"
    assert f"{name}=30000" in lines and f"VERISILICON_{name}=30000" in lines


def test_files_named_by_options_go_there_and_come_back(computer):
    image = computer.folder / "it's a photo $HOME.ppm"
    image.write_text("pixels of the photo\n")
    (computer.folder / "out").mkdir()
    done = computer.run("--image", image, "--draw", "out/drawn here.ppm", "--min-score", "0.5")
    assert done.returncode == 0, done.stderr
    words = done.stdout.splitlines()[5:]
    assert words == [
        "<--image>", f"<{computer.device}/given/1/{image.name}>", "<--draw>",
        f"<{computer.device}/made/drawn here.ppm>", "<--min-score>", "<0.5>", "pixels of the photo",
    ]  # fmt: skip
    assert (computer.folder / "out" / "drawn here.ppm").read_text() == "drawn\n"
    # The board's own devices stay as they are.
    words = computer.run("--source", "/dev/video0", "--draw", "/dev/null").stdout.splitlines()[5:]
    assert words == ["<--source>", "</dev/video0>", "<--draw>", "</dev/null>"]
    assert "pull" not in computer.record.read_text()


@pytest.mark.parametrize("code", [0, 1, 2, 77])
def test_exit_code_is_the_program_s(computer, code):
    assert computer.run(PROGRAM_CODE=str(code)).returncode == code


def test_what_is_wrong_is_one_line_before_anything_is_pushed(computer):
    def refused(message, **variables):
        done = computer.run(**variables)
        assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
        assert "push" not in computer.record.read_text()

    refused("no command nowhere/adb: install it", ADB="nowhere/adb")
    refused(
        "adb reaches no board (error: no devices/emulators found)", STATE="error: no devices/emulators found"
    )
    refused("set ANDROID_SERIAL to one of", STATE="error: more than one device/emulator", STATE_CODE="1")
    refused("allow USB debugging on its screen", STATE="error: device unauthorized.")
    refused(
        "the board runs programs of arm64-v8a,x86, the package is for s905d3_android (armeabi-v7a)",
        ABIS="arm64-v8a,x86",
    )
    refused("the board runs programs of x86, the package", ABIS="", ABI="x86")
    assert computer.run(ABIS="").returncode == 0  # a board that states one ABI alone
    refused("no program", PROGRAM="nowhere/detect")
    refused(
        "no library folder nowhere: put Paddle Lite's libraries for Android, armeabi-v7a",
        PADDLE_LITE_LIBS="nowhere",
    )
    (computer.board / "lib" / "libc++_shared.so").unlink()
    refused("libc++_shared.so is missing in", STATE="device")


def test_what_is_wrong_on_the_board_is_said_by_run_sh(computer):
    (computer.board / "lib" / "libGAL.so").write_bytes(b"\x7fELF\x02\x01\x01")
    done = computer.run()
    assert done.returncode == 2
    assert "libGAL.so is of 64 bits, s905d3_android needs 32 (armeabi-v7a)" in done.stderr
    done = computer.run(FULL="1")
    assert done.returncode == 2 and "is there room on the board?" in done.stderr


def test_scripts_pass_shellcheck():
    if not shutil.which("shellcheck"):
        pytest.skip("shellcheck is not installed: apt-get install shellcheck")
    scripts = sorted(map(str, SOURCE.rglob("*.sh")))
    assert len(scripts) == 2
    done = subprocess.run(["shellcheck", *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


NDK = """
if(NOT ANDROID_STL STREQUAL c++_shared OR NOT ANDROID_PLATFORM STREQUAL android-21)
  message(FATAL_ERROR "${ANDROID_STL} ${ANDROID_PLATFORM}")
endif()
message(STATUS "ABI ${ANDROID_ABI}")
"""


def test_cmake_file_hands_the_ndk_what_it_needs(tmp_path):
    """A stand-in of the NDK's own file says what it was given, and leaves this machine's compiler."""
    if not (shutil.which("cmake") and shutil.which("c++")):
        pytest.skip("cmake and a C++ compiler are not installed")
    ndk = tmp_path / "ndk"
    file = ndk / "build" / "cmake" / "android.toolchain.cmake"
    file.parent.mkdir(parents=True)
    file.write_text(NDK)
    write_board(tmp_path / "package", load_target("a311d_android"), SETTINGS)
    board = tmp_path / "package" / "board"

    def configure(name, *options, **variables):
        command = [
            "cmake",
            "-S",
            board,
            "-B",
            tmp_path / name,
            "-DCMAKE_TOOLCHAIN_FILE=android.cmake",
            *options,
        ]
        environment = {key: text for key, text in os.environ.items() if key != "ANDROID_NDK"} | variables
        return subprocess.run(
            [str(p) for p in command], capture_output=True, text=True, env=environment, cwd=board
        )

    done = configure("one", ANDROID_NDK=str(ndk))
    assert done.returncode == 0 and "ABI armeabi-v7a" in done.stdout, done.stderr
    done = configure("two", f"-DANDROID_NDK={ndk}", "-DANDROID_ABI=arm64-v8a")
    assert done.returncode == 0 and "ABI arm64-v8a" in done.stdout, done.stderr
    done = configure("three")
    assert done.returncode != 0 and "is no NDK: set it to the folder that holds" in " ".join(
        done.stderr.split()
    )
