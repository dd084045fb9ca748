"""Data sets, readers and the network's input, from a recipe's PaddleDetection sections."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

from picoquant.config.recipe import Recipe
from picoquant.config.sections import network_size
from picoquant.data.formats.folder import DataFolder, settings_for
from picoquant.data.input_size import with_input_size
from picoquant.data.preparation import MEAN, PLACES, STD
from picoquant.data.settings import DatasetSettings, ReaderSettings, TransformSpec
from picoquant.errors import ConfigError
from picoquant.paddle_program.infer_config import InferConfig
from picoquant.utils.device import available_cpus
from picoquant.yaml_files.load import Tagged

LOG = logging.getLogger("picoquant")


def dataset_settings(
    recipe: Recipe, section: str, known: dict[str, DataFolder] | None = None
) -> DatasetSettings:
    """Section `TrainDataset` or `EvalDataset`; COCO when the section has neither `!Tag` nor `type`.

    `type: auto` looks at `dataset_dir` for what it holds, and says that in one line.

    Args:
        recipe: with the section.
        section: which.
        known: folders that were recognised before; what this section's holds is added.

    Raises: `ConfigError` naming the key; `DataError` for a folder in which nothing is recognised.
    """
    values = recipe.document.get(section)
    if not isinstance(values, dict):
        raise ConfigError(f"{section}: expected !COCODataSet with dataset_dir, image_dir and anno_path")
    tag = values.tag if isinstance(values, Tagged) else values.get("name", "COCODataSet")
    tag = str(values.get("type") or tag)
    given = {key: value for key, value in values.items() if key not in ("name", "type")}
    if tag == "auto":
        return _recognised(given, section, known)
    return DatasetSettings.from_mapping(tag, given, section)


def _recognised(values: dict[str, Any], section: str, known: dict[str, DataFolder] | None) -> DatasetSettings:
    """Settings of the section's part of a folder, with what the section says beside `dataset_dir`."""
    own = DatasetSettings.from_mapping("folder", values, section)
    if not own.dataset_dir:
        raise ConfigError(f"{section}.dataset_dir is missing; type auto looks into that folder")
    found = settings_for(own.dataset_dir, section, known)
    skipped = ("format", "section", "dataset_dir")
    said = {field.name: getattr(own, field.name) for field in fields(own) if field.name in values}
    return replace(found, **{key: value for key, value in said.items() if key not in skipped})


def reader_settings(recipe: Recipe, section: str) -> ReaderSettings:
    """Section `TrainReader` or `EvalReader`, at `Global.input_size` where that is set.

    Raises: `ConfigError` naming the key, transform or parameter, or sizes of another input.
    """
    values = recipe.document.get(section)
    if not isinstance(values, dict):
        raise ConfigError(f"{section}: expected sample_transforms, batch_transforms and batch_size")
    settings = ReaderSettings.from_mapping(_without_targets(values), section)
    size = recipe.common.input_size
    if not size:
        return settings
    own = {key.removeprefix(f"{section}.") for key in recipe.as_written if key.startswith(f"{section}.")}
    return with_input_size(settings, size, own, _made_for(recipe) if own else None)


def _made_for(recipe: Recipe) -> tuple[int, int] | None:
    """The size that a configuration's readers are made for, by EvalReader, where that is not the recipe's own."""
    values = recipe.document.get("EvalReader")
    if not isinstance(values, dict) or any(key.startswith("EvalReader.") for key in recipe.as_written):
        return recipe.common.input_size
    return _resize_of(ReaderSettings.from_mapping(_without_targets(values), "EvalReader"))


def as_used(recipe: Recipe) -> dict[str, Any]:
    """The recipe's document, its readers with the sizes that they have at `Global.input_size`.

    So it says what is used, and read again it is the same, whatever place each size came from.
    """
    document = dict(recipe.document)
    for section in ("TrainReader", "EvalReader") if recipe.common.input_size else ():
        try:
            made = reader_settings(recipe, section)
        except ConfigError:  # of a section that is not used, or else whoever uses it says so
            continue
        document[section] = dict(recipe.document[section])
        for key, specs in (
            ("sample_transforms", made.sample_transforms),
            ("batch_transforms", made.batch_transforms),
        ):
            if isinstance(document[section].get(key), list):
                document[section][key] = _with_parameters(document[section][key], specs)
    return document


def _with_parameters(entries: list[Any], specs: Sequence[TransformSpec]) -> list[Any]:
    """A reader's transforms as written, with the parameters of `specs`, which leaves Gt2GFLTarget out."""
    left, found = list(specs), []
    for entry in entries:
        named = dict(entry) if isinstance(entry, dict) else {entry: None}
        if "Gt2GFLTarget" not in named:
            spec = left.pop(0)
            params = dict(spec.params)
            if params != (named[spec.name] or {}):
                entry = {spec.name: params}
        found.append(entry)
    return found


