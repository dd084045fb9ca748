"""`infer_cfg.yml`: preprocessing and labels of an exported model, with PaddleDetection's keys.

Source of the keys: `ppdet/engine/export_utils.py` of PaddleDetection 2.6; the deployment programs of
PaddleDetection and Paddle Lite read them. PaddleX, and PaddleDetection from 2.8 on, write the same keys and
`Global.model_name` into `inference.yml`.
"""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from picoquant.data.preparation import PLACES
from picoquant.errors import ConfigError, WeightsError
from picoquant.postprocess.settings import NmsSettings
from picoquant.storage.files import write_text
from picoquant.yaml_files.load import dump_yaml, load_mapping

LOG = logging.getLogger("picoquant")

FILE_NAME, PADDLEX_NAME = "infer_cfg.yml", "inference.yml"
RAW_OUTPUTS = ("logits", "scores")
_KINDS: dict[type, str] = {list: "list", dict: "mapping"}
_NEEDED = "Preprocess (Resize with target_size, NormalizeImage), label_list, fpn_stride and NMS"


@dataclass(frozen=True)
class InferConfig:
    """Preprocessing of a model's input and interpretation of its outputs.

    Attributes:
        input_size: height and width of the network's input, pixels.
        labels: class names, in the order of the class indices.
        mean, std: normalisation of R, G and B, after the division by 255 if `is_scale`.
        is_scale: whether pixels are divided by 255.
        interp: OpenCV's number of the interpolation (1 linear, 2 cubic).
        keep_ratio: whether the resize keeps the image's aspect ratio: it is made as large as fits, the rest of the
            input is padding.
        padding: where that is: `end` (right and below), `centre` (on all sides) or `start` (left and above).
        fill: its colour (R, G, B, 0 to 255, before normalisation); None: 0 after that.
        pad_stride: the input is padded to a multiple of this; 0 for no padding.
        strides: pixels per cell for each feature map of the head.
        nms: settings for post-processing outside the model.
        arch: `PicoDet` if decoding and NMS are outside the model, `GFL` if they are inside; this is how
            PaddleDetection's deployment programs distinguish the two.
        draw_threshold: smallest score of a box that a demo draws.
        metric: PaddleDetection's name of the metric.
        raw_outputs: the class outputs of a model without post-processing: `scores`, 0 to 1, as in
            PaddleDetection's exports, or `logits`, where score = sqrt(sigmoid(class) * sigmoid(alignment)).
            PaddleDetection has no such key; it is written only for `logits`.

    Raises: `ConfigError` naming the attribute with an invalid value.
    """

    input_size: tuple[int, int]
    labels: tuple[str, ...]
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    is_scale: bool = True
    interp: int = 2
    keep_ratio: bool = False
    padding: str = "end"
    fill: tuple[float, ...] | None = None
    pad_stride: int = 0
    strides: tuple[int, ...] = (8, 16, 32, 64)
    nms: NmsSettings = field(default_factory=NmsSettings)
    arch: str = "PicoDet"
    draw_threshold: float = 0.5
    metric: str = "COCO"
    raw_outputs: str = "scores"

    def __post_init__(self) -> None:
        _check_positive("target_size", self.input_size, 2)
        _check_positive("fpn_stride", self.strides, None)
        if self.raw_outputs not in RAW_OUTPUTS:
            raise ConfigError(f"raw_outputs is {self.raw_outputs!r}: {' or '.join(RAW_OUTPUTS)} is expected")
        if self.padding not in PLACES:
            raise ConfigError(f"padding is {self.padding!r}: one of {', '.join(PLACES)} is expected")
        if self.fill is not None and len(self.fill) != 3:
            raise ConfigError(f"fill_value is {list(self.fill)}: three numbers expected")
        if not self.labels:
            raise ConfigError("label_list is empty: name every class")
        for name in ("mean", "std"):
            if len(getattr(self, name)) != 3:
                raise ConfigError(f"{name} is {list(getattr(self, name))}: three numbers expected")
        if any(value == 0 for value in self.std):
            raise ConfigError(f"std is {list(self.std)}: it cannot hold 0")

    def identity(self) -> dict[str, Any]:
        """All of it, for a fingerprint, without what came later and is not used: a run of before is not made again."""
        found = asdict(self)
        if not self.keep_ratio:
            del found["padding"], found["fill"]
        return found

    def to_mapping(self) -> dict[str, Any]:
        """The content of `infer_cfg.yml`."""
        resize = {
            "type": "Resize",
            "interp": self.interp,
            "keep_ratio": self.keep_ratio,
            "target_size": list(self.input_size),
        }
        normalise = {
            "type": "NormalizeImage",
            "is_scale": self.is_scale,
            "mean": list(self.mean),
            "std": list(self.std),
            "norm_type": "mean_std",
        }
        steps: list[dict[str, Any]] = [resize, normalise, {"type": "Permute"}]
        if self.keep_ratio:
            fill = [0.0, 0.0, 0.0] if self.fill is None else list(self.fill)
            pad: dict[str, Any] = {"type": "Pad", "size": list(self.input_size), "fill_value": fill}
            if self.padding != "end":
                pad["pad_mode"] = PLACES.index(self.padding)
            steps.insert(2 if self.fill is None else 1, pad)
        if self.pad_stride:
            steps.append({"type": "PadStride", "stride": self.pad_stride})
        return {
            "mode": "paddle",
            "draw_threshold": self.draw_threshold,
            "metric": self.metric,
            "use_dynamic_shape": False,
            "arch": self.arch,
            "min_subgraph_size": 3,  # for TensorRT; PaddleDetection's value for PicoDet
            "Preprocess": steps,
            "label_list": list(self.labels),
            "NMS": {
                "name": "MultiClassNMS",
                "score_threshold": self.nms.score_threshold,
                "nms_threshold": self.nms.nms_threshold,
                "nms_top_k": self.nms.nms_top_k,
                "keep_top_k": self.nms.keep_top_k,
            },
            "fpn_stride": list(self.strides),
            **({} if self.raw_outputs == "scores" else {"raw_outputs": self.raw_outputs}),
        }

    @classmethod
    def from_mapping(cls, values: dict[str, Any], where: str = FILE_NAME) -> InferConfig:
        """Read a mapping that `to_mapping` or PaddleDetection's `export_model.py` has written.

        Args:
            values: content of the file.
            where: name of the file in error messages.

        Raises: `WeightsError` naming the file and the key.
        """
        listed = _get(values, "Preprocess", list, where)
        for step in listed:
            if not isinstance(step, dict) or not isinstance(step.get("type"), str):
                raise WeightsError(f"{where}: Preprocess: expected steps with a type, found {step!r}")
        steps = {step["type"]: step for step in listed}
        if len(steps) < len(listed):
            twice = next(kind for kind in steps if [step["type"] for step in listed].count(kind) > 1)
            raise WeightsError(
                f"{where}: Preprocess has {twice} twice: leave the one out that the model does not need"
            )
        unknown = set(steps) - {"Resize", "LetterBoxResize", "Pad", "NormalizeImage", "Permute", "PadStride"}
        if unknown:
            raise WeightsError(f"{where}: Preprocess has steps unknown here: {sorted(unknown)}")
        if "Resize" not in steps and "LetterBoxResize" not in steps:
            raise WeightsError(f"{where}: Preprocess has no Resize, so the input size is unknown")
        resize = steps.get("Resize") or {**steps["LetterBoxResize"], "keep_ratio": True, "interp": 3}
        normalise = steps.get("NormalizeImage", {})
        mean, std = _normalisation(steps, where)
        optional = _optional_fields(values, where)
        try:
            return cls(
                input_size=tuple(_get(resize, "target_size", list, f"{where}: Preprocess Resize")),
                labels=tuple(str(name) for name in _get(values, "label_list", list, where)),
                mean=mean,
                std=std,
                is_scale=_flag(normalise, "is_scale", "NormalizeImage" in steps, where),
                interp=_whole(resize, "interp", 1, f"{where}: Preprocess Resize"),
                keep_ratio=_flag(resize, "keep_ratio", False, where),
                **_padding(steps, [step["type"] for step in listed], where),
                pad_stride=_whole(steps.get("PadStride", {}), "stride", 0, f"{where}: Preprocess PadStride"),
                **optional,
            )
        except ConfigError as error:
            raise WeightsError(f"{where}: {error}") from error


