"""Files of PaddleSlim's and PaddleDetection's compression examples: those of other detectors, those of PTQ.

Source of names and keys: PaddleSlim, example/auto_compression/detection and
example/post_training_quantization/detection; PaddleDetection, deploy/auto_compression; release/2.5 to develop.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

from picoquant.errors import ConfigError

LOG = logging.getLogger("picoquant")

# How names of the examples' models begin, but for PicoDet's, and what their networks are called.
_OTHERS = {
    r"pp-?yoloe?": "PP-YOLOE",
    r"yolox": "YOLOX",
    r"yolo": "YOLO",
    r"rt-?detr": "RT-DETR",
    r"dino_": "DINO",
    r"ssd_|ssdlite": "SSD",
    r"tinypose|keypoint|hrnet": "a keypoint network",
    r"(faster|mask|cascade)_?rcnn": "R-CNN",
}
_AT_TOP = ("model_dir", "model_filename", "params_filename")  # PTQ's files have these outside of Global
_NOT_OURS = (
    "input_list", "plot_hist", "get_target_quant_model", "target_metric", "skip_tensor_list", "FastEvalDataset",
    "save_dir",
)  # fmt: skip


def require_picodet(values: Mapping[str, Any], path: Path) -> None:
    """Refuse a compression example of another detector, by what it calls its model.

    Args:
        values: the file's sections.
        path: of the file.

    Raises: `ConfigError` naming key, value and detector.
    """
    section = values.get("Global")
    named = {f"Global.{key}": value for key, value in section.items()} if isinstance(section, Mapping) else {}
    named.update({key: values.get(key) for key in ("arch", "model_dir")})
    for key in ("Global.arch", "arch", "Global.model_dir", "model_dir"):
        value = named.get(key)
        name = PurePath(value).name if isinstance(value, str) else ""
        for start, detector in _OTHERS.items():
            if re.match(start, name, re.IGNORECASE):
                raise ConfigError(
                    f"{path}: {key}: {value} is {detector}, and picoquant quantises PicoDet only: use PaddleSlim "
                    "for it, or give the folder of a PicoDet another name"
                )


_RENAMED = {"Quantization": "QuantAware"}  # of PaddleSlim's sections, by release 2.4


def with_todays_names(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """A compression file with sections that PaddleSlim once called otherwise under the names they have today.

    Args:
        values: the file's sections.
        path: of the file.
    """
    found = dict(values)
    for old, new in _RENAMED.items():
        if old in found and new not in found:
            found[new] = found.pop(old)
            LOG.info("%s: section %s is called %s today", path, old, new)
    return found


def is_ptq_example(values: Mapping[str, Any]) -> bool:
    """Whether a file is one of PaddleSlim's for post-training quantisation: its model stands outside of Global."""
    return isinstance(values.get("model_dir"), str) and "Global" not in values


def ptq_in_our_keys(values: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """A file of PaddleSlim's for post-training quantisation as a recipe; a line says what is not read of it."""
    recipe = {key: value for key, value in values.items() if key not in (*_AT_TOP, *_NOT_OURS, "PTQ", "arch")}
    recipe["Global"] = {key: values[key] for key in _AT_TOP if values.get(key)}
    recipe["Quantize"] = {"method": "ptq", **(values.get("Quantize") or {})}
    skipped = values.get("skip_tensor_list")
    if isinstance(skipped, list) and skipped:
        LOG.warning(
            "%s: skip_tensor_list: %d weights are quantised all the same; Quantize.keep_float names layers that "
            "stay in float",
            path,
            len(skipped),
        )
    given = [key for key in (*_NOT_OURS, "PTQ") if values.get(key) not in (None, "None", False, [])]
    LOG.info(
        "%s: a file of PaddleSlim's for post-training quantisation: Quantize.method is ptq%s",
        path,
        f"; not read: {', '.join(given)}" if given else "",
    )
    return recipe
