"""What a command itself names wins over what its file names: the one place of that rule.

A key that is set now (`--set`, `-o`, or an option that stands for a key) replaces the file's value of that key. Some
keys say the same thing by another name; then those of the file are left out, and a line says so.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
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
