"""Weights in three forms."""

from __future__ import annotations

import io
import json
import pickle
import struct
import zipfile

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from picoquant.errors import UserError, WeightsError
from picoquant.weight_files.files import read_weights, write_weights

STATE = {
    "head.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "neck.file": np.float32([0.5, -1]),
    "scale": np.array(2.0, np.float32),
}
FORMS = [".pdparams", ".safetensors", ".npz"]


def same(first, second) -> None:
    assert set(first) == set(second)
    for name, value in first.items():
        assert value.shape == second[name].shape and value.dtype == second[name].dtype
        np.testing.assert_array_equal(value, second[name])


@pytest.mark.parametrize("form", FORMS)
def test_written_and_read_again(tmp_path, form):
    path = tmp_path / f"a{form}"
    write_weights(STATE, path)
    same(read_weights(path), STATE)
    renamed = path.rename(tmp_path / "b.weights")  # what it is, its bytes tell
    same(read_weights(renamed), STATE)


def test_other_programs_read_and_write_the_same(tmp_path):
    write_weights(STATE, tmp_path / "a.safetensors")
    same(load_file(tmp_path / "a.safetensors"), STATE)
    save_file(STATE, tmp_path / "b.safetensors", metadata={"format": "np"})
    same(read_weights(tmp_path / "b.safetensors"), STATE)
    write_weights(STATE, tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz", allow_pickle=False) as archive:
        same(dict(archive), STATE)
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "b.npz", **{name: value for name, value in STATE.items() if name != "file"})
        same(read_weights(tmp_path / "b.npz"), STATE)


def test_the_same_arrays_give_the_same_bytes(tmp_path):
    for form in FORMS:
        write_weights(STATE, tmp_path / f"a{form}")
        write_weights(dict(STATE), tmp_path / f"b{form}")
        assert (tmp_path / f"a{form}").read_bytes() == (tmp_path / f"b{form}").read_bytes()


def test_another_suffix_is_refused(tmp_path):
    with pytest.raises(
        UserError, match=r"a\.bin: weights are written as \.pdparams, \.safetensors, \.npz, \.pth"
    ):
        write_weights(STATE, tmp_path / "a.bin")


def safetensors(header: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(header)) + header + data


def npz(entries: dict[str, bytes], **options) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", **options) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return stream.getvalue()


def npy(value) -> bytes:
    stream = io.BytesIO()
    np.save(stream, value, allow_pickle=True)
    return stream.getvalue()


def entry(**change) -> bytes:
    return json.dumps({"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **change}}).encode()


BAD = {
    "safetensors cut short": (safetensors(entry(), bytes(4)), r"no \.safetensors file"),
    "safetensors of a shape that is not there": (safetensors(entry(shape=[1 << 60]), bytes(8)), "no .safet"),
    "safetensors whose tensors overlap": (
        safetensors(
            json.dumps({n: {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} for n in "ab"}).encode(), bytes(8)
        ),
        "no .safetensors file",
    ),
    "safetensors of no JSON": (safetensors(b"{" * 50), "no .safetensors file"),
    "safetensors nested deep": (safetensors(b'{"a":' * 100_000), "no .safetensors file"),
    "whole numbers": (safetensors(entry(dtype="I32"), bytes(8)), "a is a int32"),
    "npz with objects": (npz({"a.npy": npy(np.array([{}], object))}), "no .npz file.*no array of numbers"),
    "npz cut short": (npz({"a.npy": npy(np.ones(9))})[:-30], "no .npz file"),
    "npz of an entry cut short": (npz({"a.npy": npy(np.ones(9))[:-8]}), "cut short"),
    "npz of no arrays": (npz({"a.txt": b"hello"}), "no .npz file"),
    "npz without entries": (npz({}), "no weights"),
    "npz of 2 GB of zeros in 2 MB": (
        npz({"a.npy": bytes(300 << 20), "b.npy": bytes(300 << 20)}, compression=zipfile.ZIP_DEFLATED),
        "unpack to more",
    ),
    "a name of a megabyte": (pickle.dumps({"a" * (1 << 20): np.ones(1, np.float32)}), "name of 1048576 char"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_damaged_and_hostile_files(tmp_path, name):
    content, message = BAD[name]
    path = tmp_path / "bad.weights"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=message) as caught:
        read_weights(path)
    assert "bad.weights" in str(caught.value) and len(str(caught.value)) < 500


def test_a_file_too_large_is_not_read(tmp_path):
    path = tmp_path / "large.pdparams"
    with open(path, "wb") as stream:
        stream.truncate(1 << 40)  # sparse
    with pytest.raises(WeightsError, match="1048576 MiB are more than any"):
        read_weights(path)
    with pytest.raises(WeightsError, match=r"cannot be read \(Is a directory"):
        read_weights(tmp_path)
