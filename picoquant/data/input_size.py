"""One knob for the network's input: the sizes of a reader's transforms follow it, unless they are meant as written."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from picoquant.data.reader_checks import STEP
from picoquant.data.settings import ReaderSettings, TransformSpec
from picoquant.errors import ConfigError
from picoquant.utils import setting_checks as checks

LEAST = 64  # the stride of the last level
_RANDOM = ("BatchRandomResize", "RandomResize")


# Transform -> the parameter that is a size.
_SIZES = {
    "Resize": "target_size", "LetterBoxResize": "target_size", "BatchRandomResize": "target_size",
    "RandomResize": "target_size", "Pad": "size", "Mosaic": "input_dim",
}  # fmt: skip


def with_input_size(
    settings: ReaderSettings,
    size: tuple[int, int],
    as_written: Collection[str] = (),
    made_for: tuple[int, int] | None = None,
) -> ReaderSettings:
    """The reader for a network whose input is `size` (height, width).

    `Resize`, `LetterBoxResize` and `Pad` get `size`. `BatchRandomResize` and `RandomResize` keep the offsets that their
    sizes have from the middle one, now from `size`, as far as they change the input by no greater part than before: 320
    to 512 around 416 becomes 256 to 384 around 320, and 128 to 192 around 160. `Mosaic.input_dim` keeps its ratio to
    the middle size, rounded to a multiple of 32. Sizes of `RandomResize` in front of a `Pad` with a size stay the
    same parts of that.

    Args:
        settings: of the reader.
        size: height and width, pixels.
        as_written: keys of the section whose sizes stay as they are: `batch_transforms`, or
            `batch_transforms.0.BatchRandomResize.target_size`.
        made_for: the size that the other transforms are made for, where all that name one stay.

    Raises: `ConfigError` when the size is no multiple of 32, or smaller than 64; and when a size that stays is of
        another input.
    """
    height, width = checks.size("input_size", size)
    for side in (height, width):
        if side % STEP or side < LEAST:
            raise ConfigError(
                f"input_size must be multiples of {STEP} of at least {LEAST}, not {height}x{width}"
            )
    kinds = {"sample_transforms": settings.sample_transforms, "batch_transforms": settings.batch_transforms}
    stay = {
        (kind, place): _stays(f"{kind}.{place}.{spec.name}.{_SIZES[spec.name]}", as_written)
        for kind, specs in kinds.items()
        for place, spec in enumerate(specs)
        if spec.name in _SIZES
    }
    follow = {
        kind: [spec for place, spec in enumerate(specs) if not stay.get((kind, place))]
        for kind, specs in kinds.items()
    }
    padded = _padded(follow["sample_transforms"])
    middle = padded or _middle([*follow["batch_transforms"], *follow["sample_transforms"]]) or made_for

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

    def held(spec: TransformSpec) -> TransformSpec:
        """As written; in the form of the others where these are the same sizes, for the fingerprints of runs."""
        other = spec if spec.params.get("random_range") else adapt(spec)
        return other if _named(other) == _named(spec) else spec

    adapted = {
        kind: tuple(
            held(spec) if stay.get((kind, place)) else adapt(spec) for place, spec in enumerate(specs)
        )
        for kind, specs in kinds.items()
    }
    made = replace(settings, **adapted)
    if any(stay.values()):
        _require_around(made, (height, width))
    return made


def _stays(key: str, as_written: Collection[str]) -> bool:
    """Whether a parameter, its transform, its list or a part of it is among these keys."""
    return any(f"{key}.".startswith(f"{one}.") or one.startswith(f"{key}.") for one in as_written)


def _require_around(reader: ReaderSettings, size: tuple[int, int]) -> None:
    """Raises: `ConfigError` where a reader makes images that are none of a network of this input."""
    if reader.section != "TrainReader":
        found = [] if reader.preparation is None else [reader.preparation.size]
    else:
        found = training_sizes(reader)
    if not found or all(
        min(one[axis] for one in found) <= size[axis] <= max(one[axis] for one in found) for axis in (0, 1)
    ):
        return
    raise ConfigError(
        f"{reader.section}: its transforms name {sizes_text(found)} where Global.input_size is {size[0]}x{size[1]}, by "
        "the same file or a later one: leave out one of the two; sizes of a file follow the --input-size of a command"
    )


def training_sizes(settings: ReaderSettings) -> list[tuple[int, int]]:
    """The heights and widths that a training reader resizes or pads to; empty where it does neither."""
    specs = (*settings.sample_transforms, *settings.batch_transforms)
    padded = _padded(settings.sample_transforms)
    if padded is not None:
        return [padded]
    resizes = [spec for spec in specs if spec.name.endswith("Resize")]
    return _named(resizes[-1]) if resizes else []


def sizes_text(sizes: Sequence[tuple[int, int]]) -> str:
    """`320x320`, or `256x256 to 384x384` of several."""
    ends = min(sizes), max(sizes)
    return " to ".join(dict.fromkeys(f"{height}x{width}" for height, width in ends))


def largest_input(settings: ReaderSettings, otherwise: tuple[int, int]) -> tuple[int, int]:
    """The largest height and width that a reader's batches have: of those that are drawn, or of the network's input.

    Args:
        settings: of the reader.
        otherwise: height and width where no transform of batches names any.
    """
    specs = (*settings.sample_transforms, *settings.batch_transforms)
    sizes = [size for spec in specs if spec.name in _RANDOM for size in _of_batches(spec)]
    padded = [
        checks.size("size", spec.params["size"])
        for spec in specs
        if spec.name == "Pad" and spec.params.get("size")
    ]
    sizes = padded or sizes
    return max(sizes, key=lambda size: size[0] * size[1], default=otherwise)


def _of_batches(spec: TransformSpec) -> list[tuple[int, int]]:
    """Heights and widths of the batches that a transform makes: of an upright and a lying image, if it keeps them."""
    keeps = spec.params.get("keep_ratio", True)
    return [(max(size), max(size)) if keeps else size for size in _named(spec)]


def _named(spec: TransformSpec) -> list[tuple[int, int]]:
    """The sizes that a transform names, of several the smallest first."""
    value = spec.params.get(_SIZES[spec.name], 640 if spec.name == "Mosaic" else None)
    if spec.name in _RANDOM and spec.params.get("random_size", True):
        return _sizes(spec)
    return [] if value is None else [checks.size(_SIZES[spec.name], value)]


def _sizes(spec: TransformSpec) -> list[tuple[int, int]]:
    return sorted(checks.size("target_size", size) for size in spec.params["target_size"])


def _middle(specs: Sequence[TransformSpec]) -> tuple[int, int] | None:
    """The size that a reader's transforms are made for, or None when none names one."""
    for spec in specs:
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


def _padded(specs: Sequence[TransformSpec]) -> tuple[int, int] | None:
    """The size that images are padded to, or None."""
    named = (spec.params.get("size") for spec in specs if spec.name == "Pad")
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
