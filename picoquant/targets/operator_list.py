"""The operators that a device supports: a text file for each device, written from opt's own table.

A file begins with comment lines, one of which (`# opt VERSION`) holds the version of opt; then one operator
per line.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from picoquant.errors import ConfigError
from picoquant.yaml_files.locate import shipped_folder

FOLDER = "operators"
_VERSION_LINE = "# opt "


@dataclass(frozen=True)
class OperatorList:
    """The operators of a device.

    Attributes:
        file: name of the file.
        opt_version: version of the opt whose table it was read from.
        names: operator types, sorted.
    """

    file: str
    opt_version: str
    names: tuple[str, ...]

    def __contains__(self, op_type: str) -> bool:
        return op_type in self.names


def operators_path(name: str, profile: Path) -> Path:
    """The path of a profile's operator list: in `operators/` beside the profile, or among picoquant's own.

    Raises: `ConfigError` naming both places.
    """
    candidates = [profile.parent / FOLDER / name, shipped_folder("npu_targets") / FOLDER / name]
    for path in candidates:
        if path.is_file() and Path(name).name == name:
            return path
    raise ConfigError(f"no list of operators {name}: neither {candidates[0]} nor {candidates[1]} is there")


def load_operators(name: object, profile: Path, where: str) -> OperatorList:
    """Read the operator list that a profile names.

    Args:
        name: value of the profile's key.
        profile: path of the profile.
        where: file and key, for error messages.

    Raises: `ConfigError` if the name is no text, the file does not exist, or it lacks its version or its
        operators.
    """
    if not isinstance(name, str) or not name:
        raise ConfigError(f"{where}: the name of a list of operators expected, found {name!r}")
    path = operators_path(name, profile)
    lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    versions = [line[len(_VERSION_LINE) :] for line in lines if line.startswith(_VERSION_LINE)]
    names = sorted({line for line in lines if line and not line.startswith("#")})
    if len(versions) != 1 or not names:
        raise ConfigError(f"{path}: one line '{_VERSION_LINE}VERSION' and a line an operator expected")
    return OperatorList(name, versions[0], tuple(names))


def operators_text(names: tuple[str, ...], version: str, device: str) -> str:
    """The content of an operator list's file.

    Args:
        names: operator types.
        version: version of opt.
        device: name of the device, for the comment.
    """
    head = [
        f"# Operators that Paddle Lite's opt says {device} takes (--print_supported_ops=true).",
        "# Written by `picoquant targets refresh`.",
        f"{_VERSION_LINE}{version}",
    ]
    return "\n".join([*head, *sorted(names)]) + "\n"
