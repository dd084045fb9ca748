"""Torch's files, read and written without torch; and files that want more than to hold tensors."""

from __future__ import annotations

import os
import zipfile

import numpy as np
import pytest

from picoquant.errors import UserError, WeightsError
from picoquant.weight_files.files import read_weights, write_weights
from picoquant.weight_files.torch_zip import read_torch_zip
from tests.weight_files.torch_file import StateDict, Tensor, write_pth

TWELVE = np.arange(12, dtype=np.float32)


def test_a_checkpoint_with_everything_that_mmdet_keeps_beside_its_weights(tmp_path):
    state = StateDict(weight=Tensor(TWELVE.reshape(3, 4)))
    state["bn.num_batches_tracked"] = Tensor(np.array(7), "LongStorage")
    momentum = {
        "state": {0: {"momentum_buffer": Tensor(TWELVE)}},
        "param_groups": [{"lr": 0.1, "params": [0]}],
    }
    meta = {"epoch": 300, "CLASSES": ("person", "bicycle"), "PALETTE": [(220, 20, 60)], "best": None}
    write_pth(tmp_path / "a.pth", {"meta": meta, "state_dict": state, "optimizer": momentum})
    found = read_weights(tmp_path / "a.pth")
    assert list(found) == ["weight"]
    np.testing.assert_array_equal(found["weight"], TWELVE.reshape(3, 4))


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (Tensor(TWELVE, shape=(4, 3), strides=(1, 4)), TWELVE.reshape(3, 4).T),
        (Tensor(TWELVE, shape=(2, 2), strides=(4, 1), offset=5), [[5, 6], [9, 10]]),
        (Tensor(TWELVE, shape=(), strides=(), offset=3), 3),
        (Tensor(TWELVE, shape=(2, 3), strides=(0, 1)), [[0, 1, 2]] * 2),
        (Tensor(TWELVE[:0], shape=(0, 5), strides=(5, 1)), np.zeros((0, 5))),
        (Tensor(TWELVE.astype(np.float16), "HalfStorage"), TWELVE),
        (Tensor(TWELVE.astype(np.float64), "DoubleStorage"), TWELVE),
        # bfloat16 is the upper half of a float32: 1.0 is 3f800000, -2.5 is c0200000.
        (Tensor(np.array([0x3F80, 0xC020], np.uint16), "BFloat16Storage"), [1.0, -2.5]),
    ],
)
def test_layouts_and_types(tmp_path, tensor, expected):
    found = read_weights(write_pth(tmp_path / "a.pth", {"x": tensor}))["x"]
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, np.asarray(expected, np.float32))


class Calls:
    def __init__(self, call, *arguments):
        self._reduce = (call, arguments)

    def __reduce__(self):
        return self._reduce


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"x": Calls(os.system, "touch trace")}, r"refused: it is not only weights, it asks for \w+\.system"),
        ({"x": Calls(eval, "open('trace', 'w')", {})}, r"refused.*eval"),
        (
            {"x": Tensor(TWELVE, shape=(13,), strides=(1,))},
            r"no \.pth file, or a damaged one.*beyond its numbers",
        ),
        ({"x": Tensor(TWELVE, shape=(3, 4), strides=(4, 1), offset=1)}, "beyond its numbers"),
        ({"x": Tensor(TWELVE, shape=(3,), strides=(-1,), offset=4)}, "without numbers, shape or strides"),
        (
            {"x": Tensor(TWELVE, shape=(10**6, 10**3), strides=(0, 0))},
            "refused.*to be read as more than it holds",
        ),
        ({"x": Tensor(TWELVE, count=13)}, "data/0 is not there, or cut short"),
        ({"x": Tensor(TWELVE, shape=(1,) * 9, strides=(1,) * 9)}, "a tensor of 9 dimensions"),
        ({"x": 3}, "x is a int, no array of floating-point numbers"),
    ],
)
def test_what_is_not_weights_is_refused(tmp_path, monkeypatch, content, said):
    monkeypatch.chdir(tmp_path)
    write_pth(tmp_path / "a.pth", content)
    with pytest.raises(WeightsError, match=said):
        read_weights(tmp_path / "a.pth")
    assert not (tmp_path / "trace").exists()


def test_damaged_files(tmp_path):
    whole = write_pth(tmp_path / "a.pth", {"x": Tensor(TWELVE)})
    with pytest.raises(WeightsError, match="data/0 is not there"):
        read_weights(write_pth(tmp_path / "b.pth", {"x": Tensor(TWELVE)}, leave_out=("0",)))
    data = whole.read_bytes()
    for end in range(4, len(data) - 1, 37):  # every cut is an error in words
        (tmp_path / "c.pth").write_bytes(data[:end])
        with pytest.raises(WeightsError):
            read_weights(tmp_path / "c.pth")
    with zipfile.ZipFile(tmp_path / "d.pth", "w") as archive:
        archive.writestr("a/data.pkl", b"\x80\x02}.")
        archive.writestr("b/data.pkl", b"\x80\x02}.")
    with pytest.raises(WeightsError, match="it holds 2 files data.pkl"):
        read_weights(tmp_path / "d.pth")


def test_a_file_of_an_old_torch_says_so(tmp_path):
    old = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.\x80\x02M\xe9\x03."
    (tmp_path / "a.pth").write_bytes(old)
    with pytest.raises(
        WeightsError, match="saved by torch in its form of before 1.6; load and save it once more"
    ):
        read_weights(tmp_path / "a.pth")


def test_what_is_written_is_a_zip_of_a_dict_of_tensors(tmp_path):
    state = {"bbox_head.gfl_cls.0.weight": TWELVE.reshape(2, 6, 1, 1), "bbox_head.gfl_cls.0.bias": TWELVE[:2]}
    write_weights(state, tmp_path / "a.pth")
    found = read_torch_zip((tmp_path / "a.pth").read_bytes())
    assert list(found) == list(state) and all(np.array_equal(found[name], state[name]) for name in state)
    with zipfile.ZipFile(tmp_path / "a.pth") as archive:
        assert archive.namelist() == [
            "archive/data.pkl",
            "archive/data/0",
            "archive/data/1",
            "archive/version",
        ]
        assert archive.read("archive/data/1") == TWELVE[:2].tobytes()
    halved = {name: value.astype(np.float16) for name, value in state.items()}
    write_weights(halved, tmp_path / "half.pth")
    found = read_torch_zip((tmp_path / "half.pth").read_bytes())
    assert all(
        found[name].dtype == np.float16 and np.array_equal(found[name], halved[name]) for name in state
    )
    with pytest.raises(UserError, match=r"neck.x: mmdet's PicoDet has no name for it; .pth is for ESNet"):
        write_weights({"neck.x": TWELVE}, tmp_path / "b.pth")
    assert not (tmp_path / "b.pth").exists()
