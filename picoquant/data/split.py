"""Images parted into train, val and test: classes alike in each, and what belongs together in one.

U is the number of units (groups of images that stay together), C that of classes, P that of parts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import numpy as np

from picoquant.data.seeds import SPLIT, generator
from picoquant.errors import ConfigError


def stratified(labels: np.ndarray, images: np.ndarray, shares: Sequence[float], seed: int) -> np.ndarray:
    """Part of each unit [U], so that every class and all images are shared out as `shares` says.

    As in iterative stratification (Sechidis, Tsoumakas, Vlahavas: On the Stratification of Multi-Label Data, 2011) the
    units with the rarest class that is left are shared out first, those with most objects of it before others. Each
    goes to the part where it leaves the least sum of squares of what every part lacks of its share of what is shared
    out so far: of every class and of the images, each as a part of its total. Giving it to the part that lacks most of
    the rarest class alone, as that paper does, shares out the images less evenly.

    Args:
        labels: [U, C] objects of each class in each unit.
        images: [U] images of each unit.
        shares: [P] parts of all, together 1.
        seed: of the order in which units that are alike are taken.
    """
    columns = np.column_stack([labels, images]).astype(np.float64)  # [U, C + 1]
    columns /= np.maximum(columns.sum(axis=0), 1) / len(columns)  # so that all count alike
    share = np.asarray(shares, np.float64)[:, None]
    lacking = np.zeros((len(shares), columns.shape[1]))
    part = np.full(len(labels), -1)
    order = generator(seed, SPLIT).permutation(len(labels))
    has = columns > 0
    left = has.sum(axis=0)  # units not shared out yet that have something of each class
    while left.any():
        rarest = int(np.argmin(np.where(left > 0, left, len(labels) + 1)))  # at last the column of images
        mine = order[has[order, rarest] & (part[order] < 0)]
        for unit in mine[np.argsort(-columns[mine, rarest], kind="stable")].tolist():
            lacking += share * columns[unit]
            # (lack - x)^2 - lack^2 = x^2 - 2 lack x, whose first term is the same for each part
            part[unit] = np.argmax((lacking @ columns[unit]).round(9))
            lacking[part[unit]] -= columns[unit]
        left = left - has[mine].sum(axis=0)
    return part


def units(count: int, together: Iterable[Sequence[int]]) -> np.ndarray:
    """Number of the unit of each of `count` images, from 0 in the order of their first images.

    Args:
        count: how many images there are.
        together: images that stay together; groups that share an image are one unit.
    """
    parent = list(range(count))

    def root(place: int) -> int:
        while parent[place] != place:
            parent[place] = parent[parent[place]]
            place = parent[place]
        return place

    for group in together:
        for place in group[1:]:
            first, second = sorted((root(group[0]), root(place)))
            parent[second] = first
    return np.unique([root(place) for place in range(count)], return_inverse=True)[1].astype(np.int64)


def groups_by_name(names: Sequence[str], pattern: str) -> tuple[list[list[int]], list[int]]:
    """Images that a regular expression finds to belong together, and those in whose names it finds nothing.

    Together are names in which the same text matches: that of the expression's first pair of parentheses, or of all
    of it where it has none.

    Raises: `ConfigError` for an expression that is none, or matches no name.
    """
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"--group-by {pattern}: it is no regular expression ({error})") from error
    groups: dict[str | None, list[int]] = {}
    alone = []
    for place, name in enumerate(names):
        match = compiled.search(name)
        text = None if match is None else match.group(1 if compiled.groups else 0)
        if text is None:
            alone.append(place)
        else:
            groups.setdefault(text, []).append(place)
    if not groups:
        raise ConfigError(
            f"--group-by {pattern}: it is found in none of {len(names)} file names, such as {names[0]}"
        )
    return list(groups.values()), alone
