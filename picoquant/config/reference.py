"""The reference of all keys, `docs/recipe.md`, made of the settings' own docstrings.

python -m picoquant.config.reference > docs/recipe.md
"""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from typing import Any

from picoquant.config import components, distillation, schema, training
from picoquant.config.sections import (
    CalibrationSettings,
    GlobalSettings,
    PackageSettings,
    SyntheticSettings,
    TrainSection,
)
from picoquant.data.settings import DatasetSettings, ReaderSettings
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.pruning.settings import PrunerSettings, UnstructuredPrunerSettings
from picoquant.quantization import settings as quantization
from picoquant.training.settings import EmaSettings, OptimizerSettings, TrainSettings

_SECTIONS = (
    ("Global", GlobalSettings),
    ("Distillation", quantization.DistillationSettings),
    ("QuantAware", QuantAwareSettings),
    ("TrainConfig", quantization.QatTrainSettings),
    ("Quantize", quantization.QuantizationSettings),
    ("Calibration", CalibrationSettings),
    ("Package", PackageSettings),
    ("Synthetic", SyntheticSettings),
)
# Field of `OptimizerSettings` -> key below `OptimizerBuilder`.
_OPTIMIZER_KEYS = {
    "type": "optimizer.type",
    "momentum": "optimizer.momentum",
    "use_nesterov": "optimizer.use_nesterov",
    "beta1": "optimizer.beta1",
    "beta2": "optimizer.beta2",
    "epsilon": "optimizer.epsilon",
    "weight_decay": "regularizer.factor",
}
_HEAD = """\
# Every key of a recipe

Made by `python -m picoquant.config.reference`, from the settings in the code; a test compares the two.

A recipe is YAML: picoquant's own sections, and beside them the keys of a PaddleDetection configuration, which come
from the file that `Global.config` names and may be overridden in the recipe. `--set Section.key=value` overrides
both. An unknown key is an error that names the nearest known one. A value in the tables is the default in the code;
`recipes/picodet_s_qat_dis.yaml`, on which every recipe is laid, sets some of them.

A section of a recipe replaces the shipped recipe's as a whole, but for `Global` and `export`. With
`_BASE_: picodet_s_qat_dis.yaml` in its first line (a shipped recipe, or a file beside it) it is laid on that one key by
key.
"""
_DETECTION = """\
## PaddleDetection's keys

`_BASE_`: files to build on. `architecture`: `PicoDet`, or `GFL` as files of August 2021 have it. `metric`: `COCO`, or
`VOC` for VOC's mAP beside COCO's numbers. `num_classes`: replaced by what the annotations say. `pretrain_weights`: a
file, a shipped one's name (`quickstart.safetensors`), or an `https://` address with `#sha256=<hex>` behind it.
`epoch`, `snapshot_epoch`, `log_iter`, `worker_num`: of training
and reading. `norm_type: sync_bn` or `sync_bn: true`: batch norm over all processes' images. `use_vdl`, `vdl_log_dir`:
VisualDL's log; `use_tensorboard`, `tensorboard_log_dir`, `use_wandb` and `use_mlflow` likewise. `export`:
`post_process: false` or `benchmark: true` exports logits, `nms: false` boxes and scores before NMS; `fuse_conv_bn` is
accepted. `GFLHead`, `FCOSFeat` and `FPN` may stand in a base; they are not built. With
`unstructured_prune: true` the keys of `UnstructuredPruner` may stand at the top, as in earlier releases.
"""


def reference() -> str:
    """The page, as Markdown."""
    return "\n".join(_lines()).rstrip() + "\n"


