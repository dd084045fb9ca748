"""PaddleX's files (`Global: {model: PicoDet-S, dataset_dir: …}`, `Train`, `Evaluate` …) in picoquant's keys.

Source of what each key does: PaddleX 3, paddlex/modules/object_detection (trainer, evaluator) and
paddlex/repo_apis/PaddleDetection_api/object_det/config.py. The detector of each model is in `configs/paddlex`.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from picoquant.errors import ConfigError
from picoquant.utils.suggest import suggestion
from picoquant.yaml_files.load import Tagged, load_with_bases, merge
from picoquant.yaml_files.locate import shipped_folder
from picoquant.yaml_files.overrides import apply_overrides, check_keys, parse_override

LOG = logging.getLogger("picoquant")

# Sections and keys of PaddleX. `Predict` and what belongs to its runtime are not read, so they may be anything.
_KEYS: dict[str, Any] = {
    "Global": dict.fromkeys(("model", "mode", "dataset_dir", "device", "output")),
    "CheckDataset": None,
    "Train": dict.fromkeys(
        (
            "num_classes", "epochs_iters", "batch_size", "learning_rate", "pretrain_weight_path", "warmup_steps",
            "resume_path", "log_interval", "eval_interval", "save_interval", "dy2st",
        )
    ),
    "Evaluate": dict.fromkeys(("weight_path", "log_interval")),
    "Export": dict.fromkeys(("weight_path",)),
    "Predict": None,
}  # fmt: skip
_OWN = ("Global", "Train")  # sections that picoquant has, too, with other keys


def is_paddlex(values: Mapping[str, Any]) -> bool:
    """Whether a file is one of PaddleX's: its `Global.model` names the network."""
    section = values.get("Global")
    return isinstance(section, Mapping) and "model" in section


def models() -> dict[str, Path]:
    """PaddleX's name of a PicoDet -> its shipped configuration."""
    return {path.stem: path for path in sorted(shipped_folder("configs").joinpath("paddlex").glob("*.yml"))}


def in_our_keys(
    values: Mapping[str, Any], overrides: Sequence[str], path: Path
) -> tuple[dict[str, Any], list[str]]:
    """A file of PaddleX as a recipe, and the overrides that are not in PaddleX's keys; one line says what was meant.

    Args:
        values: the file's sections.
        overrides: `KEY.SUB=VALUE` texts; those in PaddleX's keys are applied first.
        path: for messages.

    Raises: `ConfigError` for a model that is no PicoDet, or an unknown key.
    """
    theirs = [text for text in overrides if _is_theirs(parse_override(text)[0])]
    document: dict[str, Any] = merge(values, {})
    apply_overrides(document, theirs, _KEYS)
    sections = {name: _section(document, name, path) for name in _KEYS}
    ours = {name: _ours(sections[name], name) for name in _OWN}
    for name in _KEYS:
        own = ours.get(name, {})
        check_keys({name: {k: v for k, v in sections[name].items() if k not in own}}, _KEYS, str(path))
    common, train = sections["Global"], sections["Train"]
    model = str(common["model"])
    known = models()
    if model not in known:
        raise ConfigError(
            f"{path}: Global.model: {model} is no PicoDet of PaddleX's{suggestion(model, known)}; picoquant builds "
            f"{', '.join(known)}"
        )
    detector = load_with_bases(known[model])
    recipe = {key: value for key, value in document.items() if key not in _KEYS}
    recipe["Global"] = {"config": model, **ours["Global"], **_found_weights(sections)}
    if ours["Train"]:
        recipe["Train"] = ours["Train"]
    changed = merge(_training(train, detector), _data(common))
    LOG.info(
        "%s: a file of PaddleX's, its model %s is picoquant's configuration of that name%s",
        path,
        model,
        _not_read(sections),
    )
    _warn(sections, path)
    return merge(changed, recipe), [text for text in overrides if text not in theirs]


def _is_theirs(keys: Sequence[str]) -> bool:
    below = _KEYS.get(keys[0], ())
    return below is None or (len(keys) > 1 and keys[1] in below)


