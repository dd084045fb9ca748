"""Make an environment of picoquant's own that holds Rockchip's rknn-toolkit2, whose packages do not fit beside ours."""

from __future__ import annotations

import hashlib
import json
import logging
import platform
import shutil
import tempfile
from pathlib import Path

from picoquant.backends.homes import tool_homes
from picoquant.backends.interpreters import (
    checked_python,
    find_python,
    is_half_made,
    last_line,
    make_environment,
)
from picoquant.errors import ToolError
from picoquant.storage.files import disk_errors, write_json
from picoquant.utils.subprocesses import run_program

LOG = logging.getLogger("picoquant")

PACKAGE, VERSION = "rknn-toolkit2", "2.5.0"
REQUIREMENT = f"{PACKAGE}=={VERSION}"
WHEELS = {  # SHA-256 of the wheel of each Python
    "3.8": "cf391bd54357f16bfa455a443770128a6e90efce028ba181377c1c2955bdc5c7",
    "3.9": "33b741e9a7defae9617ee64d3e67175bd0a64747be4214d0e640dbd30541a7f5",
    "3.10": "7dead4048d60f9cf29dc6017cf0f1dbb30f5f1d4f227c5e2e6739d9fe3e5eec6",
    "3.11": "21922dd3037503a2934fea24cbbf6eccda586158178636ae28a2ac658e710055",
    "3.12": "037765a9051df0031679b853698da11f36d28333e1d65f0c87516d06ee39eb33",
}
PYTHONS = ("3.11", "3.10", "3.12")  # 3.11 was tried
# As the wheel asks for them, but for torch: it asks for at most 2.4.0, and works with the torch of the day.
REQUIREMENTS = (
    "setuptools<80",
    "torch",
    "numpy<=1.26.4",
    "onnx>=1.16.1,<=1.18.0",
    "onnxruntime>=1.17.0",
    "protobuf>=4.21.6,<=4.25.4",
    "psutil>=5.9.0",
    "ruamel.yaml>=0.17.21",
    "scipy>=1.9.3",
    "tqdm>=4.64.1",
    "opencv-python>=4.5.5.64",
    "fast-histogram>=0.11",
)
LICENCE = (
    f"{REQUIREMENT} is Rockchip's, under the RKNN SDK License (LICENSE in airockchip/rknn-toolkit2), which who "
    "installs it agrees to: a right to use it solely for applications that are compatible with Rockchip's products, no "
    "decompiling or reverse engineering, no warranty, law of the PRC. It is fetched from your package index for you "
    "alone, and nothing of it goes into a package or a repository"
)
COMPLETE = "picoquant.json"  # written last: an environment without it is half made
_COMMAND = "picoquant toolchain install rknn"


def install_toolkit(accepted: bool, python: str | Path | None = None, folder: Path | None = None) -> str:
    """Make the environment; nothing is done when it is there.

    Args:
        accepted: whether the user accepts the licence.
        python: one of `PYTHONS`; by default one is looked for.
        folder: where; by default the first of `homes.tool_homes`.

    Returns: one line that says what is ready and where.

    Raises: `ToolError` when the licence is not accepted, on another machine than 64-bit x86 Linux, without such a
        Python, or when the wheel or what it needs cannot be fetched or is another one; nothing is left then.
    """
    home = folder or tool_homes("rknn")[0]
    ready = f"{REQUIREMENT} is installed: {home}"
    if (home / COMPLETE).is_file():
        return ready
    if not accepted:
        raise ToolError(f"{LICENCE}: if you accept that, add --accept-licence")
    if (platform.system(), platform.machine()) != ("Linux", "x86_64"):
        raise ToolError(
            f"rknn-toolkit2's simulator is for Linux on 64-bit x86, this is {platform.system()} {platform.machine()}: "
            "make .rknn files on another machine"
        )
    if home.exists() and any(home.iterdir()) and not is_half_made(home):
        raise ToolError(f"{home} holds something else; name an empty folder")
    named = (PYTHONS, "rknn-toolkit2")
    interpreter, version = checked_python(Path(python), *named) if python else find_python(*named, _COMMAND)
    LOG.info("%s", LICENCE)
    with disk_errors(home):
        shutil.rmtree(home, ignore_errors=True)
        home.parent.mkdir(parents=True, exist_ok=True)
        try:
            make_environment(home, interpreter, version)
            installed = _fill(home, version)
            write_json(
                home / COMPLETE,
                {
                    "package": REQUIREMENT,
                    "sha256": WHEELS[version.rpartition(".")[0]],
                    "python": version,
                    "packages": installed,
                    "licence": LICENCE,
                },
            )
        except BaseException:
            shutil.rmtree(home, ignore_errors=True)
            raise
    return ready


def _fill(home: Path, version: str) -> list[str]:
    """Install the wheel, whose hash must be the known one, and what it needs; returns all with their versions."""
    pip = [str(home / "bin" / "python"), "-m", "pip"]
    quiet = ["--no-input", "--disable-pip-version-check", "--progress-bar=off"]
    with tempfile.TemporaryDirectory(dir=home.parent, prefix="rknn-") as scratch:
        LOG.info("fetching %s (40 MB)", REQUIREMENT)
        fetch = [*pip, "download", *quiet, "--no-deps", "--only-binary=:all:", "--dest", scratch, REQUIREMENT]
        outcome = run_program(fetch, timeout=1800, title="pip")
        wheels = list(Path(scratch).glob("*.whl"))
        if outcome.code or len(wheels) != 1:
            raise ToolError(
                f"pip could not fetch {REQUIREMENT}: {last_line(outcome.text)}; check the network or pip's index, "
                f"then run `{_COMMAND}` again"
            )
        if hashlib.sha256(wheels[0].read_bytes()).hexdigest() != WHEELS[version.rpartition(".")[0]]:
            raise ToolError(f"{wheels[0].name} is not the file that picoquant knows: its SHA-256 is another")
        LOG.info("installing it and what it needs (1.5 GB with a torch for CPUs, several with the usual one)")
        for what in (REQUIREMENTS, ("--no-deps", str(wheels[0]))):
            outcome = run_program(
                [*pip, "install", *quiet, "--no-cache-dir", *what], timeout=7200, title="pip"
            )
            if outcome.code:
                raise ToolError(
                    f"pip could not install what {REQUIREMENT} needs: {last_line(outcome.text)}; check the network or "
                    f"pip's index, then run `{_COMMAND}` again"
                )
    listed = run_program([*pip, "list", "--format=json", "--disable-pip-version-check"], timeout=120)
    try:
        return sorted(
            f"{item['name']}=={item['version']}" for item in json.loads(listed.text.strip().splitlines()[0])
        )
    except (ValueError, IndexError, KeyError, TypeError):
        return []
