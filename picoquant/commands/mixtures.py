"""Packages that do not go together, which pip does not say."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from picoquant.utils.paddle_version.self_test import BELOW, OLDEST, known_version, text_of

_PADDLES = ("paddlepaddle", "paddlepaddle-gpu")
_OPENCVS = (
    "opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless",
)  # fmt: skip


def mixtures() -> Iterator[tuple[str, str]]:
    """What of the installed packages does not go together, and what to do; reads names and versions only."""
    paddles = _installed(_PADDLES)
    if len(paddles) > 1:
        yield (
            f"{_listed(paddles)} are both installed and write over each other's files",
            f"uninstall both, then install one: pip uninstall -y {' '.join(paddles)}",
        )
    name, version = next(iter(paddles.items()), ("", ""))
    files = _paddle_of_the_files()
    if len(paddles) == 1 and files and _plain(files) != _plain(version):
        yield (
            f"the files of paddle are of version {files}, {name} is installed in version {version}",
            f"install it anew: pip install --force-reinstall --no-deps {name}=={version}",
        )
    if version and not known_version(version):
        yield (
            f"{name} {version} is no version that picoquant was tried with",
            f"install one from {text_of(OLDEST)} on and before {text_of(BELOW)}",
        )
    major = int(version.split(".")[0]) if version[:1].isdigit() else 2
    others = _installed(("paddleslim", "numpy"))
    if major >= 3 and "paddleslim" in others:
        yield (
            f"paddleslim {others['paddleslim']} is for Paddle 2, and {name} is {version}",
            "uninstall it: pip uninstall -y paddleslim; or install paddlepaddle 2.6",
        )
    if name and major < 3 and int(others.get("numpy", "1").split(".")[0]) >= 2:
        yield f"numpy {others['numpy']} is newer than {name} {version} can use", "pip install 'numpy<2'"
    opencvs = _installed(_OPENCVS)
    if len(set(opencvs.values())) > 1:
        yield (
            f"{_listed(opencvs)} write over each other's files",
            f"uninstall all, then install one: pip uninstall -y {' '.join(opencvs)}",
        )


def _installed(names: tuple[str, ...]) -> dict[str, str]:
    """Versions of those that are installed, by name."""
    found = {}
    for name in names:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _listed(packages: dict[str, str]) -> str:
    return " and ".join(f"{name} {version}" for name, version in packages.items())


def _paddle_of_the_files() -> str:
    """The version that paddle's own files say, without importing them; empty where they do not."""
    found = find_spec("paddle")
    if found is None or not found.submodule_search_locations:
        return ""
    path = Path(next(iter(found.submodule_search_locations))) / "version" / "__init__.py"
    try:
        said = re.search(r"^full_version\s*=\s*'([^']*)'", path.read_text(encoding="utf-8"), re.MULTILINE)
    except (OSError, UnicodeDecodeError):
        return ""
    return said.group(1) if said else ""


def _plain(version: str) -> str:
    """A version without what says how it was built: 2.6.2.post117 and 2.6.2 are one."""
    return ".".join(re.findall(r"\d+", version.partition("+")[0])[:3])
