"""What must not stand together in a reader's transforms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from picoquant.errors import ConfigError
from picoquant.utils import setting_checks as checks

STEP = 32  # the network halves its input five times before the last level

_UNCHANGING = ("Decode", "Resize", "LetterBoxResize", "Pad", "NormalizeImage", "Permute", "PadBatch", "PadGT")
# What works on colours of 0 to 255, and so before NormalizeImage; Pad may come after it to pad with 0.
_OF_COLOURS = ("Mosaic", "Mixup", "Cutmix", "AutoAugment", "RandomExpand", "LetterBoxResize")


def require_as_it_is(names: list[str], where: str) -> None:
    """Raises: `ConfigError` for what changes images at random, and for what an export cannot have twice."""
    for name in names:
        if name not in _UNCHANGING:
            raise ConfigError(
                f"{where}: {name} changes images at random, and boxes are counted on them as they are; leave it to "
                "TrainReader"
            )
    for name in ("Resize", "NormalizeImage", "Pad"):
        if names.count(name) > 1 or (name == "Resize" and {"Resize", "LetterBoxResize"} <= set(names)):
            raise ConfigError(f"{where}: more than one {name}; an export can have one")


def require_order(specs: Sequence[Any], where: str) -> None:
    """Raises: `ConfigError` for what mixes colours with normalised values."""
    names = [spec.name for spec in specs]
    for name in ("NormalizeImage", "Permute"):
        behind = specs[names.index(name) + 1 :] if name in names else ()
        for spec in behind:
            fill = spec.params.get("fill_value", 127.5)
            filled = spec.name == "Pad" and (name == "Permute" or any(checks.listed(fill)))
            if spec.name in _OF_COLOURS or filled:
                also = ", or give it fill_value: 0" if spec.name == "Pad" and name == "NormalizeImage" else ""
                raise ConfigError(
                    f"{where}: {spec.name} works on colours of 0 to 255: put it before {name}{also}"
                )


def require_one_size(reader: Any) -> None:
    """Raises: `ConfigError` where images of a training batch keep their ratio and nothing makes one size of them."""
    specs = (*reader.sample_transforms, *reader.batch_transforms)
    names = [spec.name for spec in specs]
    last = max((place for place, name in enumerate(names) if name.endswith("Resize")), default=-1)
    default = names[last] == "RandomResize"  # of keep_ratio
    if last < 0 or names[last] == "LetterBoxResize" or not specs[last].params.get("keep_ratio", default):
        return
    behind = [spec for spec in specs[last:] if spec.name in ("Pad", "PadBatch")]
    sizes = [spec.params["size"] for spec in behind if spec.params.get("size") is not None]
    steps = [
        spec.params.get("pad_to_stride", 0) if spec.name == "PadBatch" else _divisor(spec) for spec in behind
    ]
    together = any(spec.name == "PadBatch" for spec in behind) and any(
        step and step % STEP == 0 for step in steps
    )
    largest = [_largest(specs[last]), *map(_sides, sizes)]
    if sizes and any(
        min(found) > min(size) or max(found) > max(size) for found in largest[:1] for size in largest[1:]
    ):
        raise ConfigError(
            f"{reader.section}: {names[last]} makes images of up to {largest[0][0]}x{largest[0][1]}, which do not fit "
            f"into Pad's {largest[1][0]}x{largest[1][1]}: give Pad the largest size that is drawn"
        )
    if sizes and not together and any(side % STEP for side in largest[-1]):
        raise ConfigError(
            f"{reader.section}: Pad.size {largest[-1][0]}x{largest[-1][1]}: the network takes multiples of {STEP}"
        )
    if not sizes and not together:
        raise ConfigError(
            f"{reader.section}: {names[last]} with keep_ratio leaves images of different sizes: add "
            f"PadBatch: {{pad_to_stride: {STEP}}} to batch_transforms, or Pad with the network's size behind it"
        )


def _divisor(pad: Any) -> int:
    return pad.params.get("size_divisor", STEP)


def _sides(size: Any) -> tuple[int, int]:
    return checks.size("size", size)


def _largest(spec: Any) -> tuple[int, int]:
    """The largest of the sizes that are drawn, of a transform that was checked."""
    params = spec.params
    drawn = spec.name != "Resize" and (params.get("random_size", True) or params.get("random_range"))
    sizes = params["target_size"] if drawn else [params["target_size"]]
    height, width = max(map(_sides, sizes), key=lambda size: (max(size), min(size)))
    return (height, width + 1) if params.get("random_range") else (height, width)  # as PaddleDetection draws


def require_schedule(
    entries: Any, names: Sequence[str], where: str
) -> tuple[tuple[str, int, int | None], ...]:
    """Name, first epoch and the one before which it ends (None: none) of each entry of `transform_schedulers`.

    Args:
        entries: `[{Name: {start_epoch, stop_epoch}}]`.
        names: of the reader's transforms.
        where: the key, for messages.

    Raises: `ConfigError` for another form, or a transform that is not there.
    """
    found = []
    for entry in checks.listed(entries or ()) if isinstance(entries, (list, tuple)) else [entries]:
        name, epochs = (
            next(iter(entry.items())) if isinstance(entry, Mapping) and len(entry) == 1 else ("", None)
        )
        if not isinstance(epochs, Mapping) or set(epochs) - {"start_epoch", "stop_epoch"}:
            raise ConfigError(
                f"{where}: every entry is `Name: {{start_epoch: 0, stop_epoch: 10}}`, not {entry!r}"
            )
        if name not in names:
            raise ConfigError(f"{where}: {name} is none of the reader's transforms: {', '.join(names)}")
        stop = epochs.get("stop_epoch")
        start = checks.whole(f"{where}.{name}.start_epoch", epochs.get("start_epoch", 0), 0)
        found.append(
            (name, start, None if stop is None else checks.whole(f"{where}.{name}.stop_epoch", stop, 0))
        )
    return tuple(found)
