"""From a PaddleDetection configuration to a detector's settings.

A component is named where it is used, `backbone: LCNet`, with its keys in the section `LCNet`; or
written there, `conv_feat: {name: PicoFeat, …}` or `!PicoFeat {…}`, whose keys win over the section's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, Union

from picoquant.config.components import BACKBONES, HEADS, NECKS, PARTS, Components
from picoquant.detector import settings as s
from picoquant.detector.settings import backbones
from picoquant.errors import NOT_SUPPORTED, ConfigError
from picoquant.postprocess.settings import NmsSettings
from picoquant.utils import setting_checks as checks
from picoquant.utils.suggest import suggestion, unknown_key
from picoquant.yaml_files.load import load_detection_config

if TYPE_CHECKING:
    from pathlib import Path

    from picoquant.detector.picodet import PicoDet

_ARCHITECTURES = ("PicoDet", "GFL")  # GFL: what files of August 2021 call it

# Keys without a meaning here: the classes and the input size come from elsewhere, and the others are
# not read by PaddleDetection's PicoDet either.
_IGNORED = {
    s.PicoHead: {"num_classes", "eval_size", "nms_pre"},
    s.PicoHeadV2: {"num_classes", "eval_size", "nms_pre"},
    s.ATSSAssigner: {"num_classes", "eps"},
    s.SimOTAAssigner: {"num_classes"},
    backbones.MobileNetV3: {"extra_block_filters", "norm_type"},
    backbones.ResNet: {"norm_type"},
    s.PAN: {"end_level"},
}

# Keys that are understood only with this value.
_ONLY: Mapping[type, Mapping[str, Any]] = {
    s.PicoHead: {"dgqp_module": None},
    s.PicoHeadV2: {"dgqp_module": None},
    s.PAN: {"start_level": 0, "norm_type": None},
    backbones.MobileNetV3: {"with_extra_blocks": False},
    backbones.ResNet: {"groups": 1, "base_width": 64, "dcn_v2_stages": [-1], "std_senet": False},
    s.TaskAlignedAssigner: {"is_close_gt": False},
    NmsSettings: {
        "normalized": True,
        "nms_eta": 1.0,
        "return_index": False,
        "return_rois_num": True,
        "trt": False,
        "background_label": -1,
    },
}

# Where PaddleDetection's default is another than the settings' own.
_DEFAULTS: Mapping[type, Mapping[str, Any]] = {
    NmsSettings: {
        "score_threshold": 0.05,
        "nms_threshold": 0.5,
        "nms_top_k": -1,
        "keep_top_k": 100,
    },
}


def parse_detector(mapping: Mapping[str, Any], num_classes: int | None = None) -> s.DetectorSettings:
    """The detector a configuration describes.

    Args:
        mapping: a PaddleDetection configuration, its bases merged.
        num_classes: number of object classes; by default what the configuration says, else 80.

    Raises: `ConfigError` naming section and key.
    """
    architecture = mapping.get("architecture", "PicoDet")
    if architecture not in _ARCHITECTURES:
        raise ConfigError(f"architecture: {architecture}: picoquant builds PicoDet only; {NOT_SUPPORTED}")
    parts = mapping.get(architecture)
    if not isinstance(parts, Mapping):
        raise ConfigError(
            f"no section {architecture} with backbone, neck and head: this is no configuration of a detector"
        )
    for key in parts:
        if key not in ("backbone", "neck", "head", "nms_cpu"):  # nms_cpu: where PaddleDetection runs NMS
            raise unknown_key(architecture, str(key), ("backbone", "neck", "head"))
    if isinstance(mapping.get("PicoHead"), Mapping) and "loss_qfl" in mapping["PicoHead"]:
        mapping = {**mapping, "PicoHead": _august_2021(mapping)}
    _require_one_number_of_classes(mapping, parts.get("head", "PicoHead"))
    count = num_classes if num_classes is not None else mapping.get("num_classes", 80)
    return s.DetectorSettings(
        backbone=_component(mapping, f"{architecture}.backbone", parts.get("backbone"), BACKBONES),
        neck=_component(mapping, f"{architecture}.neck", parts.get("neck"), NECKS),
        head=_component(mapping, f"{architecture}.head", parts.get("head", "PicoHead"), HEADS),
        num_classes=count,
    )


def _require_one_number_of_classes(mapping: Mapping[str, Any], head: Any) -> None:
    """Raises: `ConfigError` where the head's section has another number than the file; PaddleDetection takes that."""
    section = head if isinstance(head, Mapping) else mapping.get(str(head))
    own = section.get("num_classes") if isinstance(section, Mapping) else None
    if own is not None and own != mapping.get("num_classes", 80):
        raise ConfigError(
            f"{head if isinstance(head, str) else 'head'}.num_classes is {own!r} and num_classes "
            f"{mapping.get('num_classes', 80)!r}: set the latter, and leave the former out"
        )