def _section(values: Mapping[str, Any], name: str, path: Path) -> dict[str, Any]:
    section = values.get(name) or {}
    if not isinstance(section, dict):
        raise ConfigError(f"{path}: {name}: expected keys and values, found {section!r}")
    return section


def _ours(section: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The keys of a section that picoquant has, which stand beside PaddleX's."""
    from picoquant.config.schema import schema

    return {key: value for key, value in section.items() if key in schema()[name]}


def _data(common: Mapping[str, Any]) -> dict[str, Any]:
    folder = common.get("dataset_dir")
    if folder is None:
        return {}
    return {
        section: Tagged(
            "COCODetDataset",
            {
                "image_dir": "images",
                "anno_path": f"annotations/instance_{part}.json",
                "dataset_dir": str(folder),
            },
        )
        for section, part in (("TrainDataset", "train"), ("EvalDataset", "val"))
    }


def _training(train: Mapping[str, Any], detector: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of section `Train` as those of a PaddleDetection configuration."""
    given = {key: value for key, value in train.items() if value not in (None, "")}
    plain = {
        "num_classes": "num_classes", "epochs_iters": "epoch", "pretrain_weight_path": "pretrain_weights",
        "log_interval": "log_iter", "eval_interval": "snapshot_epoch",
    }  # fmt: skip
    found: dict[str, Any] = {plain[key]: value for key, value in given.items() if key in plain}
    if "batch_size" in given:
        found["TrainReader"] = {"batch_size": given["batch_size"]}
    rate: dict[str, Any] = {}
    if "learning_rate" in given:
        rate["base_lr"] = given["learning_rate"]
    if "warmup_steps" in given:
        rate["schedulers"] = [
            Tagged(one.tag, {**one, "steps": given["warmup_steps"]}) if one.tag == "LinearWarmup" else one
            for one in detector["LearningRate"]["schedulers"]
        ]
    if rate:
        found["LearningRate"] = rate
    epochs = given.get("epochs_iters")
    if isinstance(epochs, int) and "PicoHeadV2" in detector:  # as PaddleX's trainer does
        found["PicoHeadV2"] = {"static_assigner_epoch": max(epochs // 10, 1)}
    return found


def _found_weights(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """What PaddleX has trained, where it is there; for a run folder without weights of its own."""
    named = [str(sections[name].get("weight_path") or "") for name in ("Evaluate", "Export")]
    there = [name for name in named if name and Path(name).expanduser().is_file()]
    return {"weights_elsewhere": there[0]} if there else {}


def _not_read(sections: Mapping[str, Mapping[str, Any]]) -> str:
    """The end of a line: which keys decide nothing, and what does."""
    instead = {
        "Global.mode": "the command",
        "Global.device": "--device",
        "Global.output": "--save-dir",
        "Predict": "the arguments of `picoquant predict`",
    }
    given = {
        key: f"{key}{f': {value}' if not isinstance(value, Mapping) else ''}"
        for key in instead
        for value in [sections[key] if key == "Predict" else sections["Global"].get(key.split(".")[1])]
        if value
    }
    if not given:
        return ""
    return f"; not read: {', '.join(given.values())} ({', '.join(instead[key] for key in given)} instead)"


def _warn(sections: Mapping[str, Mapping[str, Any]], path: Path) -> None:
    """Say what a file asks for that is not done."""
    for name, what in (("convert", "converted"), ("split", "split")):
        wanted = sections["CheckDataset"].get(name)
        if isinstance(wanted, Mapping) and wanted.get("enable"):
            LOG.warning(
                "%s: CheckDataset.%s.enable: true: no data set is %s here; do that in PaddleX, or name the data sets "
                "as they are in TrainDataset and EvalDataset",
                path,
                name,
                what,
            )
    train = sections["Train"]
    if train.get("resume_path"):
        LOG.warning(
            "%s: Train.resume_path: %s is not continued from; picoquant continues its own runs by itself, and "
            "Train.pretrain_weight_path starts from weights",
            path,
            train["resume_path"],
        )
    if train.get("dy2st"):
        LOG.warning("%s: Train.dy2st: accepted, but without effect here", path)
