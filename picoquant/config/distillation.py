"""The teacher of a training in FP32: section `Train`, or PaddleDetection's file for `--slim_config`.

Source of names and keys: PaddleDetection 2.6, ppdet/slim/__init__.py and distill_model.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from picoquant.config.recipe import Recipe, build
from picoquant.config.schema import schema
from picoquant.config.sections import TrainSection
from picoquant.data.settings import ReaderSettings
from picoquant.detector.settings import DetectorSettings
from picoquant.errors import NOT_SUPPORTED, ConfigError
from picoquant.training.distillation.settings import FgdSettings, KdSettings, LdSettings, TeachingSettings
from picoquant.utils.suggest import suggestion, unknown_key
from picoquant.yaml_files.load import load_with_bases, merge
from picoquant.yaml_files.locate import find

_KINDS: dict[str, type] = {"FGD": FgdSettings, "LD": LdSettings, "KD": KdSettings}
_BEST = Path("train") / "best.pdparams"  # of a run folder
_RESOLVED = "config.yml"  # likewise
_FGD_LOSS = "FGDFeatureLoss"
_LD_LOSS = "KnowledgeDistillationKLDivLoss"
_LEVEL = re.compile(r"neck_f_(\d+)")


@dataclass(frozen=True)
class TeacherSettings:
    """A teacher as a recipe names it.

    Attributes:
        source: the configuration, or the run folder.
        detector: its network, for any number of classes.
        weights: a path or an https address.
        key: under which the weights are named, for messages.
        what: what is learned.
        run: its run folder; None for a configuration.
        reader: how its images were made; None: as the student's.
    """

    source: str
    detector: DetectorSettings
    weights: str
    key: str
    what: TeachingSettings
    run: Path | None
    reader: ReaderSettings | None


def teacher_settings(
    recipe: Recipe, parse: Callable[[Mapping[str, Any]], DetectorSettings]
) -> TeacherSettings | None:
    """Keys `teacher`, `teacher_weights` and `distillation` of section `Train`; None without a teacher.

    Args:
        recipe: of the student.
        parse: the network that a configuration describes.

    Raises: `ConfigError` naming the key.
    """
    section = recipe.section("Train", TrainSection)
    for key in ("teacher", "teacher_weights"):
        value = getattr(section, key)
        if value is not None and not (isinstance(value, str) and value):
            raise ConfigError(f"Train.{key}: expected a name or a path, found {value!r}")
    if section.teacher is None:
        for key in ("teacher_weights", "distillation"):
            if getattr(section, key) is not None:
                raise ConfigError(f"Train.{key} is set without Train.teacher, which names the teacher")
        return None
    run = _run_folder(section.teacher)
    source = run / _RESOLVED if run else find(("configs",), section.teacher)
    document = load_with_bases(source)
    reader = document.get("EvalReader") or {}
    if "architecture" not in document:  # PaddleDetection lays such a file on the student's
        document = merge(dict(recipe.document), document)
    weights = section.teacher_weights or (str(run / _BEST) if run else None)
    if weights is None:
        raise ConfigError(
            f"Train.teacher: {section.teacher} is a configuration; Train.teacher_weights must name its trained weights"
        )
    return TeacherSettings(
        section.teacher,
        parse(document),
        weights,
        "Train.teacher_weights" if section.teacher_weights else "Train.teacher",
        _what(section.distillation),
        run,
        ReaderSettings.from_mapping(reader, "EvalReader") if reader.get("sample_transforms") else None,
    )


def _run_folder(named: str) -> Path | None:
    """The run folder of this name, if there is one."""
    folder = Path(named).expanduser()
    if not folder.is_dir():
        return None
    for file in (_RESOLVED, _BEST):
        if not (folder / file).is_file():
            raise ConfigError(
                f"Train.teacher: {named} has no {file}, so it is no run folder with trained weights; name one, or a "
                "configuration with Train.teacher_weights"
            )
    return folder


def _what(value: Any) -> TeachingSettings:
    where = "Train.distillation"
    if value is None:
        value = ["LD", "KD"]
    given = dict(value) if isinstance(value, Mapping) else dict.fromkeys(_listed(value), None)
    levels = given.pop("levels", None)
    if not given:
        raise ConfigError(f"{where}: expected one of {', '.join(_KINDS)} or several, found {value!r}")
    for name in given:
        if name not in _KINDS:
            raise ConfigError(
                f"{where}: {name!r} is not supported{suggestion(str(name), _KINDS)}; known: {', '.join(_KINDS)}"
            )
    built: dict[str, Any] = {
        name.lower(): build(_KINDS[name], keys or {}, f"{where}.{name}") for name, keys in given.items()
    }
    return TeachingSettings(**built, levels=_levels(levels, where))


def _listed(value: Any) -> list[str]:
    return [str(name) for name in (value if isinstance(value, (list, tuple)) else [value])]


def _levels(value: Any, where: str) -> tuple[int, ...] | None:
    if value is None:
        return None
    whole = isinstance(value, list) and all(
        isinstance(level, int) and not isinstance(level, bool) and level >= 0 for level in value
    )
    if not whole or not value or len(set(value)) < len(value):
        raise ConfigError(
            f"{where}.levels: expected different whole numbers from 0, the finest level, found {value!r}"
        )
    return tuple(value)


def distillation_overrides(
    values: Mapping[str, Any], path: Path, typed: Mapping[str, Any], schedule: Sequence[str]
) -> tuple[dict[str, Any], list[str]]:
    """A file `slim: Distill` in the terms of section `Train`.

    Args:
        values: of the file itself, without its bases.
        path: the file: the teacher's configuration, too.
        typed: dotted keys that the command sets.
        schedule: keys of training that are the student's.

    Returns: dotted key -> value, and the keys that are not read.

    Raises: `ConfigError` naming file and key, for a method that is not FGD or LD too.
    """
    known = {*schema(), "find_unused_parameters", _LD_LOSS}
    for key in values:
        if key not in known:
            raise unknown_key(str(path), str(key), known)
    method, loss = values.get("slim_method"), values.get("distill_loss")
    if method not in ("FGD", "LD"):
        raise ConfigError(
            f"{path}: slim_method: {method!r} is not supported, only FGD and LD; {NOT_SUPPORTED}"
        )
    if method == "FGD" and loss != _FGD_LOSS:
        raise ConfigError(
            f"{path}: distill_loss: {loss!r} is not supported with FGD, only {_FGD_LOSS}; {NOT_SUPPORTED}"
        )
    if not values.get("pretrain_weights") and "Train.teacher_weights" not in typed:
        raise ConfigError(
            f"{path}: pretrain_weights names no weights of the teacher; add it, or set Train.teacher_weights"
        )
    keys = {
        "Train.teacher": str(path.resolve()),
        "Train.teacher_weights": values.get("pretrain_weights"),
        "Train.distillation": _fgd(values, path) if method == "FGD" else _ld(values, path),
    }
    return keys, [key for key in (*schedule, "EvalReader", "TestReader") if key in values]


def _fgd(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    names = values.get("distill_loss_name")
    found = [_LEVEL.fullmatch(str(name)) for name in names] if isinstance(names, list) else []
    levels = sorted({int(match[1]) for match in found if match})
    if not levels or None in found:
        raise ConfigError(
            f"{path}: distill_loss_name: expected a list such as ['neck_f_1', 'neck_f_0'], found {names!r}"
        )
    own = _mapping(values, _FGD_LOSS, path)
    build(FgdSettings, own, f"{path}: {_FGD_LOSS}")
    return {"FGD": own, "levels": levels}


def _ld(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    own = _mapping(values, _LD_LOSS, path)
    build(LdSettings, own, f"{path}: {_LD_LOSS}")
    return {"LD": own, "KD": {}}


def _mapping(values: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    section = values.get(name) or {}
    if not isinstance(section, Mapping):
        raise ConfigError(f"{path}: {name}: expected keys and values, found {section!r}")
    return dict(section)
