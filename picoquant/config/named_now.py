"""What a command itself names wins over what its file names: the one place of that rule.

A key that is set now (`--set`, `-o`, or an option that stands for a key) replaces the file's value of that key. Some
keys say the same thing by another name; then those of the file are left out, and a line says so.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from picoquant.yaml_files.overrides import parse_override

LOG = logging.getLogger("picoquant")

# Key that is set now -> keys of the file that say the same otherwise, or say something of what is replaced.
_REPLACES: dict[str, tuple[str, ...]] = {
    "Global.weights": ("Global.model_dir",),
    "Global.model_dir": ("Global.weights", "Global.model_filename", "Global.params_filename"),
    **{
        f"{section}.{key}": ("Synthetic",)
        for section in ("TrainDataset", "EvalDataset")
        for key in ("dataset_dir", "image_dir", "anno_path")
    },
    "export.post_process": ("export.benchmark",),
    "export.nms": ("export.benchmark",),
    "TrainConfig.epochs": ("TrainConfig.train_iter",),
}
_SAYS_NOTHING = (
    None,
    False,
    "model.pdmodel",
    "model.pdiparams",
)  # values of such keys, the last two by default


def in_our_terms(override: str) -> str:
    """PaddleDetection's `-o weights=FILE` as `Global.weights=FILE`."""
    return f"Global.{override}" if override.split("=")[0].strip() == "weights" else override


def named_now(overrides: Sequence[str]) -> dict[str, Any]:
    """Dotted key -> the value that overrides set, a mapping taken apart."""
    found: dict[str, Any] = {}
    for text in overrides:
        keys, value = parse_override(in_our_terms(text))
        found.update(_leaves(".".join(keys), value))
    return found


def leave_out_the_files(document: dict[str, Any], overrides: Sequence[str]) -> None:
    """Take out of a resolved recipe what the file says otherwise than the command; a line says what.

    Args:
        document: the recipe, overrides applied.
        overrides: `KEY.SUB=VALUE` texts.
    """
    now = named_now(overrides)
    if (
        now.get("export.nms")
        and not document["export"].get("post_process")
        and "export.post_process" not in now
    ):
        LOG.info(
            "export.nms=true is named here, so export.post_process is true, too: NMS takes decoded boxes"
        )
        document["export"]["post_process"] = True
    for named, others in _REPLACES.items():
        given = [key for key, value in now.items() if _is_in(key, named) and value]
        left_out = [
            key
            for key in others
            if given and not any(_is_in(one, key) for one in now) and _take_out(document, key.split("."))
        ]
        if left_out:
            LOG.info("%s is named here, which leaves out the file's %s", given[0], ", ".join(left_out))


_READERS = ("TrainReader", "EvalReader")
_LISTS = ("sample_transforms", "batch_transforms")


def sizes_as_written(layers: Sequence[Mapping[str, Any]], overrides: Sequence[str]) -> frozenset[str]:
    """Keys of readers whose sizes hold beside `Global.input_size`: those of the place that sets it, and of later ones.

    Sizes that stand below it (a shipped configuration's under a recipe, a file's under a command's `--input-size`) are
    not among them: they follow it.

    Args:
        layers: what each file says itself, a base before what stands on it.
        overrides: `KEY.SUB=VALUE` texts, which come last, all in one place.
    """
    now = named_now(overrides)
    typed = frozenset(
        key for key in now if any(_is_in(key, f"{reader}.{name}") for reader in _READERS for name in _LISTS)
    )
    if "Global.input_size" in now:
        return typed
    sizes = [
        place
        for place, layer in enumerate(layers)
        if isinstance(layer.get("Global"), Mapping) and "input_size" in layer["Global"]
    ]
    beside = layers[sizes[-1] :] if sizes else []
    of_files = (
        f"{reader}.{name}"
        for layer in beside
        for reader in _READERS
        for name in _LISTS
        if isinstance(layer.get(reader), Mapping) and name in layer[reader]
    )
    return typed.union(of_files)


def leave_out_generated(document: dict[str, Any], layers: Sequence[Mapping[str, Any]], where: str) -> None:
    """Take a generated data set out where a file that stands on the one with `Synthetic` names another; say it.

    Args:
        document: the recipe.
        layers: what each file says itself, a base before what stands on it.
        where: the file for messages, where both stand in one; empty: nothing is said of that.
    """
    generated = [place for place, layer in enumerate(layers) if layer.get("Synthetic")]
    named = [
        (place, f"{section}.{key}")
        for place, layer in enumerate(layers)
        for section in ("TrainDataset", "EvalDataset")
        for key in ("dataset_dir", "image_dir", "anno_path")
        if isinstance(layer.get(section), Mapping) and layer[section].get(key)
    ]
    if not document.get("Synthetic") or not generated or not named:
        return
    place, key = named[-1]
    if place > generated[-1]:
        LOG.info("%s stands on the file with Synthetic, which is left out", key)
        document.pop("Synthetic")
    elif place == generated[-1] and where:
        LOG.warning(
            "%s: Synthetic and %s: the images are generated, and those named are not read", where, key
        )


def _leaves(key: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {key: value}
    found: dict[str, Any] = {}
    for name, below in value.items():
        found.update(_leaves(f"{key}.{name}", below))
    return found


def _is_in(key: str, section: str) -> bool:
    return key == section or key.startswith(f"{section}.")


def _take_out(document: dict[str, Any], keys: Sequence[str]) -> bool:
    """Remove a key; whether it said anything."""
    for key in keys[:-1]:
        document = document.get(key) or {}
        if not isinstance(document, dict):
            return False
    return document.pop(keys[-1], None) not in _SAYS_NOTHING
