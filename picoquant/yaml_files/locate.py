"""Find what picoquant ships: configurations, recipes, calibration sets, NPU targets."""

from __future__ import annotations

from pathlib import Path

from picoquant.errors import ConfigError
from picoquant.utils.suggest import suggestion

KINDS = ("configs", "recipes", "calib", "npu_targets")
_SUFFIXES = (".yaml", ".yml")
_PARTS = ("_base_", "datasets")  # folders of what configurations are made of
_NO_CONFIGURATION = ("runtime",)


def shipped_folder(kind: str) -> Path:
    """The folder of one kind: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / kind
    return installed if installed.is_dir() else package.parent / kind


def shipped_files(kind: str) -> dict[str, Path]:
    """Name, without suffix, -> the shipped file of that name, in whichever folder below it is; sorted."""
    folder = shipped_folder(kind)
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*"), key=lambda path: (len(path.parts), path)):
        parts = path.relative_to(folder).parts
        if path.suffix in _SUFFIXES and path.stem not in _NO_CONFIGURATION and not set(parts) & set(_PARTS):
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def shipped(kind: str, name: str) -> Path:
    """The shipped file of that name (with or without its suffix, with or without its folder).

    Raises: `ConfigError` with the nearest name, or else all names, when there is none.
    """
    path = _shipped(kind, name)
    if path is None:
        raise ConfigError(f"no {name} among picoquant's {kind}{_known(Path(name).stem, shipped_names(kind))}")
    return path


def shipped_names(kind: str) -> list[str]:
    """Names, without suffix, of the shipped files of one kind, sorted."""
    return list(shipped_files(kind))


def find(kinds: tuple[str, ...], name: str) -> Path:
    """A path the user typed, or the name of something shipped.

    Args:
        kinds: the shipped folders to search for a name, in order.

    Raises: `ConfigError` when neither exists.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise ConfigError(f"{name} is a folder; --config takes a YAML file")
    for kind in kinds:
        ours = None if path.is_absolute() else _shipped(kind, name)
        if ours is not None:
            return ours
    known = [known for kind in kinds for known in shipped_names(kind)]
    if path.parent == Path("."):
        raise ConfigError(f"no file {name} here and no shipped one of that name{_known(path.stem, known)}")
    ships = f"; picoquant ships {path.stem}" if path.stem in known else ""
    raise ConfigError(f"no such file: {name}{ships}")


def _shipped(kind: str, name: str) -> Path | None:
    folder = shipped_folder(kind)
    for candidate in (folder / name, *(folder / f"{name}{suffix}" for suffix in _SUFFIXES)):
        if candidate.is_file() and ".." not in Path(name).parts:
            return candidate
    return shipped_files(kind).get(Path(name).stem) if Path(name).name == name else None


def _known(name: str, names: list[str]) -> str:
    """For the end of a message: the nearest of `names`, or all of them."""
    return suggestion(name, names) or f"; shipped: {', '.join(names)}"
