"""`picoquant doctor`: what is installed, what is missing, what to do. Quick: it imports nothing heavy."""

from __future__ import annotations

import configparser
import importlib.metadata
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from picoquant.backends.acuity import toolchain as acuity
from picoquant.backends.base import Machine, Toolchain, load_backends
from picoquant.backends.table import BACKENDS
from picoquant.backends.verisilicon import toolchain as verisilicon
from picoquant.commands.mixtures import mixtures
from picoquant.errors import ToolError
from picoquant.utils.device import available_cpus
from picoquant.utils.subprocesses import run_program

OLDEST_PYTHON, NEWEST_PYTHON = (3, 9), (3, 13)
_FREE_GB = 2.0  # a run on a small data set takes about 0.5 GB: checkpoints, exports, packages
_STANDS_IN = {  # distributions that bring the same module
    "paddlepaddle": ("paddlepaddle-gpu",),
    "opencv-python": (
        "opencv-python-headless",
        "opencv-contrib-python",
        "opencv-contrib-python-headless",
    ),
}


@dataclass(frozen=True)
class Check:
    """One line of the doctor's report.

    Attributes:
        name: what was looked at.
        ok: whether picoquant can work with it.
        found: what is there.
        advice: what to do; empty when `ok`.
    """

    name: str
    ok: bool
    found: str
    advice: str = ""


@dataclass(frozen=True)
class Verdict:
    """What all lines of the report come to.

    Attributes:
        ready: whether a run can go to its end.
        text: the same as one line.
    """

    ready: bool
    text: str


def verdict(report: Sequence[Check]) -> Verdict:
    """Whether everything that was looked at is as a run needs it."""
    missing = [check.name for check in report if not check.ok]
    if missing:
        return Verdict(False, f"not ready: {', '.join(missing)}; the lines above say what to do")
    return Verdict(
        True, "ready for every command; `picoquant run --config quickstart.yaml` needs no data of yours"
    )


def checks(
    save_dir: str | Path = "output", opt: str | None = None, known: Mapping[str, str] = BACKENDS
) -> list[Check]:
    """Look at everything a run needs.

    Args:
        save_dir: where the run would write.
        opt: as `--opt`.
        known: the backends, see `table.BACKENDS`.
    """
    report = [_python()]
    report += [_package(requirement) for requirement in requirements()]
    report += [Check("mixture", False, found, advice) for found, advice in mixtures()]
    report += [_paddleslim(), *_tools(Machine(opt=opt), known), _emulator(), _acuity(), _gpu(), _cores()]
    folder = _nearest_folder(Path(save_dir).expanduser().absolute())
    return [*report, _writable(folder), _disk(folder)]


def requirements() -> list[Requirement]:
    """The packages picoquant needs: from its installed metadata, or from the checkout's setup.cfg."""
    setup = Path(__file__).resolve().parents[2] / "setup.cfg"
    if setup.is_file():
        parser = configparser.ConfigParser()
        parser.read(setup, encoding="utf-8")
        lines = parser["options"]["install_requires"].splitlines()
    else:
        lines = importlib.metadata.requires("picoquant") or []
    needed = [Requirement(line) for line in lines if line.strip() and not line.startswith("#")]
    return [item for item in needed if item.marker is None or item.marker.evaluate({"extra": ""})]


def _python() -> Check:
    version = sys.version_info[:2]
    ok = OLDEST_PYTHON <= version <= NEWEST_PYTHON
    oldest, newest = (".".join(map(str, bound)) for bound in (OLDEST_PYTHON, NEWEST_PYTHON))
    advice = f"make the environment with a Python from {oldest} to {newest} (make PYTHON=python3.11 env)"
    return Check("python", ok, sys.version.split()[0], "" if ok else advice)


