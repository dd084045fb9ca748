"""A recipe: the whole pipeline's settings, from a recipe file, a PaddleDetection configuration, or both.

The resolved document holds the recipe's own sections (Global, Distillation, QuantAware, TrainConfig,
Quantize, Calibration, Package, Synthetic) beside the keys of the detector's configuration; the two share no names.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from picoquant.config.named_now import (
    in_our_terms,
    leave_out_generated,
    leave_out_the_files,
    named_now,
    sizes_as_written,
)
from picoquant.config.paddleslim import (
    is_ptq_example,
    ptq_in_our_keys,
    require_picodet,
    with_todays_names,
)
from picoquant.config.paddlex import in_our_keys, is_paddlex
from picoquant.config.schema import (
    ACCEPTED,
    INSTEAD,
    WIDER_FACE,
    is_slim_file,
    schema,
    unknown_to_both,
    without_effect,
)
from picoquant.config.sections import CalibrationSettings, GlobalSettings, PackageSettings
from picoquant.errors import ConfigError
from picoquant.storage.run_folder import CONFIG, MANIFEST
from picoquant.targets.profiles import ALL
from picoquant.utils import setting_checks as checks
from picoquant.utils.suggest import unknown_key
from picoquant.yaml_files.load import Tagged, load_mapping, load_with_bases, merge
from picoquant.yaml_files.locate import find, shipped, shipped_names
from picoquant.yaml_files.overrides import apply_overrides, check_keys, parse_override

LOG = logging.getLogger("picoquant")

DEFAULT_RECIPE = "picodet_s_qat_dis"
DEFAULT_DETECTOR = "picodet_s_416_coco_npu"
RECIPE_SECTIONS = ("Global", "Distillation", "QuantAware", "TrainConfig", "Quantize")
_FROM_READERS = ("eval_height", "eval_width", "eval_size")

T = TypeVar("T")


@dataclass(frozen=True)
class Recipe:
    """A resolved recipe.

    Attributes:
        document: every section and key, overrides applied; can be written as YAML and read again.
        source: the file it came from, as the user named it.
        named: dotted keys that the command itself has set.
        as_written: dotted keys of readers whose sizes do not follow `Global.input_size`, see `sizes_as_written`.
    """

    document: Mapping[str, Any]
    source: str
    named: frozenset[str] = frozenset()
    as_written: frozenset[str] = frozenset()

    @cached_property
    def common(self) -> GlobalSettings:
        """Section `Global`, without the keys that only PaddleSlim's other examples use."""
        known = {field.name for field in fields(GlobalSettings)}
        section = self.document.get("Global") or {}
        return build(GlobalSettings, {k: v for k, v in section.items() if k in known}, "Global")

    def section(self, name: str, settings: type[T]) -> T:
        """One section as its settings."""
        return build(settings, self.document.get(name) or {}, name)

    @cached_property
    def calibration(self) -> CalibrationSettings:
        """Section `Calibration`: a mapping, a path, or the name of a file in calib/."""
        value = self.document.get("Calibration")
        if isinstance(value, str):
            return build(CalibrationSettings, _calibration_file(value), f"Calibration: {value}")
        return build(CalibrationSettings, value or {}, "Calibration")

    @cached_property
    def package(self) -> PackageSettings:
        """Section `Package`."""
        return self.section("Package", PackageSettings)

    @cached_property
    def targets(self) -> list[str]:
        """Names or paths of the NPU profiles to package for."""
        target = self.package.target
        return [str(name) for name in (target if isinstance(target, (list, tuple)) else [target])]

    def target_file(self, name: str) -> str:
        """A target named elsewhere than in the recipe, as `Package.target` would take it.

        Args:
            name: of a shipped target, of one's own profile that `targets` holds or that lies beside the recipe or
                in the working folder, or a path.

        Returns: the name, or the profile's path.
        """
        own = {Path(path).stem: path for path in self.targets if Path(path).suffix in (".yaml", ".yml")}
        if name in own and name not in shipped_names("npu_targets"):
            return own[name]
        return str(_target_file(Path(self.source), name))