def _lines() -> Iterator[str]:
    yield _HEAD
    for name, settings in _SECTIONS:
        yield from _section(f"## `{name}`", settings)
    own = [field.name for field in fields(TrainSection)]
    yield from _section("## `Train`", TrainSettings, own, "Of training, beside PaddleDetection's keys.")
    teacher = [name for name in own if name not in TrainSection().given()]
    yield from _section("### `Train.teacher`", TrainSection, teacher, "A detector that is learned from.")
    yield from _components("#### What is learned: `Train.distillation`", distillation._KINDS)
    yield from _section("## `UnstructuredPruner`", UnstructuredPrunerSettings)
    yield from _section("## `Pruner`", PrunerSettings)
    yield _DETECTION
    yield from _section("### `TrainDataset`, `EvalDataset`, `TestDataset`", DatasetSettings)
    yield from _section("### `TrainReader`, `EvalReader`, `TestReader`", ReaderSettings)
    yield from _components("#### Transforms of samples", _transforms("SAMPLE_TRANSFORMS"))
    yield from _components("#### Transforms of batches", _transforms("BATCH_TRANSFORMS"))
    yield from _components("### `LearningRate`: `base_lr` and `schedulers`", training._SCHEDULERS, "!")
    yield from _section("### `OptimizerBuilder`", OptimizerSettings, names=_OPTIMIZER_KEYS)
    ema = {field: key for key, field in training._EMA_KEYS.items()}
    yield from _section("### `use_ema: true`", EmaSettings, names=ema)
    yield "### `PicoDet`: backbone, neck and head\n"
    for title, kinds in (
        ("Backbones", components.BACKBONES),
        ("Necks", components.NECKS),
        ("Heads", components.HEADS),
    ):
        yield from _components(f"#### {title}", kinds)
    yield from _components("#### Parts of a head", components.components_of_heads())
    yield "### Accepted without effect\n"
    yield "Keys that change no result, or that picoquant has an option for: " + _names(schema._LEFT_ALONE)
    yield ""
    yield "Keys that ask for what picoquant does not do by them; a warning says so: " + _names(
        schema._WITHOUT_EFFECT
    )
    yield ""
    for key, instead in sorted(schema.INSTEAD.items()):
        yield f"- for `{key}` use `{instead}`"


def _section(
    title: str,
    settings: type,
    only: Iterable[str] | None = None,
    summary: str | None = None,
    names: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """A heading, what the settings are, a table of keys; `names`: field -> key, where they differ."""
    text, meanings = _docstring(settings)
    chosen = [
        field
        for field in fields(settings)
        if field.name != "section" and (only is None or field.name in set(only))
    ]
    yield f"{title}\n"
    text = _cell(re.sub(r"^(Section )?`\w+`[:.]", "", text if summary is None else summary))
    if text:
        yield text[0].upper() + text[1:] + "\n"
    if not meanings:
        yield from (f"- `{field.name}`: {_default(field)}" for field in chosen)
        yield ""
        return
    yield "| key | default | meaning |"
    yield "|---|---|---|"
    for field in chosen:
        key = (names or {}).get(field.name, field.name)
        yield f"| `{key}` | {_default(field)} | {_cell(meanings[field.name])} |"
    yield ""


def _components(title: str, kinds: Mapping[str, type], tag: str = "") -> Iterator[str]:
    yield f"{title}\n"
    for name, kind in kinds.items():
        text, meanings = _docstring(kind)
        yield f"- `{tag}{name}`: {_cell(text)}"
        for field in fields(kind):
            meaning = f": {_cell(meanings[field.name])}" if field.name in meanings else ""
            yield f"  - `{field.name}` ({_default(field)}){meaning}"
    yield ""


def _transforms(name: str) -> Mapping[str, type]:
    from picoquant.data import transforms  # imports OpenCV

    return getattr(transforms, name)


def _docstring(settings: type) -> tuple[str, dict[str, str]]:
    """What stands before `Attributes:`, and the meaning of each key named below it."""
    text, _, attributes = (inspect.getdoc(settings) or "").partition("\nAttributes:\n")
    attributes = re.split(r"\n\n|\nRaises:", attributes)[0]
    meanings: dict[str, str] = {}
    for entry in re.split(r"\n(?=    \S)", "\n" + attributes):
        names, colon, meaning = entry.strip().partition(":")
        if colon:
            meaning = re.sub(r"^`Train\.\w+`: *", "", meaning.strip())
            meanings.update(dict.fromkeys(re.split(r",\s*", names), meaning))
    return text, meanings


def _default(field: Any) -> str:
    value = field.default
    if field.default_factory is not MISSING:
        value = field.default_factory()
    if value is MISSING:
        return "needed"
    if is_dataclass(value):
        value = type(value).__name__
    return f"`{value if isinstance(value, str) else json.dumps(value)}`" if value != "" else "empty"


def _cell(text: str) -> str:
    """Text as one line of a table, with YAML's word for nothing."""
    return re.sub(r"\bNone\b", "null", " ".join(text.split()).replace("|", "\\|"))


def _names(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names)) + "."


if __name__ == "__main__":
    print(reference(), end="")
