"""Names of mmdet's PicoDet (2021.10: ESNet, CSPPAN, PicoDetHead) and PaddleDetection's, in both directions.

Source of mmdet's names: github.com/Bo396543018/Picodet_Pytorch (mmdet 2), mmdet/models: backbones/esnet.py,
necks/csp_pan.py, dense_heads/picodet_head.py, utils; and mmcv's ConvModule and DepthwiseSeparableConvModule. The
networks compute the same: only names differ, and that PaddleDetection's head has factors of 1 beside each level.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np

from picoquant.errors import UserError

State = dict[str, np.ndarray]

# Of each pattern the first that fits is used, in turn for each list. mmdet -> PaddleDetection.
_Rules = Sequence[tuple[str, str]]
_TO_US: Mapping[str, _Rules] = {
    "backbone": (
        (r"\.se\.(conv\d)\.conv\.", r"._se.\1."),
        (r"(^|\.)(conv\w*)\.conv\.", r"\1_\2._conv."),
        (r"(^|\.)(conv\w*)\.bn\.", r"\1_\2._batch_norm."),
    ),
    "neck": (
        (r"^trans\.trans\.", "conv_t.convs."),
        (r"\.depthwise_conv\.conv\.", ".dwconv."),
        (r"\.depthwise_conv\.bn\.", ".bn1."),
        (r"\.pointwise_conv\.conv\.", ".pwconv."),
        (r"\.pointwise_conv\.bn\.", ".bn2."),
    ),
    "head": (
        (r"^(cls|reg)_convs\.(\d+)\.(\d+)\.depthwise_conv\.", r"conv_feat.\1_conv_dw\2.\3."),
        (r"^(cls|reg)_convs\.(\d+)\.(\d+)\.pointwise_conv\.", r"conv_feat.\1_conv_pw\2.\3."),
        (r"^gfl_(cls|reg)\.(\d+)\.", r"head_\1\2."),
        (r"^integral\.", "distribution_project."),
    ),
}
_TO_MMDET: Mapping[str, _Rules] = {
    "backbone": (
        (r"\._se\.(conv\d)\.", r".se.\1.conv."),
        (r"(^|\.)_(conv\w*)\._conv\.", r"\1\2.conv."),
        (r"(^|\.)_(conv\w*)\._batch_norm\.", r"\1\2.bn."),
    ),
    "neck": (
        (r"^conv_t\.convs\.", "trans.trans."),
        (r"\.dwconv\.", ".depthwise_conv.conv."),
        (r"\.bn1\.", ".depthwise_conv.bn."),
        (r"\.pwconv\.", ".pointwise_conv.conv."),
        (r"\.bn2\.", ".pointwise_conv.bn."),
    ),
    "head": (
        (r"^conv_feat\.(cls|reg)_conv_dw(\d+)\.(\d+)\.", r"\1_convs.\2.\3.depthwise_conv."),
        (r"^conv_feat\.(cls|reg)_conv_pw(\d+)\.(\d+)\.", r"\1_convs.\2.\3.pointwise_conv."),
        (r"^head_(cls|reg)(\d+)\.", r"gfl_\1.\2."),
        (r"^distribution_project\.", "integral."),
    ),
}
_STATISTICS = ((".running_mean", "._mean"), (".running_var", "._variance"))
_SCALE = re.compile(r"^head\.p\d+_feat\.scale_reg$")
_FIRST_LEVEL = 3  # p3 has stride 8, level 0 of mmdet's lists


def is_mmdet(names: Sequence[str]) -> bool:
    """Whether arrays have mmdet's names of a PicoDet, or of its backbone alone."""
    return any(name.startswith("bbox_head.gfl_cls.") for name in names) or (
        "conv1.conv.weight" in names and any(name.startswith("2_1.conv_") for name in names)
    )


def from_mmdet(state: Mapping[str, np.ndarray]) -> State:
    """A state with PaddleDetection's names, where it has mmdet's; else as it is.

    A backbone alone has no prefix in either. What training keeps beside the weights (`ema_…`) is left out.
    """
    if not is_mmdet(list(state)):
        return dict(state)
    found: State = {}
    whole = any(name.startswith("bbox_head.") for name in state)
    for name, value in state.items():
        if name.startswith("ema_"):
            continue
        room, rest = name.split(".", 1) if whole and "." in name else ("backbone", name)
        ours = "head" if room == "bbox_head" else room
        rest = _renamed(rest, _TO_US.get(ours, ()))
        if ours == "head":  # its blocks call the batch-norm so
            rest = rest.replace(".bn.", ".norm.")
        for theirs, own in _STATISTICS:
            rest = rest.replace(theirs, own)
        found[f"{ours}.{rest}" if whole else rest] = value
    if whole:
        levels = {int(match[1]) for match in map(re.compile(r"^head\.head_cls(\d+)\.").match, found) if match}
        found |= {f"head.p{level + _FIRST_LEVEL}_feat.scale_reg": np.ones(1, np.float32) for level in levels}
    return found


def to_mmdet(state: Mapping[str, np.ndarray]) -> State:
    """A state with mmdet's names.

    Args:
        state: with PaddleDetection's names: ESNet, CSPPAN and PicoHead of 2021.10.

    Raises: `UserError` for a network that mmdet has not.
    """
    if is_mmdet(list(state)):
        return dict(state)
    found: State = {}
    for name, value in state.items():
        if _SCALE.match(name):
            if not np.array_equal(value, np.ones_like(value)):
                raise UserError(
                    f"{name} is not 1, and mmdet's PicoDet has no such factor: no .pth can hold it"
                )
            continue
        room, _, rest = name.partition(".")
        theirs = _renamed(rest, _TO_MMDET.get(room, ()))
        if room == "head":
            theirs = theirs.replace(".norm.", ".bn.")
        for new, old in _STATISTICS:
            theirs = theirs.replace(old, new)
        found[f"{'bbox_head' if room == 'head' else room}.{theirs}"] = value
    back = from_mmdet(found) if is_mmdet(list(found)) else {}
    lost = [name for name in state if name not in back]
    if lost or any(re.search(r"(^|\.)_", name) for name in found):
        raise UserError(
            f"{lost[0] if lost else 'an array'}: mmdet's PicoDet has no name for it; .pth is for ESNet, CSPPAN and "
            "PicoHead of 2021.10 (legacy_model), write .pdparams, .safetensors or .npz"
        )
    return found


def _renamed(name: str, rules: _Rules) -> str:
    for pattern, new in rules:
        name, changed = re.subn(pattern, new, name)
        if changed:
            break
    return name
