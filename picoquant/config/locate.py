"""Find what picoquant ships: configurations, recipes, calibration sets, NPU targets."""

from __future__ import annotations

from pathlib import Path

from picoquant.errors import ConfigError

KINDS = ("configs", "recipes", "calib", "npu_targets")
_SUFFIXES = (".yaml", ".yml")


def shipped_folder(kind: str) -> Path:
    """The folder of one kind: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / kind
    return installed if installed.is_dir() else package.parent / kind


def shipped(kind: str, name: str) -> Path:
    """The shipped file of that name (with or without its suffix).

    Raises: `ConfigError` listing the nearest names when there is none.
    """
    from picoquant.config.nearest import suggestion

    folder = shipped_folder(kind)
    for candidate in [folder / name] + [folder / f"{name}{suffix}" for suffix in _SUFFIXES]:
        if candidate.is_file():
            return candidate
    names = shipped_names(kind)
    raise ConfigError(
        f"no {name} among picoquant's {kind}{suggestion(Path(name).stem, names)}; known: {', '.join(names)}"
    )


def shipped_names(kind: str) -> list[str]:
    """Names, without suffix, of the shipped files of one kind, sorted."""
    folder = shipped_folder(kind)
    return sorted(path.stem for path in folder.glob("*") if path.suffix in _SUFFIXES)


def find(kinds: tuple[str, ...], name: str) -> Path:
    """A path the user typed, or the bare name of something shipped.

    Args:
        kinds: the shipped folders to search for a bare name, in order.

    Raises: `ConfigError` when neither exists.
    """
    path = Path(name).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        raise ConfigError(f"{name} is a folder; --config takes a YAML file")
    if path.parent == Path("."):
        for kind in kinds:
            if path.stem in shipped_names(kind):
                return shipped(kind, path.name)
        from picoquant.config.nearest import suggestion

        known = [known for kind in kinds for known in shipped_names(kind)]
        raise ConfigError(
            f"no file {name} here and no shipped one of that name{suggestion(path.stem, known)}; "
            f"shipped: {', '.join(known)}"
        )
    raise ConfigError(f"no such file: {name}")
