"""`picoquant data check`: what is in data sets, and what of it stops or spoils a training."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any

from picoquant.commands.data.sources import SHORT, Sources
from picoquant.data.class_names import in_training_order
from picoquant.data.dataset import Dataset
from picoquant.data.formats.load import load_dataset
from picoquant.data.inspection.copies import copies
from picoquant.data.inspection.faults import decoding_faults, errors, unreadable, warnings
from picoquant.data.inspection.statistics import NetworkInput, Statistics, statistics
from picoquant.data.settings import DatasetSettings
from picoquant.errors import DataError

LOG = logging.getLogger("picoquant")

EXAMPLES = 3  # of images of one kind


@dataclass(frozen=True)
class CheckResult:
    """What was found.

    Attributes:
        network: what the boxes' sizes count in.
        settings: where the data sets are, by section; that of one that cannot be read, too.
        datasets, counted: what could be read, and its counts, by section.
        notes: what was said while reading (repairs, with examples), by section.
        within, leaks: images with the same content in one data set, and over both.
        errors: what makes training fail; warnings: what a person should know.
    """

    network: NetworkInput
    settings: Mapping[str, DatasetSettings]
    datasets: Mapping[str, Dataset]
    counted: Mapping[str, Statistics]
    notes: Mapping[str, tuple[str, ...]]
    within: list[list[str]]
    leaks: list[list[str]]
    errors: tuple[str, ...]
    warnings: tuple[str, ...]

    def seen_by(self, network: NetworkInput) -> CheckResult:
        """The same data sets with the sizes of boxes, and the warnings of them, for another network; errors stay."""
        counted = {section: statistics(dataset, network) for section, dataset in self.datasets.items()}
        said = [*warnings(self.datasets, counted, network), *_said_of_copies(self.within, self.leaks)]
        return replace(self, network=network, counted=counted, warnings=tuple(said))

    def to_json(self) -> dict[str, Any]:
        """For programs: counts, sizes in input pixels, at most a few examples of each kind."""
        return {
            "input": {
                "height": self.network.height,
                "width": self.network.width,
                "keep_ratio": self.network.keep_ratio,
                "smallest_stride": self.network.stride,
            },
            "data_sets": {SHORT[section]: self._set(section) for section in self.settings},
            "equal_images": _groups(self.within),
            "leaks": _groups(self.leaks),
            "errors": list(self.errors),
            "warnings": list(self.warnings),
            "ok": not self.errors,
        }

    def _set(self, section: str) -> dict[str, Any]:
        settings = self.settings[section]
        described = {"annotations": str(settings.annotation_file), "format": settings.format, "read": False}
        if section not in self.datasets:
            return described
        dataset, counts = self.datasets[section], asdict(self.counted[section])
        repairs, damaged = dataset.repairs, unreadable(dataset)
        counts["classes"] = [
            {"name": name, "boxes": boxes, "images": images} for name, boxes, images in counts["classes"]
        ]
        counts["sizes"] = [{"below": limit, "boxes": boxes} for limit, boxes in counts["sizes"]]
        return {
            **described,
            "read": True,
            **counts,
            "missing_images": {"count": len(repairs.missing), "examples": list(repairs.missing[:EXAMPLES])},
            "unreadable_images": {"count": len(damaged), "examples": damaged[:EXAMPLES]},
            "repaired": {
                "boxes_clipped": repairs.clipped_boxes,
                "boxes_dropped": repairs.dropped_boxes,
                "images_left_out": repairs.empty_images,
                "of_these_with_crowds": repairs.crowd_images,
            },
            "notes": list(self.notes[section]),
        }


def _groups(groups: list[list[str]]) -> dict[str, Any]:
    return {"groups": len(groups), "images": sum(map(len, groups)), "examples": groups[:EXAMPLES]}


def check_data(sources: Sources, decode: bool = False) -> CheckResult:
    """Read data sets as training and evaluation do, and look at them further than these can afford.

    Of an image file name, size, header and, where another one has as many bytes, content are looked at.

    Args:
        sources: the data sets.
        decode: also decode every image, which finds those that are cut short.
    """
    datasets, notes, problems = {}, {}, []
    for section, settings in sources.settings.items():
        with collected() as lines:
            try:
                datasets[section] = _read(
                    settings, datasets.get("TrainDataset"), sources.num_classes, problems, decode
                )
            except DataError as error:
                problems.append(error)
        notes[section] = tuple(lines)
    within, leaks = copies(datasets)
    problems += errors(datasets.get("TrainDataset"), datasets.get("EvalDataset"), sources.network)
    found = tuple(map(str, problems))
    return CheckResult(
        sources.network, sources.settings, datasets, {}, notes, within, leaks, found, ()
    ).seen_by(sources.network)


def refuse_errors(result: CheckResult) -> None:
    """Raises: `DataError` with the first of what stops a training, and how many there are."""
    if result.errors:
        count = len(result.errors)
        more = "" if count == 1 else f" (the first of {count} faults that stop a training)"
        raise DataError(f"{result.errors[0]}{more}")


def _read(
    settings: DatasetSettings,
    train: Dataset | None,
    num_classes: int | None,
    problems: list[DataError],
    decode: bool,
) -> Dataset:
    mine: list[DataError] = []
    dataset = load_dataset(settings, settings.section == "TrainDataset", mine)
    problems += mine
    if train is not None:
        dataset = in_training_order(dataset, train.class_names, num_classes)
    if decode:
        dataset = replace(dataset, repairs=replace(dataset.repairs, unreadable=decoding_faults(dataset)))
    return dataset


def _said_of_copies(within: list[list[str]], leaks: list[list[str]]) -> Iterator[str]:
    if leaks:
        yield (
            f"{len(leaks)} images are in both train and val, so that mAP says too much: {leaks[0][0]} is "
            f"{leaks[0][-1]}; take them out of one"
        )
    if within:
        more = sum(map(len, within)) - len(within)
        yield f"{more} images are copies of others in the same data set: {within[0][1]} is {within[0][0]}"


@contextmanager
def collected() -> Iterator[list[str]]:
    """The warnings that are logged inside; nothing logged inside is printed."""
    lines: list[str] = []
    handlers, propagate = LOG.handlers, LOG.propagate
    collector = logging.Handler(logging.WARNING)
    collector.emit = lambda record: lines.append(record.getMessage())
    LOG.handlers, LOG.propagate = [collector], False
    try:
        yield lines
    finally:
        LOG.handlers, LOG.propagate = handlers, propagate
