"""One knob for the network's input: it overrides the sizes that a reader's transforms name."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from picoquant.data.reader_checks import STEP
from picoquant.data.settings import ReaderSettings, TransformSpec
from picoquant.errors import ConfigError
from picoquant.utils import setting_checks as checks

LEAST = 64  # the stride of the last level
_RANDOM = ("BatchRandomResize", "RandomResize")


def with_input_size(settings: ReaderSettings, size: tuple[int, int]) -> ReaderSettings:
    """The reader for a network whose input is `size` (height, width).

    `Resize`, `LetterBoxResize` and `Pad` get `size`. `BatchRandomResize` and `RandomResize` keep the offsets that their
    sizes have from the middle one, now from `size`, as far as they change the input by no greater part than before: 320
    to 512 around 416 becomes 256 to 384 around 320, and 128 to 192 around 160. `Mosaic.input_dim` keeps its ratio to
    the middle size, rounded to a multiple of 32. Sizes of `RandomResize` in front of a `Pad` with a size stay the
    same parts of that.

    Raises: `ConfigError` when the size is no multiple of 32, or smaller than 64.
    """
    height, width = checks.size("input_size", size)
    for side in (height, width):
        if side % STEP or side < LEAST:
            raise ConfigError(
                f"input_size must be multiples of {STEP} of at least {LEAST}, not {height}x{width}"
            )
    padded = _padded(settings)
    middle = padded or _middle(settings)

    def adapt(spec: TransformSpec) -> TransformSpec:
        if spec.name in ("Resize", "LetterBoxResize"):
            return spec.replace(target_size=[height, width])
        if spec.name == "Pad":
            return spec if spec.params.get("size") is None else spec.replace(size=[height, width])
        if spec.name in _RANDOM:
            if spec.params.get("random_range"):
                raise ConfigError(
                    f"{settings.section}: input_size does not say what RandomResize with random_range draws from: set "
                    "its target_size"
                )
            if not spec.params.get("random_size", True):
                return spec.replace(target_size=[height, width])
            if spec.name == "RandomResize" and padded is not None:
                return spec.replace(target_size=_within((height, width), _sizes(spec), padded))
            return spec.replace(target_size=_around((height, width), _sizes(spec)))
        if spec.name == "Mosaic" and middle is not None:
            dims = checks.size("input_dim", spec.params.get("input_dim", 640))
            parts = zip(dims, (height, width), middle)
            return spec.replace(input_dim=[max(_multiple(dim * new / old), STEP) for dim, new, old in parts])
        return spec

    return replace(
        settings,
        sample_transforms=tuple(adapt(spec) for spec in settings.sample_transforms),
        batch_transforms=tuple(adapt(spec) for spec in settings.batch_transforms),
    )


def largest_input(settings: ReaderSettings, otherwise: tuple[int, int]) -> tuple[int, int]:
    """The largest height and width that a reader's batches have: of those that are drawn, or of the network's input.

    Args:
        settings: of the reader.
        otherwise: height and width where no transform of batches names any.
    """
    specs = (*settings.sample_transforms, *settings.batch_transforms)
    sizes = [
        (max(size), max(size))
        if spec.params.get("keep_ratio", True)
        else size  # one upright, another lying image
        for spec in specs
        if spec.name in _RANDOM
        for size in (_sizes(spec) if spec.params.get("random_size", True) else [_one_size(spec)])
    ]
    padded = [
        checks.size("size", spec.params["size"])
        for spec in specs
        if spec.name == "Pad" and spec.params.get("size")
    ]
    sizes = padded or sizes
    return max(sizes, key=lambda size: size[0] * size[1], default=otherwise)


def _one_size(spec: TransformSpec) -> tuple[int, int]:
    return checks.size("target_size", spec.params["target_size"])


def _sizes(spec: TransformSpec) -> list[tuple[int, int]]:
    return sorted(checks.size("target_size", size) for size in spec.params["target_size"])


def _middle(settings: ReaderSettings) -> tuple[int, int] | None:
    """The size that a reader's transforms are made for, or None when none names one."""
    for spec in (*settings.batch_transforms, *settings.sample_transforms):
        if spec.name in _RANDOM and spec.params.get("random_size", True):
            sizes = _sizes(spec)
            return sizes[(len(sizes) - 1) // 2]
        if spec.name in ("Resize", "LetterBoxResize", *_RANDOM):
            return checks.size("target_size", spec.params["target_size"])
    return None


def _around(size: tuple[int, int], old: list[tuple[int, int]]) -> list[Any]:
    """Sizes around `size` with the offsets that `old` has around its middle."""
    middle = old[(len(old) - 1) // 2]
    offsets = [[_multiple(part - centre) for part, centre in zip(item, middle)] for item in old]
    most = [max(abs(offset[axis]) for offset in offsets) for axis in (0, 1)]
    new = []
    for offset in offsets:
        moved = [side + move for side, move in zip(size, offset)]
        fits = all(
            abs(offset[axis]) * middle[axis] <= most[axis] * size[axis] and moved[axis] >= LEAST
            for axis in (0, 1)
        )
        if fits:
            new.append(moved)
    return new


def _padded(settings: ReaderSettings) -> tuple[int, int] | None:
    """The size that images are padded to, or None."""
    named = (spec.params.get("size") for spec in settings.sample_transforms if spec.name == "Pad")
    return next((checks.size("size", size) for size in named if size is not None), None)


def _within(size: tuple[int, int], old: list[tuple[int, int]], padded: tuple[int, int]) -> list[Any]:
    """Sizes that are the same parts of `size` as `old` of `padded`, in multiples of 32, each once."""
    parts = [
        [max(_multiple(side * new / was), STEP) for side, new, was in zip(each, size, padded)] for each in old
    ]
    return [each for place, each in enumerate(parts) if each not in parts[:place]]


def _multiple(value: float) -> int:
    """The nearest multiple of 32."""
    return int(round(value / STEP)) * STEP
