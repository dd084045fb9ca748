"""Transforms with PaddleDetection's names and parameters, one concept a file.

A transform of one sample is called with (sample, rng); one of a batch with (samples, rng). All that is
random comes from the generator that is passed in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from typing import Any

from picoquant.data.preparation import Preparation
from picoquant.data.transforms.autoaugment import AutoAugment
from picoquant.data.transforms.canvas import Pad, RandomExpand
from picoquant.data.transforms.crop import RandomCrop
from picoquant.data.transforms.decode import Decode
from picoquant.data.transforms.distort import RandomDistort
from picoquant.data.transforms.fit import FillInput, FitResize, LetterBoxResize
from picoquant.data.transforms.flip import RandomFlip
from picoquant.data.transforms.hsv import AugmentHSV
from picoquant.data.transforms.mix import Cutmix, Mixup
from picoquant.data.transforms.mosaic import Mosaic
from picoquant.data.transforms.normalize import NormalizeImage, Permute
from picoquant.data.transforms.pad import PadBatch, PadGT
from picoquant.data.transforms.resize import BatchRandomResize, RandomResize, Resize
from picoquant.data.transforms.sample import EachSample
from picoquant.data.transforms.unsupported import UNSUPPORTED
from picoquant.errors import NOT_SUPPORTED, ConfigError
from picoquant.utils.suggest import suggestion, unknown_key

__all__ = ["BATCH_TRANSFORMS", "SAMPLE_TRANSFORMS", "build_transform", "fitted"]

SAMPLE_TRANSFORMS = {
    kind.__name__: kind
    for kind in (
        Decode,
        Mosaic,
        Mixup,
        Cutmix,
        AutoAugment,
        AugmentHSV,
        RandomExpand,
        RandomCrop,
        RandomDistort,
        RandomFlip,
        Resize,
        RandomResize,
        LetterBoxResize,
        Pad,
        NormalizeImage,
        Permute,
    )
}
BATCH_TRANSFORMS = {kind.__name__: kind for kind in (BatchRandomResize, PadBatch, PadGT)}
_ALSO_IN_BATCH = {kind.__name__: kind for kind in (Resize, NormalizeImage, Permute)}


def build_transform(name: str, params: Mapping[str, Any], where: str, batch: bool) -> Any:
    """Build a transform by PaddleDetection's name.

    Args:
        name: the transform.
        params: its parameters.
        where: the section it stands in, for messages, for example `TrainReader.sample_transforms`.
        batch: whether the section is batch_transforms.

    Raises: `ConfigError` naming a transform or parameter that is not known, missing or wrong.
    """
    known = {**BATCH_TRANSFORMS, **_ALSO_IN_BATCH} if batch else SAMPLE_TRANSFORMS
    if name not in known:
        elsewhere = SAMPLE_TRANSFORMS if batch else BATCH_TRANSFORMS
        if name in elsewhere:
            right = "sample_transforms" if batch else "batch_transforms"
            raise ConfigError(f"{where}: {name} belongs into {right}")
        if name in UNSUPPORTED:
            raise ConfigError(
                f"{where}: {name} of PaddleDetection is not supported ({UNSUPPORTED[name]}): leave it out; "
                f"{NOT_SUPPORTED}"
            )
        hint = suggestion(name, [*SAMPLE_TRANSFORMS, *BATCH_TRANSFORMS])
        listing = "" if hint else f"; known: {', '.join(known)}"
        raise ConfigError(f"{where}: unknown transform {name}{hint}{listing}")
    kind = known[name]
    parameters = {entry.name: entry for entry in fields(kind)}
    for key in params:
        if key not in parameters:
            raise unknown_key(f"{where}.{name}", str(key), parameters)
    for key, entry in parameters.items():
        if entry.default is MISSING and key not in params:
            raise ConfigError(f"{where}.{name}: {key} is missing")
    try:
        transform = kind(**params)
    except ConfigError as error:
        raise ConfigError(f"{where}.{name}: {error}") from error
    return EachSample(transform) if batch and name in _ALSO_IN_BATCH else transform


def fitted(samples: list[Any], batches: list[Any], made: Preparation) -> tuple[list[Any], list[Any]]:
    """An evaluation reader's transforms with those that resize and pad replaced by what fills the network's input.

    Args:
        samples, batches: as they stand in the configuration.
        made: what they come to, with keep_ratio.
    """
    every = [*samples, *(each.transform if isinstance(each, EachSample) else each for each in batches)]
    normalise = next((each for each in every if isinstance(each, NormalizeImage)), None)
    kept = [each for each in every if isinstance(each, (NormalizeImage, Permute))]
    fill = (0.0, 0.0, 0.0) if made.fill is None else made.fill
    if made.fill is not None and normalise is not None:
        fill = normalise.of_colour(made.fill)
    resize = FitResize(made.size, made.interp, made.padding)
    return [every[0], resize, *kept, FillInput(made.size, fill)], []
