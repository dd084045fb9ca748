"""Classes brought together by their names: those that a model knows, and those of a data set."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from picoquant.data.dataset import Dataset
from picoquant.errors import DataError

_NAMED = 5  # so many names in one message


def in_order(dataset: Dataset, names: Sequence[str]) -> Dataset:
    """The data set with its classes in the order of `names`.

    Classes that it lacks have category id None, so that what a model finds of them is not counted. Its own others
    stand behind `names`; no model finds them.
    """
    if tuple(names) == dataset.class_names:
        return dataset
    place = _places(names, dataset.class_names)
    own = [label for label in range(dataset.num_classes) if label not in place]
    order = [*place, *own]
    new = np.zeros(dataset.num_classes, np.int32)
    for number, label in enumerate(order):
        if label is not None:
            new[label] = number
    records = tuple(replace(record, classes=new[record.classes]) for record in dataset.records)
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

    Names are the same when only case or spaces differ, unless that makes two of a model's or data set's one.

    Args:
        dataset: what the model is used on.
        labels: the model's names, in the order of its outputs.
        model: what messages call it.

    Raises: `DataError` when no name is in both, or the same name is in one of them twice.
    """
    theirs, file = dataset.class_names, dataset.annotation_file or dataset.section
    if tuple(labels) == theirs:
        return dataset, ""
    for names, where in ((labels, model), (theirs, file)):
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise DataError(
                f"{where} names the class {twice[0]!r} twice, so that its classes cannot be matched by name; give "
                "each its own name"
            )
    matched = in_order(dataset, labels)
    common = sum(number is not None for number in matched.category_ids[: len(labels)])
    if not common:
        raise DataError(
            f"{model} knows the classes {_some(labels)}; {file} has {_some(theirs)}, none of them; use it on the "
            "data set it was made for, or correct label_list in its infer_cfg.yml"
        )
    unknown = matched.class_names[len(labels) :]
    absent = [name for name, number in zip(labels, matched.category_ids) if number is None]
    if not unknown and not absent:
        if list(matched.category_ids) == list(dataset.category_ids):
            return matched, ""
        return matched, (
            f"{model} has its classes in another order ({_some(labels)}) than {file} ({_some(theirs)}): "
            "matched by name"
        )
    parts = []
    if absent:
        parts.append(f"{len(absent)} only in the model, not counted ({_some(absent)})")
    if unknown:
        parts.append(f"{len(unknown)} only in the data set, never found ({_some(unknown)})")
    return matched, f"{model} and {file} share {common} classes, matched by name; {'; '.join(parts)}"


def same_names(first: Sequence[str], second: Sequence[str]) -> bool:
    """Whether two data sets have the same classes, in whatever order."""
    return len(first) == len(second) and None not in _places(first, second)


def _places(names: Sequence[str], theirs: Sequence[str]) -> list[int | None]:
    """Of each name its place in `theirs`; None where it is not there."""
    plain = [[_plain(name) for name in side] for side in (names, theirs)]
    if any(len(set(side)) < len(side) for side in plain):
        plain = [list(names), list(theirs)]
    known = {name: place for place, name in enumerate(plain[1])}
    return [known.get(name) for name in plain[0]]


def _plain(name: str) -> str:
    return " ".join(name.split()).casefold()


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + (f", … ({len(names)})" if len(names) > _NAMED else "")
