"""Find the files that picoquant ships: configurations, recipes, calibration sets, NPU targets, weights."""

from __future__ import annotations

from pathlib import Path

from picoquant.errors import ConfigError
from picoquant.utils.suggest import suggestion

KINDS = ("configs", "recipes", "calib", "npu_targets")
WEIGHTS = "weights"  # a folder like those, but its files are no YAML
_SUFFIXES = (".yaml", ".yml")
_PARTS = ("_base_", "datasets")  # folders of parts of configurations, which are not found by name
_NO_CONFIGURATION = ("runtime",)


def shipped_folder(kind: str) -> Path:
    """The folder of `WEIGHTS` or one of `KINDS`: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / kind
    return installed if installed.is_dir() else package.parent / kind


def shipped_files(kind: str) -> dict[str, Path]:
    """Name without suffix -> shipped file of one kind, subfolders included, sorted by name.

    Of several files of one name, the one with the shortest path is returned.
    """
    folder = shipped_folder(kind)
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*"), key=lambda path: (len(path.parts), path)):
        parts = path.relative_to(folder).parts
        if path.suffix in _SUFFIXES and path.stem not in _NO_CONFIGURATION and not set(parts) & set(_PARTS):
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def shipped(kind: str, name: str) -> Path:
    """The shipped file of a name, which may be with or without suffix and folder.

    Raises: `ConfigError` with the nearest name, or else all names, when there is none.
    """
    path = _shipped(kind, name)
    if path is None:
        raise ConfigError(f"no {name} among picoquant's {kind}{_hint(Path(name).stem, shipped_names(kind))}")
    return path


def shipped_names(kind: str) -> list[str]:
    """Names, without suffix, of the shipped files of one kind, sorted."""
    return list(shipped_files(kind))


def shipped_weights(name: str) -> Path | None:
    """The shipped file of weights of a name, with its suffix and without a folder; None when there is none."""
    path = shipped_folder(WEIGHTS) / name
    return path if path.suffix == ".safetensors" and Path(name).name == name and path.is_file() else None


def find(kinds: tuple[str, ...], name: str) -> Path:
    """The file that the user named by its path, or by the name of a shipped file.

    Args:
        kinds: kinds of shipped files to search, in order.
        name: path or name.

    Raises: `ConfigError` when neither exists.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    for kind in kinds:
        found = None if path.is_absolute() else _shipped(kind, name)
        if found is not None:
            return (
                found  # also where a folder has the name: exported models are named like their configurations
            )
    if path.is_dir():
        raise ConfigError(f"{name} is a folder; --config takes a YAML file")
    known = [known for kind in kinds for known in shipped_names(kind)]
    if path.parent == Path("."):
        raise ConfigError(f"no file {name} here and no shipped one of that name{_hint(path.stem, known)}")
    ships = f"; picoquant ships {path.stem}" if path.stem in known else ""
    raise ConfigError(f"no such file: {name}{ships}")


def _shipped(kind: str, name: str) -> Path | None:
    """As `shipped`; None when there is none."""
    folder = shipped_folder(kind)
    for candidate in (folder / name, *(folder / f"{name}{suffix}" for suffix in _SUFFIXES)):
        if candidate.is_file() and ".." not in Path(name).parts:
            return candidate
    return shipped_files(kind).get(Path(name).stem) if Path(name).name == name else None


def _hint(name: str, names: list[str]) -> str:
    """The end of a message: the nearest of `names`, or all of them."""
    return suggestion(name, names) or f"; shipped: {', '.join(names)}"