def _padding(steps: dict[str, Any], order: list[str], where: str) -> dict[str, Any]:
    """Where the padding is and its colour, of `Pad` or `LetterBoxResize`."""
    if "LetterBoxResize" in steps:
        if {"Resize", "Pad"} & set(steps):
            raise WeightsError(
                f"{where}: Preprocess has LetterBoxResize beside Resize or Pad: leave the one out that the model does "
                "not need"
            )
        return {"padding": "centre", "fill": (128.0, 128.0, 128.0)}  # 127.5, on uint8
    if "Pad" not in steps:
        return {}
    pad, named = steps["Pad"], f"{where}: Preprocess Pad"
    size, target = pad.get("size"), steps["Resize"].get("target_size")
    if size is not None and (size if isinstance(size, list) else [size, size]) != target:
        raise WeightsError(
            f"{named}: size is {size!r}, target_size of Resize {target!r}: both are the network's input"
        )
    mode = _whole(pad, "pad_mode", 0, named)
    if mode not in range(len(PLACES)):
        raise WeightsError(f"{named}: pad_mode is {mode}: 0, 1 or 2 expected")
    # Without one it is PaddleDetection's deployment program that pads, with this grey.
    colour = pad.get("fill_value", 114.0)
    colour = _numbers(
        {"fill_value": colour if isinstance(colour, list) else [colour] * 3}, "fill_value", named
    )
    if "NormalizeImage" in order and order.index("Pad") > order.index("NormalizeImage"):
        if any(colour):
            raise WeightsError(f"{named}: it stands behind NormalizeImage, where only fill_value 0 is known")
        return {"padding": PLACES[mode]}
    return {"padding": PLACES[mode], "fill": colour}


