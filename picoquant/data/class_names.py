"""Classes brought together by their names: those that a model knows, and those of a data set."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import fields, replace

import numpy as np

from picoquant.data.dataset import Dataset, PackedRecords, Record
from picoquant.errors import DataError

LOG = logging.getLogger("picoquant")

_NAMED = 5  # so many names in one message


def in_order(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """The data set with its classes in the order of `names`.

    Classes that it lacks have category id None, so that what a model finds of them is not counted. Its own others
    stand behind `names`; no model finds them.
    """
    if tuple(names) == dataset.class_names:
        return dataset
    places = _places(names, dataset.class_names)
    own = [label for label in range(dataset.num_classes) if label not in places]
    order = [*places, *own]
    new = np.zeros(dataset.num_classes, np.int32)
    for number, label in enumerate(order):
        if label is not None:
            new[label] = number
    records: Sequence[Record] = dataset.records
    if isinstance(records, PackedRecords):
        records = replace(records, classes=new[records.classes])
    else:
        records = tuple(replace(record, classes=new[record.classes]) for record in records)
    annotations = dataset.annotations
    if annotations is not None:
        annotations = replace(annotations, classes=new[annotations.classes])
    return replace(
        dataset,
        records=records,
        annotations=annotations,
        class_names=(*names, *(dataset.class_names[label] for label in own)),
        category_ids=tuple(None if label is None else dataset.category_ids[label] for label in order),
    )


def match(dataset: Dataset, labels: Sequence[str], model: str) -> tuple[Dataset, str]:
    """The data set with its classes in a model's order, and one line that says what differs; empty for nothing.

    Args:
        dataset: what the model is used on.
        labels: the model's names, in the order of its outputs.
        model: what messages call it.

    Raises: `DataError` as `compare` does.
    """
    said = compare(labels, model, dataset.class_names, str(dataset.annotation_file or dataset.section))
    return in_order(dataset, labels), said


def compare(labels: Sequence[str], model: str, theirs: Sequence[str], file: str) -> str:
    """One line that says how a model's classes differ from a data set's; empty for nothing.

    Names are the same when only case or spaces differ, unless that makes two of a model's or data set's one.

    Args:
        labels: the model's names, in the order of its outputs.
        model: what messages call it.
        theirs: the data set's names, in its order.
        file: what messages call that.

    Raises: `DataError` when no name is in both, or the same name is in one of them twice.
    """
    if tuple(labels) == tuple(theirs):
        return ""
    for names, where in ((labels, model), (theirs, file)):
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise DataError(
                f"{where} names the class {twice[0]!r} twice, so that its classes cannot be matched by name; give "
                "each its own name"
            )
    places = _places(labels, theirs)
    common = [place for place in places if place is not None]
    if not common:
        raise DataError(
            f"{model} knows the classes {some_names(labels)}; {file} has {some_names(theirs)}, none of them: use "
            "it on the data set it was made for, or correct label_list in its infer_cfg.yml"
        )
    absent = [name for name, place in zip(labels, places) if place is None]
    unknown = [name for place, name in enumerate(theirs) if place not in common]
    if not absent and not unknown:
        if common == sorted(common):
            return ""
        return (
            f"{model} has its classes in another order ({some_names(labels)}) than {file} "
            f"({some_names(theirs)}): matched by name"
        )
    parts = []
    if absent:
        parts.append(f"{len(absent)} only in the model, not counted ({some_names(absent)})")
    if unknown:
        parts.append(f"{len(unknown)} only in the data set, never found ({some_names(unknown)})")
    return f"{model} and {file} share {len(common)} classes, matched by name; {'; '.join(parts)}"


def same_names(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether two data sets have the same classes, in whatever order."""
    places = _places(first, second)
    return len(first) == len(second) == len(set(places)) and None not in places


def in_training_order(dataset: Dataset, names: Sequence[str], wanted: int | None = None) -> Dataset:
    """A data set with its classes in the order of `TrainDataset`'s `names`, in which weights are trained.

    Args:
        dataset: of the evaluation.
        names: what is trained.
        wanted: `num_classes` of the configuration. Where that is the number of `names`, and the data set has these and
            others, it is for these alone: a detector of persons is evaluated on COCO's images.

    Returns: the data set itself where its classes are others.
    """
    if wanted == len(names) < dataset.num_classes and None not in _places(names, dataset.class_names):
        LOG.warning(
            "%s has %d classes that TrainDataset (%s) and num_classes %d have not (%s): their objects are not counted",
            dataset.section,
            dataset.num_classes - wanted,
            some_names(names),
            wanted,
            some_names(_others(dataset.class_names, names)),
        )
        return only_classes(dataset, names)
    if tuple(names) == dataset.class_names or not same_names(names, dataset.class_names):
        return dataset
    LOG.warning(
        "%s has its classes %s (%s) than TrainDataset (%s): matched by name",
        dataset.section,
        "in another order" if set(names) == set(dataset.class_names) else "written otherwise",
        some_names(dataset.class_names),
        some_names(names),
    )
    return in_order(dataset, names)


def _others(theirs: Sequence[str], names: Sequence[str]) -> list[str]:
    """Those of `theirs` that are none of `names`."""
    places = _places(names, theirs)
    return [name for place, name in enumerate(theirs) if place not in places]


def only_classes(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """A data set with the classes `names`, which it has, and their objects alone; its images stay, all of them."""
    ordered = in_order(dataset, names)
    count = len(names)
    records = tuple(
        replace(
            record,
            boxes=record.boxes[kept],
            classes=record.classes[kept],
            is_crowd=record.is_crowd[kept],
        )
        for record in ordered.records
        for kept in (record.classes < count,)
    )
    annotations = ordered.annotations
    if annotations is not None:
        kept = annotations.classes < count
        parts = {field.name: getattr(annotations, field.name)[kept] for field in fields(annotations)}
        annotations = replace(annotations, **parts)
    return replace(
        ordered,
        records=records,
        annotations=annotations,
        class_names=ordered.class_names[:count],
        category_ids=ordered.category_ids[:count],
    )


def same_classes(first: Dataset, second: Dataset) -> None:
    """Refuse two data sets whose classes are not the same, in the same order.

    Raises: `DataError` naming both files and the first class that differs.
    """
    if first.class_names == second.class_names:
        return
    only = sorted(set(first.class_names) ^ set(second.class_names))
    what = f"{only[0]!r} is in one of them only" if only else "one of them names a class twice"
    raise DataError(
        f"{first.annotation_file} and {second.annotation_file} have other classes: {what}; give both the same "
        "categories"
    )


def _places(names: Sequence[str], theirs: Sequence[str]) -> list[int | None]:
    """Of each name its place in `theirs`; None where it is not there."""
    plain = [[plain_name(name) for name in side] for side in (names, theirs)]
    if any(len(set(side)) < len(side) for side in plain):
        plain = [list(names), list(theirs)]
    known = {name: place for place, name in enumerate(plain[1])}
    return [known.get(name) for name in plain[0]]


def plain_name(name: str) -> str:
    """A name without what makes no difference: case, and spaces around words."""
    return " ".join(name.split()).casefold()


def some_names(names: Sequence[str]) -> str:
    """The first of some names, for a message."""
    return ", ".join(names[:_NAMED]) + (f", … ({len(names)})" if len(names) > _NAMED else "")
