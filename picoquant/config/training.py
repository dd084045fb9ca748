"""The training schedule of a PaddleDetection configuration, as settings."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from picoquant.config.recipe import Recipe, build
from picoquant.config.schema import FLAT_PRUNER, WIDER_FACE
from picoquant.config.sections import TrainSection
from picoquant.errors import NOT_SUPPORTED, ConfigError
from picoquant.pruning.settings import PrunerSettings, UnstructuredPrunerSettings
from picoquant.training.scalar_log import ScalarSettings
from picoquant.training.scalar_sinks import PACKAGES, require_package
from picoquant.training.settings import (
    OPTIMIZERS,
    CosineDecay,
    EmaSettings,
    ExpWarmup,
    LearningRate,
    LinearWarmup,
    OptimizerSettings,
    PiecewiseDecay,
    TrainSettings,
)
from picoquant.utils import setting_checks as checks
from picoquant.utils.suggest import suggestion, unknown_key
from picoquant.yaml_files.load import Tagged, load_with_bases
from picoquant.yaml_files.locate import shipped_files

LOG = logging.getLogger("picoquant")

_SCHEDULERS = {kind.__name__: kind for kind in (CosineDecay, PiecewiseDecay, LinearWarmup, ExpWarmup)}
# Configuration key -> field of `EmaSettings`.
_EMA_KEYS = {
    "ema_decay": "decay",
    "ema_decay_type": "decay_type",
    "cycle_epoch": "cycle_epoch",
    "ema_black_list": "black_list",
    "ema_filter_no_grad": "filter_no_grad",
}


_ADAMW_DECAY = 0.01  # of paddle.optimizer.AdamW, where a file does not say


def counts_voc(recipe: Recipe) -> bool:
    """Whether VOC's mAP is counted beside COCO's, by key `metric`.

    Raises: `ConfigError` for another metric than these two.
    """
    metric = recipe.document.get("metric")
    if metric not in (None, "COCO", "VOC", WIDER_FACE):
        raise ConfigError(f"metric: expected COCO or VOC, found {metric!r}; {NOT_SUPPORTED}")
    return metric == "VOC"


def unstructured_pruner(recipe: Recipe) -> UnstructuredPrunerSettings | None:
    """Section `UnstructuredPruner`, or the same keys at the top; None where neither is there.

    Earlier releases of PaddleDetection had them there, with `unstructured_prune: true` (legacy_model/pruner).

    Raises: `ConfigError` naming the key.
    """
    document = recipe.document
    section = document.get("UnstructuredPruner")
    if section is None and document.get("unstructured_prune"):
        section = {key: document[key] for key in FLAT_PRUNER if key in document}
    return None if section is None else build(UnstructuredPrunerSettings, section, "UnstructuredPruner")


def pruner(recipe: Recipe) -> PrunerSettings | None:
    """Section `Pruner`; None where it is not there.

    Raises: `ConfigError` naming the key.
    """
    section = recipe.document.get("Pruner")
    return None if section is None else build(PrunerSettings, section, "Pruner")


def published_rate(
    recipe: Recipe, network_of: Callable[[Mapping[str, Any]], Any]
) -> tuple[float, int] | None:
    """`base_lr` and `TrainReader.batch_size` of the published configuration that a recipe trains with; None for none.

    That is the one of its name, or else one with the same network and the same `base_lr`: wherever the file got them
    from, its bases, a copy, a run folder's `config.yml`. Of several, the one of the same input size, or else the one
    with the smallest batch.

    Args:
        recipe: what is trained.
        network_of: the network that a configuration describes, whatever its classes, as something to compare.
    """
    shipped = shipped_files("configs")
    name = Path(recipe.common.config or recipe.source).stem
    if name in shipped:
        return _rate_of(load_with_bases(shipped[name]))
    own, found = recipe.document, []
    rate = _section(own, "LearningRate").get("base_lr")
    for path in shipped.values():
        if not _may_have_rate(path, rate):
            continue
        published = load_with_bases(path)
        if published["LearningRate"]["base_lr"] == rate and network_of(published) == network_of(own):
            found.append((_size_of(published) != _size_of(own), _rate_of(published)))
    return min(found)[1] if found else None


def _may_have_rate(path: Path, rate: Any) -> bool:
    """Whether a shipped file has this `base_lr` itself, or leaves it to its bases; to parse all takes seconds."""
    written = re.search(r"^ +base_lr: (\S+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
    return written is None or float(written.group(1)) == rate


def _rate_of(document: Mapping[str, Any]) -> tuple[float, int]:
    return document["LearningRate"]["base_lr"], document["TrainReader"]["batch_size"]


def _size_of(document: Mapping[str, Any]) -> Any:
    """What the evaluation resizes to, as it is written."""
    steps = (document.get("EvalReader") or {}).get("sample_transforms") or []
    return next((step["Resize"].get("target_size") for step in steps if "Resize" in step), None)


def train_settings(recipe: Recipe) -> TrainSettings:
    """Keys `epoch`, `LearningRate`, `OptimizerBuilder`, `use_ema` … as settings.

    Raises: `ConfigError` naming the key.
    """
    document = recipe.document
    if "epoch" not in document:
        raise ConfigError("epoch is missing: for how many epochs to train")
    given = {key: document[key] for key in ("snapshot_epoch", "log_iter") if key in document}
    unused = sorted(recipe.named & _EMA_KEYS.keys())
    if unused and not _switch(document, "use_ema"):
        LOG.warning("%s: not used, for use_ema is false", ", ".join(unused))
    given.update(recipe.section("Train", TrainSection).given())
    return TrainSettings(
        epochs=document["epoch"],
        learning_rate=_learning_rate(_section(document, "LearningRate")),
        optimizer=_optimizer(_section(document, "OptimizerBuilder")),
        ema=_ema(document) if _switch(document, "use_ema") else None,
        seed=recipe.common.seed,
        sync_bn=document.get("norm_type") == "sync_bn" or _switch(document, "sync_bn"),
        **given,
    )


def scalar_settings(recipe: Recipe, folder: Path) -> ScalarSettings:
    """The logs that the recipe asks for; those of viewers are in `vdl` and `tensorboard` of `folder` by default.

    Raises: `ConfigError` naming the key, or saying that a package is not installed.
    """
    wanted = {key: _switch(recipe.document, key) for key in PACKAGES}
    visualdl = _folder(recipe.document, "vdl_log_dir") or folder / "vdl"
    tensorboard = _folder(recipe.document, "tensorboard_log_dir") or folder / "tensorboard"
    for key in PACKAGES:
        if wanted[key]:
            require_package(key)
    return ScalarSettings(
        visualdl if wanted["use_vdl"] else None,
        tensorboard if wanted["use_tensorboard"] else None,
        wanted["use_wandb"],
        wanted["use_mlflow"],
    )


def _switch(document: Mapping[str, Any], key: str) -> bool:
    value = False if document.get(key) in (None, 0) else document[key]
    if not isinstance(value, bool):
        raise ConfigError(f"{key}: expected true or false, found {value!r}")
    return value


def _folder(document: Mapping[str, Any], key: str) -> Path | None:
    value = document.get(key)
    if value is not None and not (isinstance(value, str) and value):
        raise ConfigError(f"{key}: expected a folder, found {value!r}")
    return Path(value) if value else None


def _section(document: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    values = document.get(name)
    if not isinstance(values, Mapping):
        raise ConfigError(f"{name}: expected keys and values, found {values!r}")
    return values


def _learning_rate(values: Mapping[str, Any]) -> LearningRate:
    for key in values:
        if key not in ("base_lr", "schedulers"):
            raise unknown_key("LearningRate", str(key), ("base_lr", "schedulers"))
    given = {key: value for key, value in values.items() if key == "base_lr"}
    if "schedulers" in values:
        entries = values["schedulers"]
        if not isinstance(entries, list):
            raise ConfigError(f"LearningRate.schedulers: expected a list, found {entries!r}")
        given["schedulers"] = tuple(_scheduler(entry) for entry in entries)
    return LearningRate(**given)


def _scheduler(entry: Any) -> Any:
    """`!CosineDecay {…}` or `{name: CosineDecay, …}`."""
    if not isinstance(entry, Mapping):
        raise ConfigError(f"LearningRate.schedulers: expected !CosineDecay or alike, found {entry!r}")
    name = entry.tag if isinstance(entry, Tagged) else entry.get("name")
    if name not in _SCHEDULERS:
        raise ConfigError(
            f"LearningRate.schedulers: unknown {name}{suggestion(str(name), _SCHEDULERS)}; "
            f"known: {', '.join(_SCHEDULERS)}; {NOT_SUPPORTED}"
        )
    kind = _SCHEDULERS[name]
    values = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in entry.items()
        if key != "name"
    }
    return build(kind, values, f"LearningRate.schedulers: {name}")


def _optimizer(values: Mapping[str, Any]) -> OptimizerSettings:
    known = ("optimizer", "regularizer", "clip_grad_by_norm", "clip_grad_by_value")
    for key in values:
        if key not in known:
            raise unknown_key("OptimizerBuilder", str(key), known)
    given = {key: values[key] for key in known[2:] if key in values}
    for key in known[:2]:
        none = key == "regularizer" and values.get(key) in (
            False,
            "None",
        )  # PaddleDetection's ways to say none
        if values.get(key) and not none and not isinstance(values[key], Mapping):
            raise ConfigError(f"OptimizerBuilder.{key}: expected keys and values, found {values[key]!r}")
    optimizer = dict(values.get("optimizer") or {})
    name = optimizer.get("type", OptimizerSettings.type)
    if name not in OPTIMIZERS:
        raise ConfigError(
            f"OptimizerBuilder.optimizer.type: {name!r} is not one of {', '.join(OPTIMIZERS)}"
            f"{suggestion(str(name), OPTIMIZERS)}; {NOT_SUPPORTED}"
        )
    if name == "AdamW":  # has a decay of its own, and PaddleDetection does not read the regulariser
        given["weight_decay"] = optimizer.pop("weight_decay", _ADAMW_DECAY)
        if values.get("regularizer"):
            LOG.info(
                "OptimizerBuilder.regularizer: not read with AdamW, whose optimizer.weight_decay is %g",
                given["weight_decay"],
            )
    else:
        given["weight_decay"] = _regularizer(values)
    for key in optimizer:
        if key not in ("type", *OPTIMIZERS[name]):
            raise unknown_key(f"OptimizerBuilder.optimizer: {name}", str(key), ("type", *OPTIMIZERS[name]))
    checks.flags_of(OptimizerSettings, optimizer, "OptimizerBuilder.optimizer")
    return OptimizerSettings(**given, **optimizer)


def _regularizer(values: Mapping[str, Any]) -> Any:
    """The factor of L2; without the key PaddleDetection's default, which `OptimizerSettings` has."""
    if "regularizer" not in values:
        return OptimizerSettings.weight_decay
    found = values["regularizer"]
    if not isinstance(found, Mapping):
        return 0.0
    if found.get("type", "L2") != "L2":
        raise ConfigError(
            f"OptimizerBuilder.regularizer.type: {found['type']} is not known, only L2; {NOT_SUPPORTED}"
        )
    return found.get("factor", 0.0)


def _ema(document: Mapping[str, Any]) -> EmaSettings:
    given = {name: document[key] for key, name in _EMA_KEYS.items() if document.get(key) is not None}
    if "black_list" in given:
        given["black_list"] = tuple(given["black_list"])
    checks.flags_of(EmaSettings, given, "ema")
    return EmaSettings(**given)