def _package(requirement: Requirement) -> Check:
    wanted = str(requirement.specifier)
    needs = f" (needs {wanted})" if wanted else ""
    advice = f"{sys.executable} -m pip install '{requirement.name}{wanted}'"
    for name in (requirement.name, *_STANDS_IN.get(canonicalize_name(requirement.name), ())):
        version = _version(name)
        if version is None:
            continue
        called = version if name == requirement.name else f"{version} ({name})"
        if requirement.specifier.contains(version, prereleases=True):
            return Check(requirement.name, True, called + needs)
        return Check(requirement.name, False, called + needs, advice)
    return Check(requirement.name, False, f"not installed{needs}", advice)


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _tools(machine: Machine, known: Mapping[str, str]) -> Iterator[Check]:
    """The tools of the backends but for those that come with a required package."""
    required = {canonicalize_name(requirement.name) for requirement in requirements()}
    toolchains = {backend.folder: backend.toolchain for backend in load_backends(known)}
    for toolchain in toolchains.values():
        if not required & set(toolchain.DISTRIBUTIONS):
            yield _tool(toolchain, machine)


def _tool(toolchain: Toolchain, machine: Machine) -> Check:
    try:
        tool = toolchain.find(machine)
    except ToolError as error:
        if toolchain.DISTRIBUTIONS or getattr(toolchain, "OPTIONAL", False):  # a runtime that a user may add
            return Check(toolchain.TITLE, True, f"none, and none is needed but for its own backend: {error}")
        return Check(toolchain.TITLE, False, "none that works", str(error))
    return Check(toolchain.TITLE, True, f"{tool.version} {tool.path} (from {tool.origin})")


def _paddleslim() -> Check:
    """What is needed for a reference only; whether it goes with the installed Paddle, `mixtures` says."""
    version = _version("paddleslim")
    return Check(
        "paddleslim", True, f"{version or 'none, and none is needed but'} for Quantize.engine: paddleslim"
    )


def _emulator() -> Check:
    """VeriSilicon's emulator, which nothing needs: it shows what its NPUs compute."""
    try:
        tool = verisilicon.find(Machine())
    except ToolError as error:
        if "is not installed" not in str(error):
            return Check(verisilicon.TITLE, True, f"damaged, and not needed: {error}")
        said = "not installed, and not needed; `picoquant toolchain install verisilicon` has it"
        return Check(verisilicon.TITLE, True, said)
    return Check(verisilicon.TITLE, True, f"{tool.version} {tool.path} (from {tool.origin})")


def _acuity() -> Check:
    """acuity, which nothing needs but `eval --acuity`."""
    try:
        tool = acuity.find(Machine())
    except ToolError as error:
        return Check(acuity.TITLE, True, f"none, and none is needed but for `eval --acuity`: {error}")
    return Check(acuity.TITLE, True, f"{tool.version} {tool.path} (from {tool.origin})")


def _gpu() -> Check:
    name, built = "GPU", _version("paddlepaddle-gpu")
    if shutil.which("nvidia-smi") is None:
        if built:
            advice = "install NVIDIA's driver, or paddlepaddle instead of paddlepaddle-gpu"
            return Check(name, False, "paddlepaddle-gpu is installed but no NVIDIA driver", advice)
        return Check(name, True, "none; everything runs on the CPU")
    outcome = _say(lambda: run_program(["nvidia-smi", "-L"], timeout=10).text.strip())
    lines = [line.split(" (UUID")[0] for line in outcome.splitlines() if line.startswith("GPU")]
    if not lines:
        return Check(
            name, not built, f"nvidia-smi finds none: {outcome}", "" if not built else "mend the driver"
        )
    used = "" if built else "; paddlepaddle is built for CPU (paddlepaddle-gpu would use it)"
    return Check(name, True, ", ".join(lines) + used)


def _say(work: Callable[[], str]) -> str:
    try:
        return work()
    except ToolError as error:
        return str(error)


def _cores() -> Check:
    return Check("CPU cores", True, str(available_cpus()))


def _nearest_folder(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def _writable(folder: Path) -> Check:
    if not folder.is_dir():
        return Check("save dir", False, f"{folder} is a file", "choose another --save-dir")
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        return Check("save dir", False, f"{folder}: {error.strerror}", "choose another --save-dir")
    return Check("save dir", True, f"{folder} can be written")


def _disk(folder: Path) -> Check:
    free = shutil.disk_usage(folder).free / 1e9
    ok = free >= _FREE_GB
    advice = f"free some space or choose another --save-dir; a run wants {_FREE_GB:.0f} GB"
    return Check("free disk", ok, f"{free:.1f} GB at {folder}", "" if ok else advice)
