"""PaddleDetection's `--slim_config` files for pruning, as `KEY=VALUE` texts.

They are laid over the detector's file, as PaddleDetection does: what they say of the training counts.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from picoquant.errors import ConfigError
from picoquant.pruning.settings import PrunerSettings, UnstructuredPrunerSettings
from picoquant.utils.suggest import unknown_key
from picoquant.yaml_files.load import Tagged, dump_yaml

# Kind -> the section of a recipe, its settings, and what it does.
KINDS: Mapping[str, tuple[str, type, str]] = {
    "UnstructuredPruner": ("UnstructuredPruner", UnstructuredPrunerSettings, "the smallest weights become 0"),
    "Pruner": ("Pruner", PrunerSettings, "filters are removed before training"),
    "PrunerQAT": ("Pruner", PrunerSettings, "filters are removed before training"),
}
_QAT_PART = ("quant_config", "print_qat_model")


def pruning_keys(
    values: Mapping[str, Any], kind: str, path: Path, schedule: Sequence[str]
) -> tuple[list[str], Mapping[str, Any], str]:
    """What such a file means.

    Args:
        values: of the file.
        kind: one of `KINDS`.
        path: for messages.
        schedule: keys of the training that may stand beside the section.

    Returns: texts for `load_recipe`; the part of `PrunerQAT` that says how to quantise, empty otherwise; one line.

    Raises: `ConfigError` naming file and key.
    """
    name, settings, what = KINDS[kind]
    known = ("slim", kind, "pretrain_weights", "weights", *schedule)
    for key in values:
        if key not in known:
            raise unknown_key(str(path), str(key), known)
    section = values.get(kind)
    if not isinstance(section, Mapping):
        raise ConfigError(f"{path}: {kind}: expected keys and values, found {section!r}")
    own = {key: value for key, value in section.items() if kind != "PrunerQAT" or key not in _QAT_PART}
    if kind == "PrunerQAT":
        own = {"print_params" if key == "print_prune_params" else key: value for key, value in own.items()}
    keys = [field.name for field in fields(settings)]
    for key in own:
        if key not in keys:
            raise unknown_key(f"{path}: {kind}", str(key), keys)
    texts = [f"{name}={json.dumps(own)}"]
    if values.get("pretrain_weights"):
        texts.insert(0, f"pretrain_weights={values['pretrain_weights']}")
    texts += [text for key in schedule if key in values for text in _texts(key, values[key])]
    qat = {key: section[key] for key in _QAT_PART if key in section} if kind == "PrunerQAT" else {}
    laid = [key for key in ("pretrain_weights", *schedule) if values.get(key) is not None]
    said = f"{what}: section {name}" + (
        f"; also laid over the detector's file: {', '.join(laid)}" if laid else ""
    )
    return texts, qat, said


def _texts(key: str, value: Any) -> Iterator[str]:
    """A value as overrides: a mapping key by key, as PaddleDetection lays one file over another."""
    if isinstance(value, Mapping) and not isinstance(value, Tagged):
        for below, one in value.items():
            yield from _texts(f"{key}.{below}", one)
        return
    yield (
        f"{key}=\n{dump_yaml(value)}" if isinstance(value, (list, Mapping)) else f"{key}={json.dumps(value)}"
    )