def build(settings: type[T], values: Mapping[str, Any], where: str) -> T:
    """A settings dataclass from a mapping.

    Raises: `ConfigError` for an unknown key or a value the settings refuse.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where}: expected keys and values, found {values!r}")
    checks.flags_of(settings, values, where)
    known = {field.name for field in fields(settings)}  # type: ignore[arg-type]  # T is always a dataclass
    for key in values:
        if key not in known:
            raise unknown_key(where, str(key), known)
    return settings(**values)


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe or a PaddleDetection configuration and everything it builds on.

    Args:
        name: a path, or the bare name of a shipped recipe or configuration.
        overrides: `KEY.SUB=VALUE` texts, applied in order; they win over the files.

    Raises: `ConfigError` naming file and key.
    """
    overrides = [in_our_terms(text) for text in overrides]
    path = find(("recipes", "configs"), name)
    layers: list[dict[str, Any]] = []
    own = load_with_bases(path, layers)
    if is_paddlex(own):
        own, overrides = in_our_keys(own, overrides, path)
    elif is_slim_file(own):
        raise ConfigError(
            f"{path}: slim: {own['slim']} is a file for --slim_config; --config takes the detector's, or a recipe"
        )
    elif "architecture" not in own:
        require_picodet(own, path)
        own = ptq_in_our_keys(own, path) if is_ptq_example(own) else with_todays_names(own, path)
    top = load_mapping(path)
    sections = load_mapping(shipped("recipes", DEFAULT_RECIPE))
    is_recipe = any(section in own for section in RECIPE_SECTIONS)
    document = _on_its_detector(own, path, overrides, layers) if is_recipe else own
    defaults = {key: value for key, value in sections.items() if key != "export"}
    defaults["Global"] = {**sections["Global"], "config": None}
    document = {**defaults, **document}
    document["Global"] = {**defaults["Global"], **_section(own, "Global", path)}
    document["export"] = {
        **_section(document, "export", path),
        **sections["export"],
        **_section(top, "export", path),
    }
    known = schema()
    if others := unknown_to_both(document, known):
        LOG.warning("%s: %s: no key of picoquant or PaddleDetection, ignored", path, ", ".join(others))
        document = {key: value for key, value in document.items() if str(key) not in others}
    check_keys(document, known, str(path))
    if ignored := without_effect(document):
        LOG.warning(
            "%s: %s: accepted, but without effect here%s", path, ", ".join(ignored), _instead(ignored)
        )
    if document.get("metric") == WIDER_FACE:
        LOG.warning(
            "%s: metric: %s: accepted, but without effect here; COCO's mAP is measured, and beside it that at IoU 0.5",
            path,
            document["metric"],
        )
    for text in overrides:
        key = parse_override(text)[0][0]
        if key in _FROM_READERS:
            raise ConfigError(f"--set {text}: set Global.input_size=[height,width]; it reaches every reader")
        if key in ACCEPTED:
            LOG.warning("--set %s: accepted, but without effect here%s", text, _instead([key]))
    leave_out_generated(document, layers, "" if path.name == CONFIG else str(path))
    for section in ("TrainDataset", "EvalDataset"):
        if f"{section}.type" in named_now(overrides) and isinstance(document.get(section), Tagged):
            document[section] = {}  # what the file says is of another data set
    for text in overrides:
        keys, named = parse_override(text)[0], document.get("Calibration")
        if keys[0] == "Calibration" and len(keys) > 1 and isinstance(named, str):
            document["Calibration"] = _calibration_file(named)
        apply_overrides(document, [text], known)
    document["Global"] = {**defaults["Global"], **_section(document, "Global", path)}
    for key, value in document["export"].items():
        checks.flag(f"export.{key}", value)
    leave_out_the_files(document, overrides)
    named = document["Global"].get("config")
    document["Global"]["config"] = None if named is None else str(named)
    package = document.get("Package")
    if isinstance(package, dict) and package.get("target") is not None:
        named = package["target"]
        own_files = [_target_file(path, one) for one in (named if isinstance(named, list) else [named])]
        document["Package"] = {**package, "target": own_files if isinstance(named, list) else own_files[0]}
    return Recipe(
        document,
        str(name),
        frozenset(key for key, value in named_now(overrides).items() if value is not None),
        sizes_as_written([] if _follows_as_before(own, path) else layers, overrides),
    )