def _optional_fields(values: dict[str, Any], where: str) -> dict[str, Any]:
    """The fields with a default value that are in the file."""
    optional: dict[str, Any] = {
        name: values[name] for name in ("arch", "draw_threshold", "metric", "raw_outputs") if name in values
    }
    if "fpn_stride" in values:
        optional["strides"] = tuple(_get(values, "fpn_stride", list, where))
    if values.get("NMS"):
        named = _get(values, "NMS", dict, where)
        nms = {one.name: named[one.name] for one in fields(NmsSettings) if one.name in named}
        try:
            optional["nms"] = NmsSettings(**nms)
        except ConfigError as error:
            raise WeightsError(f"{where}: {error}") from error
    return optional


def _normalisation(steps: dict[str, Any], where: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    step = steps.get("NormalizeImage")
    if step is None or step.get("norm_type") == "none":
        return (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
    where = f"{where}: Preprocess NormalizeImage"
    return _numbers(step, "mean", where), _numbers(step, "std", where)


def _numbers(values: dict[str, Any], key: str, where: str) -> tuple[float, ...]:
    listed = _get(values, key, list, where)
    try:
        return tuple(map(float, listed))
    except (TypeError, ValueError, OverflowError) as error:
        raise WeightsError(f"{where}: {key} is {listed!r}: numbers expected") from error


def _get(values: dict[str, Any], key: str, expected: type, where: str) -> Any:
    value = values.get(key)
    if not isinstance(value, expected):
        found = f"is no {_KINDS[expected]}: found {value!r}" if value is not None else "is missing"
        raise WeightsError(f"{where}: {key} {found}")
    return value


def _whole(values: dict[str, Any], key: str, default: int, where: str) -> int:
    value = values.get(key, default)
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole and not (isinstance(value, float) and value.is_integer()):
        raise WeightsError(f"{where}: {key} is {value!r}: a whole number expected")
    return int(value)


def _flag(values: dict[str, Any], key: str, default: bool, where: str) -> bool:
    value = values.get(key, default)
    if value not in (True, False):  # 1 and 0, too; any text would be true
        raise WeightsError(
            f"{where}: Preprocess {values['type']}: {key} is {value!r}: true or false expected"
        )
    return bool(value)


def _check_positive(name: str, values: tuple[int, ...], count: int | None) -> None:
    whole = all(isinstance(value, int) and value > 0 for value in values)
    if not values or not whole or (count is not None and len(values) != count):
        what = f"{count} whole numbers" if count else "whole numbers"
        raise ConfigError(f"{name} is {list(values)}: {what} above 0 expected")


def find_infer_config(folder: Path, model: str = "") -> Path | None:
    """The file of a model folder that describes its model, under either of its names; None where there is none.

    Where both are there, `inference.yml` is that of `inference.pdmodel` and `inference.onnx`, `infer_cfg.yml` that of
    others.

    Args:
        folder: of the model.
        model: the model's file name.
    """
    names = (FILE_NAME, PADDLEX_NAME)
    if Path(model).stem == Path(PADDLEX_NAME).stem:
        names = (PADDLEX_NAME, FILE_NAME)
    return next((path for path in (Path(folder) / name for name in names) if path.is_file()), None)


def read_infer_config(folder: Path, model: str = "") -> InferConfig:
    """Read `infer_cfg.yml` or `inference.yml` of a model folder, see `find_infer_config`; where both are there a line
    says which is used.

    Raises: `WeightsError` if it is missing (lists the settings that it would hold) or invalid.
    """
    path = find_infer_config(folder, model)
    if path is None:
        raise WeightsError(
            f"{Path(folder) / FILE_NAME} is missing: put the one that was exported with the model there, or write it; "
            f"it gives {_NEEDED}"
        )
    if all((Path(folder) / name).is_file() for name in (FILE_NAME, PADDLEX_NAME)):
        LOG.info("%s holds both %s and %s: %s is used", folder, FILE_NAME, PADDLEX_NAME, path.name)
    try:
        return InferConfig.from_mapping(load_mapping(path), str(path))
    except ConfigError as error:
        raise WeightsError(str(error)) from error


def write_infer_config(config: InferConfig, folder: Path) -> Path:
    """Write `infer_cfg.yml` into a model folder; returns its path."""
    path = Path(folder) / FILE_NAME
    write_text(path, dump_yaml(config.to_mapping()))
    return path


def normalisation(config: InferConfig) -> dict[str, dict[str, list[float]]]:
    """Mean and standard deviation (R, G, B) for pixels of 0 to 255 and for pixels of 0 to 1.

    Returns: `pixels_0_255` and `pixels_0_1`, each with `mean` and `std`.
    """
    mean, std = list(config.mean), list(config.std)
    if config.is_scale:
        small, large = (mean, std), ([v * 255 for v in mean], [v * 255 for v in std])
    else:
        small, large = ([v / 255 for v in mean], [v / 255 for v in std]), (mean, std)
    return {
        "pixels_0_255": {"mean": large[0], "std": large[1]},
        "pixels_0_1": {"mean": small[0], "std": small[1]},
    }


def padding_values(config: InferConfig) -> tuple[float, ...]:
    """What the padding of R, G and B is in the network's input: its colour, normalised as pixels are."""
    if config.fill is None:
        return (0.0, 0.0, 0.0)
    mean, std = normalisation(config)["pixels_0_255"].values()
    return tuple((value - m) / s for value, m, s in zip(config.fill, mean, std))
