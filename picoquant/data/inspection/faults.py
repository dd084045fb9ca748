"""What of data sets that could be read stops a training, and what spoils its result."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from picoquant.data.class_names import same_classes, some_names
from picoquant.data.dataset import Dataset
from picoquant.data.formats.repair import too_many
from picoquant.data.images import UnreadableImageError, read_image
from picoquant.data.inspection.statistics import NetworkInput, Objects, Statistics
from picoquant.errors import DataError
from picoquant.utils.device import available_cpus


def decoding_faults(dataset: Dataset) -> dict[str, str]:
    """Path -> a sentence that says what is wrong, of the images that cannot be decoded. Decodes every image."""
    with ThreadPoolExecutor(available_cpus()) as pool:
        paths = [record.path for record in dataset.records]
        return {path: fault for path, fault in zip(paths, pool.map(_decoding_fault, paths)) if fault}


def _decoding_fault(path: str) -> str | None:
    try:
        read_image(path)
    except UnreadableImageError as error:
        return str(error).partition("; replace the file")[0]
    return None


def unreadable(dataset: Dataset) -> list[str]:
    """A sentence for each image of the records whose file's header is damaged."""
    faults = dataset.repairs.unreadable
    return [faults[record.path] for record in dataset.records if record.path in faults] if faults else []


def errors(train: Dataset | None, held_out: Dataset | None, network: NetworkInput | None) -> list[DataError]:
    """What stops training or evaluation for certain, found in data sets that could be read.

    Args:
        train: `TrainDataset`, in whatever use; None: not used.
        held_out: `EvalDataset`; None: not used.
        network: what is trained; None: nothing is.
    """
    found = []
    if train is not None and too_many(len(faults := unreadable(train)), len(train)) and faults:
        found.append(
            _unreadable_error(train, faults, "training goes on without an image while that is under 1 %")
        )
    if held_out is not None and (faults := unreadable(held_out)):
        found.append(_unreadable_error(held_out, faults, "evaluation needs every image"))
    if network is None:
        return found
    if train is not None and held_out is not None:
        try:
            same_classes(train, held_out)
        except DataError as error:
            found.append(error)
    if train is not None and len(train):
        sides = Objects.of(train, network).sides
        if len(sides) and network.too_small(sides).all():
            largest = np.ceil(sides.max()).astype(int)
            found.append(
                DataError(
                    f"all {len(sides)} boxes of {train.section} are below {network.stride} pixels on both sides in the "
                    f"network's input of {network.height}x{network.width} (at most {largest}): too small to be learnt; "
                    "raise Global.input_size, or cut the images into tiles"
                )
            )
    return found


def _unreadable_error(dataset: Dataset, faults: list[str], why: str) -> DataError:
    return DataError(
        f"{len(faults)} of {len(dataset)} images of {dataset.section} cannot be read ({why}), the first: {faults[0]}; "
        "replace the files or take them out of the annotations"
    )


def warnings(
    datasets: Mapping[str, Dataset], counted: Mapping[str, Statistics], network: NetworkInput
) -> list[str]:
    """What a training survives and a person should know; both mappings are by section."""
    found = []
    for section, dataset in datasets.items():
        counts = counted[section]
        faults = unreadable(dataset)
        if faults and section == "TrainDataset" and not too_many(len(faults), len(dataset)):
            found.append(f"{section}: {len(faults)} images cannot be read and are passed by: {faults[0]}")
        if counts.too_small:
            found.append(
                f"{section}: {counts.too_small} of {counts.boxes} boxes are below {network.stride} pixels on both "
                f"sides in the network's input, too small to be learnt: {counts.too_small_example}"
            )
        if counts.repeated:
            found.append(f"{section}: {counts.repeated} boxes are written twice: {counts.repeated_example}")
        absent = [name for name, boxes, _ in counts.classes if not boxes]
        if absent and counts.boxes:
            what = "not learnt" if section == "TrainDataset" else "not measured"
            found.append(f"{section}: no box of {len(absent)} classes, {what}: {some_names(absent)}")
    return found