def _without_targets(values: dict[str, Any]) -> dict[str, Any]:
    """The section without August 2021's Gt2GFLTarget: the head assigns its own targets (its parameters
    are read by `config.detector`)."""
    transforms = values.get("batch_transforms")
    if not isinstance(transforms, list):
        return values
    kept = [entry for entry in transforms if not (isinstance(entry, dict) and "Gt2GFLTarget" in entry)]
    return {**values, "batch_transforms": kept}


def resized_to(reader: ReaderSettings) -> tuple[int, int]:
    """Height and width, pixels, that EvalReader resizes to.

    Raises: `ConfigError` when it does not resize.
    """
    size = _resize_of(reader)
    if size is None:
        raise ConfigError("EvalReader.sample_transforms has no Resize; set Global.input_size=[height,width]")
    return size


def _resize_of(reader: ReaderSettings) -> tuple[int, int] | None:
    made = reader.preparation
    return None if made is None else made.size


_IMAGE_SHAPE = "TestReader.inputs_def.image_shape"


def export_size(recipe: Recipe, reader: ReaderSettings) -> tuple[tuple[int, int], str]:
    """Height and width that a network is exported for, and one line that says which of several sizes that is.

    First counts `Global.input_size`, then `TestReader.inputs_def.image_shape` (by which PaddleDetection sets the size
    of an export), then what EvalReader resizes to; a shape that the command sets comes before a file's size. The line
    is empty where all that are there are the same.

    Args:
        recipe: with the first two.
        reader: EvalReader's settings.

    Raises: `ConfigError` when none says it, or the network cannot have such an input.
    """
    common, shape = recipe.common.input_size, _image_shape(recipe)
    found = {"Global.input_size": common, _IMAGE_SHAPE: shape}
    if _IMAGE_SHAPE in recipe.named and "Global.input_size" not in recipe.named:
        found = dict(reversed(found.items()))
    if common is None:
        found["EvalReader's Resize"] = resized_to(reader) if shape is None else _resize_of(reader)
    (source, size), *others = ((source, size) for source, size in found.items() if size is not None)
    differ = ", ".join(f"{other} says {h}x{w}" for other, (h, w) in others if (h, w) != size)
    return size, f"input of {size[0]}x{size[1]} (height x width), from {source}; {differ}" if differ else ""


def _image_shape(recipe: Recipe) -> tuple[int, int] | None:
    """`[3, height, width]`, or the same behind a batch size; -1 or null: any, which settles nothing."""
    values: Any = recipe.document
    for key in _IMAGE_SHAPE.split("."):
        values = values.get(key) if isinstance(values, dict) else None
    if values is None:
        return None
    if not isinstance(values, (list, tuple)) or len(values) not in (3, 4) or values[-3] not in (3, -1, None):
        raise ConfigError(
            f"{_IMAGE_SHAPE}: expected [3, height, width] or [1, 3, height, width], found {values!r}"
        )
    if all(side in (-1, None) for side in values[-2:]):
        return None
    return network_size(values[-2:], _IMAGE_SHAPE)