def _follows_as_before(own: Mapping[str, Any], path: Path) -> bool:
    """Whether a run folder's recipe is of a time when all sizes followed `Global.input_size`, and it does not show."""
    size = (own.get("Global") or {}).get("input_size")
    if size is None or path.name != CONFIG or not (path.parent / MANIFEST).is_file():
        return False
    reader = own.get("EvalReader")
    steps = reader.get("sample_transforms") if isinstance(reader, dict) else None
    resizes = (
        [step.get("Resize") for step in steps if isinstance(step, dict)] if isinstance(steps, list) else []
    )
    named = [one.get("target_size") for one in resizes if isinstance(one, dict)]
    return bool(named) and _pair(named[0]) != _pair(size)


def _pair(size: Any) -> Any:
    """Height and width of one number, or of the two."""
    return [size, size] if isinstance(size, int) else size


def _calibration_file(name: str) -> dict[str, Any]:
    """A file of `calib/`, the list of images that it names found from the working folder or beside it."""
    path = find(("calib",), name)
    values = load_mapping(path)
    files = values.get("files")
    if isinstance(files, str) and not Path(files).is_file() and (path.parent / files).is_file():
        values = {**values, "files": str((path.parent / files).resolve())}
    return values


def _target_file(recipe: Path, name: Any) -> Any:
    """A target as it is named, or the absolute path of the profile of that name beside the recipe."""
    if not isinstance(name, str) or name == ALL or name in shipped_names("npu_targets"):
        return name
    for suffix in ("", ".yaml", ".yml"):
        for folder in (Path(), recipe.parent):
            file = folder / Path(f"{name}{suffix}").expanduser()
            if file.suffix in (".yaml", ".yml") and file.is_file():
                return str(file.resolve())
    return name


def _instead(keys: Sequence[str]) -> str:
    """What to use for PaddleDetection's `keys`, to end a message with."""
    known = [f"for {key} use {INSTEAD[key]}" for key in keys if key in INSTEAD]
    return "; " + ", ".join(known) if known else ""


def _section(values: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    """A section of a file; empty where it is not there or null."""
    section = values.get(name) or {}
    if not isinstance(section, dict):
        raise ConfigError(f"{path}: {name}: expected keys and values, found {section!r}")
    return section


def _on_its_detector(
    own: dict[str, Any], path: Path, overrides: Sequence[str], layers: list[dict[str, Any]]
) -> dict[str, Any]:
    """A recipe laid on the detector's configuration that its Global section names; that file's `layers` come first.

    A resolved recipe (`config.yml` of a run folder) holds all of that already, and stays as it is: the file
    it came from may be gone, or named from another folder.
    """
    section, set_now = _section(own, "Global", path), {}
    for text in overrides:
        keys, value = parse_override(text)
        if keys[:1] == ["Global"] and keys[1:] in (["config"], ["reader_config"]):
            set_now[keys[1]] = value
    if "architecture" in own and not set_now:
        return own
    named = {"config": None, "reader_config": None, **section, **set_now}
    for key in ("config", "reader_config"):
        if named[key] and not isinstance(named[key], str):
            raise ConfigError(f"{path}: Global.{key}: expected a file's name, found {named[key]!r}")
    below: list[dict[str, Any]] = []
    detector = load_with_bases(_beside(path, named["config"] or DEFAULT_DETECTOR), below)
    if named["reader_config"]:
        readers = load_with_bases(_beside(path, named["reader_config"]), below)
        if "EvalReader" in readers and "TestReader" not in readers:
            detector.pop("TestReader", None)  # says the size of another model
        detector = merge(detector, readers)
    layers[:0] = below
    return merge(detector, own)


def _beside(recipe: Path, name: str) -> Path:
    """A file the recipe names: from the working folder, beside the recipe, or shipped."""
    beside = recipe.parent / Path(name).expanduser()
    return beside if beside.is_file() and not Path(name).is_file() else find(("configs",), str(name))
