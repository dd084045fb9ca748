"""Processes that were started differently: what is said, by every one of them."""

from __future__ import annotations

import json
import socket

import pytest

from picoquant.errors import DataError, UserError
from picoquant.utils.group.same import first_difference, require_same

VERSIONS = {"picoquant": "1", "python": "3.11.7", "paddlepaddle": "2.6.2"}
FIRST = {"host": "a", "versions": VERSIONS, "inputs": {"images": "1f", "reader": "2e", "detector": "00"}}


def other(**changes):
    return {**FIRST, "host": "b", **changes}


def test_equal_processes():
    assert first_difference([FIRST, other(), other(host="c")]) is None


def test_another_version_of_paddle():
    told = [FIRST, other(), other(host="c", versions={**VERSIONS, "paddlepaddle": "2.5.0"}, inputs={})]
    assert first_difference(told) == (
        "rank 2 on c differs from rank 0 on a: paddlepaddle 2.5.0 there, 2.6.2 on rank 0; install the same version on "
        "every host"
    )


def test_other_images_and_settings():
    told = [FIRST, other(inputs={"images": "1e", "reader": "2e", "pruning": "5"})]
    assert first_difference(told) == (
        "rank 1 on b differs from rank 0 on a in: detector, images, pruning; every host needs the same recipe, data "
        "set and model files (by content; run.json names these inputs)"
    )


def test_files_that_one_host_lacks():
    told = [FIRST, {"host": "b", "versions": VERSIONS, "error": "no data set: x does not exist"}]
    assert first_difference(told) == (
        "rank 1 on b: no data set: x does not exist; every host needs the run folder, the data and the weights under "
        "the same names (a shared file system)"
    )
    assert (
        first_difference([{**told[1], "host": "a"}, other()]) == "rank 0 on a: no data set: x does not exist"
    )


class Pair:
    """Two processes: this one, and one that answers what it is given."""

    def __init__(self, changes):
        self.changes = changes

    def gather(self, content):
        told = json.loads(content)
        return [content, json.dumps({**told, **self.changes(told)}).encode()]


def test_values_are_compared_by_content():
    require_same(Pair(lambda told: {}), lambda: {"images": {"b": 1, "a": 2}})
    mine = {}

    class Remembering(Pair):
        def gather(self, content):
            mine.update(json.loads(content)["inputs"])
            return super().gather(content)

    require_same(
        Remembering(lambda told: {}), lambda: {"images": {"b": 1, "a": 2}, "other": {"b": 1, "a": 3}}
    )
    again = dict(mine)
    require_same(Remembering(lambda told: {}), lambda: {"images": {"a": 2, "b": 1}})
    assert mine["images"] == again["images"] != again["other"]


def test_what_one_cannot_find_is_an_error_in_all():
    def fails():
        raise DataError("no data set: here")

    with pytest.raises(UserError, match=f"^rank 0 on {socket.gethostname()}: no data set: here$"):
        require_same(Pair(lambda told: {}), fails)
