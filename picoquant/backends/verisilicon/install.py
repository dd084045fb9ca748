"""Fetch VeriSilicon's emulator, which comes inside the wheel of `acuitylite`, and build the program that drives it.

The emulator is a set of Linux libraries; nothing of the wheel's Python, TensorFlow and their 4.5 GB is needed to run
networks on it through its C interface, so only the wheel itself is fetched, and only the libraries are kept.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
import sys
import tarfile
import zipfile
from pathlib import Path

from picoquant.backends.homes import tool_homes
from picoquant.backends.own_environment.installing import COMPLETE, Terms, fetched_wheel, installing
from picoquant.errors import ToolError
from picoquant.storage.files import write_json
from picoquant.utils.subprocesses import run_program

LOG = logging.getLogger("picoquant")

REQUIREMENT = "acuitylite==6.57.1"
SHA256 = "bc687bc67aa475e97f174dfa7bbbab05c1872ed116f5954810da858ce72c99b8"  # of the wheel
TERMS = Terms(
    "VeriSilicon's emulator",
    f"{REQUIREMENT} is VeriSilicon's; its metadata gives its licence as UNKNOWN, there is no licence file, and some of "
    "its headers call themselves confidential. It is fetched from your package index for you alone, and nothing of it "
    "goes into a package or a repository",
    "nothing else needs it",
)
RUNNER = "network_runner"
SDK = Path("vsi_sdk") / "prebuilt-sdk" / "x86_64_linux"
_COMMAND = "picoquant toolchain install verisilicon"
_OF_THE_WHEEL = (
    "--implementation=cp",
    "--python-version=3.10",
    "--abi=cp310",
    "--platform=manylinux2010_x86_64",
)
_ARCHIVE = "acuitylib/vsi_sdk.tar.gz"
_SOURCE = Path(__file__).with_name("network_runner.c")
_LIBRARIES = ("ovxlib", "OpenVX", "OpenVXU", "GAL")


def install_emulator(accepted: bool, folder: Path | None = None) -> str:
    """Fetch the emulator and build its program; nothing is done when it is there.

    Args:
        accepted: whether the user accepts the state of the licence.
        folder: where; by default the first of `homes.tool_homes`.

    Returns: one line that says what is ready and where.

    Raises: `ToolError` when the licence is not accepted, on another machine than 64-bit x86 Linux, without a C
        compiler, or when the wheel cannot be fetched or is another one; nothing is left then.
    """
    home = folder or tool_homes("verisilicon")[0]
    ready = f"VeriSilicon's emulator of {REQUIREMENT} is installed: {home}"
    if (home / COMPLETE).is_file():
        version = installed_version(home)
        if f"acuitylite=={version}" == REQUIREMENT:
            return ready
        return (
            f"VeriSilicon's emulator of acuitylite=={version} is installed: {home}; delete that folder first for "
            f"{REQUIREMENT}, which picoquant was tried with"
        )
    with installing(home, TERMS, accepted, lambda folder: not _others(folder)):
        _compiler()
        home.mkdir()
        _unpack(home)
        ready_program(home)
        write_json(home / COMPLETE, {"package": REQUIREMENT, "sha256": SHA256, "licence": TERMS.licence})
    return ready


def installed_version(home: Path) -> str:
    """The version of the package that an installation comes from.

    Raises: `ToolError` when it does not say it.
    """
    try:
        package = json.loads((home / COMPLETE).read_text(encoding="utf-8"))["package"]
        return str(package.partition("==")[2])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ToolError(
            f"{home / COMPLETE} does not say which emulator is installed: delete {home} and run `picoquant toolchain "
            "install verisilicon --accept-licence` again"
        ) from error


def _others(home: Path) -> list[Path]:
    """What a folder holds beside what an installation leaves that was not finished."""
    return [path for path in home.iterdir() if path.name != "vsi_sdk" and not path.name.startswith(RUNNER)]


def _unpack(home: Path) -> None:
    """Fetch the wheel and take the libraries out of it."""
    LOG.info("fetching %s (250 MB, of which 150 stay)", REQUIREMENT)
    with (
        fetched_wheel(
            Path(sys.executable), REQUIREMENT, SHA256, _COMMAND, home.parent, _OF_THE_WHEEL
        ) as path,
        zipfile.ZipFile(path) as wheel,
        wheel.open(_ARCHIVE) as inner,
        tarfile.open(fileobj=inner, mode="r:gz") as archive,
    ):
        archive.extractall(home, filter="data")


def ready_program(home: Path) -> Path:
    """The program that builds networks from descriptions and runs them; compiled where it is not there yet.

    Its name has the hash of its source, so that an update of picoquant does not run an older one.

    Raises: `ToolError` without a C compiler, or when it cannot build it.
    """
    source = hashlib.sha256(_SOURCE.read_bytes()).hexdigest()[:12]
    program = home / f"{RUNNER}-{source}"
    if program.is_file():
        return program
    compiler = _compiler()
    include, libraries = home / SDK / "include", home / SDK / "lib"
    for older in home.glob(f"{RUNNER}*"):
        older.unlink()
    made = home / f"{RUNNER}.part"
    command = [compiler, "-O1", "-w", "-o", str(made), str(_SOURCE)]
    command += [f"-I{include}", f"-I{include / 'ovxlib'}", f"-L{libraries}"]
    command += [f"-l{name}" for name in _LIBRARIES] + ["-Wl,--allow-shlib-undefined"]
    outcome = run_program(command, timeout=300, title="cc")
    if outcome.code:
        raise ToolError(f"{compiler} could not build the emulator's program: {outcome.text.strip()[-300:]}")
    made.replace(program)
    return program


def _compiler() -> str:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise ToolError("no C compiler was found, which the emulator's program is built with: install gcc")
    return compiler
