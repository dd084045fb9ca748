"""Images parted by class, groups kept together."""

from __future__ import annotations

import numpy as np
import pytest

from picoquant.data.split import groups_by_name, stratified, units
from picoquant.errors import ConfigError


def test_a_golden_list():
    # Six units of class 0, three of class 1, three without objects; val gets a third of each.
    labels = np.array([[1, 0]] * 6 + [[0, 1]] * 3 + [[0, 0]] * 3)
    part = stratified(labels, np.ones(12, np.int64), [2 / 3, 1 / 3], seed=7)
    assert part.tolist() == [0, 0, 1, 1, 0, 0, 0, 0, 1, 0, 1, 0]
    assert labels[part == 1].sum(axis=0).tolist() == [2, 1]
    assert (part == 1).sum() == 4


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("shares", [[0.8, 0.2], [0.7, 0.2, 0.1], [0.5, 0.5]])
def test_shares_of_many_classes_are_met(seed, shares):
    random = np.random.RandomState(seed)
    often = np.array([3, 2, 1, 0.5, 0.2, 0.05])  # objects of each class on an image
    labels = random.poisson(often, (1000, 6))
    part = stratified(labels, np.ones(1000, np.int64), shares, seed)
    for place, share in enumerate(shares):
        mine = labels[part == place].sum(axis=0) / labels.sum(axis=0)
        assert np.abs(mine - share).max() < 0.015
        assert abs((part == place).sum() - 1000 * share) <= 1


def test_chance_alone_would_not_meet_them():
    random = np.random.RandomState(0)
    labels = random.poisson([3, 2, 1, 0.5, 0.2, 0.05], (1000, 6))
    part = (random.rand(1000) < 0.2).astype(int)
    assert np.abs(labels[part == 1].sum(axis=0) / labels.sum(axis=0) - 0.2).max() > 0.015


def test_a_seed_is_a_split_and_another_one_another():
    labels = np.random.RandomState(0).poisson(1, (50, 3))
    ones = np.ones(50, np.int64)
    first = stratified(labels, ones, [0.8, 0.2], 0)
    assert first.tolist() == stratified(labels, ones, [0.8, 0.2], 0).tolist()
    assert first.tolist() != stratified(labels, ones, [0.8, 0.2], 1).tolist()


def test_units_join_groups_that_share_an_image():
    assert units(6, [[0, 3], [3, 5], [1, 2]]).tolist() == [0, 1, 1, 0, 2, 0]
    assert units(3, []).tolist() == [0, 1, 2]


NAMES = ["cam1_001.jpg", "cam2_001.jpg", "cam1_002.jpg", "other.jpg"]


def test_names_are_grouped_by_parentheses_or_by_all_that_matches():
    assert groups_by_name(NAMES, r"cam(\d)") == ([[0, 2], [1]], [3])
    assert groups_by_name(NAMES, r"_\d+") == ([[0, 1], [2]], [3])
    assert groups_by_name(NAMES, r"^(?:cam(\d)|o)") == (
        [[0, 2], [1]],
        [3],
    )  # the parentheses may match nothing


def test_an_expression_that_is_none_or_finds_nothing_is_refused():
    with pytest.raises(ConfigError, match=r"--group-by \(: it is no regular expression"):
        groups_by_name(NAMES, "(")
    with pytest.raises(ConfigError, match="found in none of 4 file names, such as cam1_001.jpg"):
        groups_by_name(NAMES, "frame")