def _august_2021(mapping: Mapping[str, Any]) -> dict[str, Any]:
    """The section PicoHead of a file of August 2021, in the terms of today's.

    Then the class loss was `loss_qfl`, the assigner a part of the reader, and the convolutions 3x3
    with a leaky ReLU of slope 0.1.
    """
    head = dict(mapping["PicoHead"])
    head["loss_class"] = head.pop("loss_qfl")
    head.setdefault("assigner", "ATSSAssigner")
    head["conv_feat"] = {
        "name": "PicoFeat",
        "kernel_size": 3,
        "act": "leaky_relu_0.1",
        **(head.get("conv_feat") or {}),
    }
    reader = mapping.get("TrainReader") or {}
    for transform in reader.get("batch_transforms") or []:
        for key, values in transform.items():
            if key == "Gt2GFLTarget" and "grid_cell_scale" in (values or {}):
                head.setdefault("grid_cell_scale", values["grid_cell_scale"])
    return head


def load_detector(config: Union[str, Path, Mapping[str, Any]], num_classes: int | None = None) -> PicoDet:
    """Build the detector of a configuration: a path, the bare name of a shipped one, or a mapping.

    Raises: `ConfigError` when it does not describe a detector.
    """
    from picoquant.detector.build import build_picodet

    mapping = config if isinstance(config, Mapping) else load_detection_config(str(config))
    return build_picodet(parse_detector(mapping, num_classes))


def _component(mapping: Mapping[str, Any], where: str, value: Any, known: Components) -> Any:
    """The settings of the component that `value` names or is."""
    inline = dict(value) if isinstance(value, Mapping) else {}
    name = inline.pop("name", None) or getattr(value, "tag", None) or value
    if not isinstance(name, str) or name not in known:
        found = "nothing" if name is None else name
        raise ConfigError(
            f"{where}: found {found}{suggestion(str(name), known)}; known: {', '.join(known)}; {NOT_SUPPORTED}"
        )
    section = mapping.get(name) or {}
    if not isinstance(section, Mapping):
        raise ConfigError(f"{name}: expected keys and values, found {section!r}")
    return _settings(mapping, name, {**section, **inline}, known[name])


def _settings(mapping: Mapping[str, Any], name: str, values: Mapping[str, Any], kind: type) -> Any:
    """`values` as settings of `kind`; the parts of a head are components themselves."""
    known = {field.name for field in fields(kind)}
    ignored, only = _IGNORED.get(kind, set()), _ONLY.get(kind, {})
    parts = PARTS.get(kind, {})
    arguments = dict(_DEFAULTS.get(kind, {}))
    for key, value in values.items():
        if key in ignored or key == "name":
            continue
        if key in only:
            if value != only[key]:
                raise ConfigError(
                    f"{name}.{key}: {value!r} is not supported, only {only[key]!r}; {NOT_SUPPORTED}"
                )
        elif key not in known:
            raise unknown_key(name, str(key), [*known, *ignored, *only])
        elif key in parts:
            if value is not None:
                arguments[key] = _component(mapping, f"{name}.{key}", value, parts[key])
        else:
            arguments[key] = tuple(value) if isinstance(value, list) else value
    checks.flags_of(kind, arguments, name)
    return kind(**arguments)