def preprocessing(reader: ReaderSettings, input_size: tuple[int, int]) -> dict[str, Any]:
    """How EvalReader makes the network's input, as fields of `picoquant.export.InferConfig`.

    Args:
        reader: EvalReader's settings.
        input_size: height and width of the network's input, pixels.
    """
    found: dict[str, Any] = {"input_size": input_size}
    made = reader.preparation
    if made is not None:
        found |= {"interp": made.interp, "keep_ratio": made.keep_ratio}
        if made.keep_ratio:
            found |= {"padding": made.padding, "fill": made.fill}
    normalise = _transform(reader, "NormalizeImage")
    if normalise is None:  # pixels stay as they are
        return {**found, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "is_scale": False}
    found["is_scale"] = bool(normalise.params.get("is_scale", True))
    if normalise.params.get("norm_type") == "none":
        return {**found, "mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0)}
    for key, default in (("mean", MEAN), ("std", STD)):
        found[key] = tuple(float(value) for value in normalise.params.get(key, default))
    return found


def between_normalisations(
    reader: ReaderSettings, other: ReaderSettings
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Scale and shift of R, G and B: an image of `reader` * scale + shift is that of `other`."""
    ours, theirs = (_of_whole_pixels(preprocessing(one, (0, 0))) for one in (reader, other))
    scale = tuple(std / other_std for std, other_std in zip(ours[1], theirs[1]))
    shift = tuple((mean - other_mean) / other_std for mean, other_mean, other_std in zip(ours[0], *theirs))
    return scale, shift


def _of_whole_pixels(found: Mapping[str, Any]) -> tuple[list[float], list[float]]:
    """Mean and deviation of pixels from 0 to 255."""
    factor = 255.0 if found["is_scale"] else 1.0
    defaults = {"mean": InferConfig.mean, "std": InferConfig.std}
    mean, std = ([value * factor for value in found.get(key, defaults[key])] for key in ("mean", "std"))
    return mean, std


def tell_other_test_reader(recipe: Recipe, reader: ReaderSettings) -> None:
    """Say where TestReader, by which PaddleDetection prepares the images of an export, differs from EvalReader.

    The export gets what EvalReader does, by which it is evaluated.

    Args:
        recipe: with section `TestReader`.
        reader: EvalReader's settings.
    """
    values = recipe.document.get("TestReader")
    if not isinstance(values, dict):
        return
    if values.get("fuse_normalize"):
        LOG.warning(
            "TestReader.fuse_normalize: accepted, but without effect here: the export takes normalised images"
        )
    if not values.get("sample_transforms"):
        return
    test = ReaderSettings.from_mapping(_without_targets(values), "TestReader")
    for name in ("Resize", "LetterBoxResize", "Pad", "NormalizeImage"):
        steps = _transform(test, name), _transform(reader, name)
        params = [{} if step is None else _plain(step.params) for step in steps]
        for each in params:  # `export_size` says which size it is
            each.pop("target_size", None)
            each.pop("size", None)
        differ = [
            key for key in dict.fromkeys([*params[0], *params[1]]) if params[0].get(key) != params[1].get(key)
        ]
        if (steps[0] is None) != (steps[1] is None) or differ:
            LOG.warning(
                "TestReader.sample_transforms: %s is %s, EvalReader's %s: the export gets EvalReader's, by which it is "
                "evaluated",
                name,
                "absent" if steps[0] is None else params[0],
                "absent" if steps[1] is None else params[1],
            )


def _plain(params: Mapping[str, Any]) -> dict[str, Any]:
    """Parameters as values that can be compared: lists and tuples are one kind."""
    return {key: list(value) if isinstance(value, (list, tuple)) else value for key, value in params.items()}


def with_model_preprocessing(reader: ReaderSettings, config: Any) -> ReaderSettings:
    """The evaluation reader that makes what an exported model's `infer_cfg.yml` asks for."""
    size = list(config.input_size)
    resize = {"target_size": size, "interp": config.interp, "keep_ratio": config.keep_ratio}
    normalise = {"mean": list(config.mean), "std": list(config.std), "is_scale": config.is_scale}
    pad = {
        "size": size,
        "pad_mode": PLACES.index(config.padding),
        "fill_value": list(config.fill or (0, 0, 0)),
    }
    steps = [("Decode", {}), ("Resize", resize), ("NormalizeImage", normalise), ("Permute", {})]
    if config.keep_ratio:  # the colour 0 behind NormalizeImage is 0 there
        steps.insert(3 if config.fill is None else 2, ("Pad", pad))
    transforms = tuple(TransformSpec(name, params) for name, params in steps)
    return replace(reader, sample_transforms=transforms, batch_transforms=())


def tell_other_preparation(recipe: Recipe, reader: ReaderSettings, config: InferConfig) -> str:
    """What a command says of EvalReader's images that an exported model has otherwise; empty for nothing.

    Args:
        recipe: with what the command names.
        reader: EvalReader's settings.
        config: the model's `infer_cfg.yml`.
    """
    lists = ("EvalReader.sample_transforms", "EvalReader.batch_transforms")
    named = sorted(key for key in recipe.named if key.startswith(lists))
    if not named or reader.preparation is None:
        return ""
    asked = preprocessing(reader, reader.preparation.size)
    differ = [
        f"{key} {_shown(getattr(config, key))}, not {_shown(value)}"
        for key, value in asked.items()
        if hasattr(config, key) and _shown(getattr(config, key)) != _shown(value)
    ]
    return f"{', '.join(named)}: the exported model has its own: {', '.join(differ)}" if differ else ""


def _shown(value: Any) -> str:
    return str(list(value) if isinstance(value, (list, tuple)) else value)


def workers(recipe: Recipe) -> int:
    """`worker_num`, but not more processes than the machine has cores.

    Raises: `ConfigError` when it is no count.
    """
    wanted = recipe.document.get("worker_num", 2)
    if not isinstance(wanted, int) or wanted < 0:
        raise ConfigError(f"worker_num: expected a whole number from 0, found {wanted!r}")
    most = available_cpus()
    if wanted > most and "worker_num" in recipe.named:
        LOG.info("worker_num: %d, as this machine has no more processors (not %d)", most, wanted)
    return min(wanted, most)


def _transform(reader: ReaderSettings, name: str) -> TransformSpec | None:
    steps = (*reader.sample_transforms, *reader.batch_transforms)
    return next((spec for spec in steps if spec.name == name), None)
