"""Pickles that want more than to hold weights, of every protocol that Paddle has written."""

from __future__ import annotations

import builtins
import collections
import functools
import operator
import os
import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest

from picoquant.errors import WeightsError
from picoquant.weight_files.files import read_weights
from picoquant.weight_files.pickles import restricted_load

PROTOCOLS = [2, 3, 4, 5]


class Calls:
    """Pickles as a call."""

    def __init__(self, call, *arguments) -> None:
        self._reduce = (call, arguments)

    def __reduce__(self):
        return self._reduce


class Own(np.ndarray):
    """An array of a class that a file brings along."""


def write(path, content: bytes):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("call", "arguments", "named"),
    [
        (os.system, ("touch {trace}",), r"\w+\.system"),
        (eval, ("open('{trace}', 'w')", {}), r"builtins\.eval"),
        (eval, ("open('{trace}', 'w')",), "damaged"),
        (exec, ("open('{trace}', 'w')",), r"__builtin__\.exec|builtins\.exec"),
        (open, ("{trace}", "w"), r"io\.open|open"),
        (__import__, ("os",), "__import__"),
        (getattr, ([], "append"), "getattr"),
        (functools.partial, (os.system, "touch {trace}"), r"functools\.partial"),
        (operator.attrgetter, ("x",), "attrgetter"),
        (subprocess.Popen, (["touch", "{trace}"],), r"(subprocess|commands)\.Popen"),
        (pickle.loads, (b"x",), "loads"),
        (collections.Counter, ([1],), r"collections\.Counter"),
        (np.load, ("{trace}", None, True), "load"),
        (np.fromfile, ("{trace}",), "fromfile"),
        (bytearray, (10**12,), "damaged"),
        (np.ndarray, ((10**6, 10**6),), r"numpy\.ndarray to be called"),
        (np.dtype, ("O",), "for arrays of object"),
        (np.dtype, ("V99",), "for arrays of"),
        (builtins.list, (range(10**9),), "range"),
    ],
)
def test_calls_are_refused(tmp_path, protocol, call, arguments, named):
    trace = tmp_path / "ran"
    arguments = tuple(a.format(trace=trace) if isinstance(a, str) else a for a in arguments)
    nested = {"model": {"a": (1, [Calls(call, *arguments)])}}
    path = write(tmp_path / "bad.pdparams", pickle.dumps(nested, protocol=protocol))
    with pytest.raises(WeightsError, match=rf"bad\.pdparams.*({named})"):
        read_weights(path)
    assert not trace.exists()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_call_within_a_call_is_refused(tmp_path, protocol):
    trace = tmp_path / "ran"
    content = pickle.dumps(Calls(list, (Calls(os.system, f"touch {trace}"),)), protocol=protocol)
    with pytest.raises(WeightsError, match=r"refused.*\.system"):
        read_weights(write(tmp_path / "a", content))
    assert not trace.exists()


# Written instruction by instruction: no pickler makes these.
BY_HAND = {
    "object state set on a function": (
        b"\x80\x04\x8c\x05numpy\x8c\x05dtype\x93N}\x8c\x08__code__K\x01s\x86b.",
        "refused: .* to change a function",
    ),
    "a class of another name through the memo": (
        b"\x80\x02(U\x02osq\x00U\x06systemq\x01h\x00h\x01\x93.",
        r"refused: .* for os\.system",
    ),
    "the name of a call put in place later": (
        b"\x80\x04\x8c\x02os\x94\x8c\x06system\x94h\x00h\x01\x93\x8c\x04true\x85R.",
        r"refused: .* for os\.system",
    ),
    "a call of a number": (b"\x80\x02K\x01)R.", "refused: .* to call a int"),
    "a new object": (b"\x80\x02cnumpy\nndarray\n)\x81.", "refused: .* instruction NEWOBJ"),
    "an old-style object": (b"(inumpy\nndarray\n.", "refused: .* instruction INST"),
    "a persistent id": (b"\x80\x02K\x01Q.", "refused: .* instruction BINPERSID"),
    "an extension": (b"\x80\x02\x82\x01.", "refused: .* instruction EXT1"),
    "a buffer from outside": (b"\x80\x05\x97.", "refused: .* instruction NEXT_BUFFER"),
    "a set": (b"\x80\x04\x8f.", "refused: .* instruction EMPTY_SET"),
    "a memo place of 4 billion": (b"\x80\x02}r\xff\xff\xff\xff.", "holds no weights"),
    "a frame larger than the file": (
        b"\x80\x04\x95" + struct.pack("<Q", 1 << 60) + b"}.",
        "holds no weights",
    ),
    "a text of an exabyte": (b"\x80\x04\x8d" + struct.pack("<Q", 1 << 60) + b"a.", "damaged"),
    "bytes of an exabyte": (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 60) + b"a.", "damaged"),
    "a byte array of an exabyte": (b"\x80\x05\x96" + struct.pack("<Q", 1 << 60) + b"a.", "damaged"),
    "a mapping deep in tuples as key": (
        b"\x80\x02}" + b")" + b"\x85" * 100_000 + b"K\x01s.",
        "refused: .* key",
    ),
    "items put into a function": (b"\x80\x02cnumpy\ndtype\nK\x01K\x02s.", "refused"),
    "items appended to a function": (b"\x80\x02cnumpy\ndtype\nK\x01a.", "refused"),
    "a number of a million digits": (b"I" + b"9" * 1_000_000 + b"\n.", "holds a int"),
    "nothing": (b"", "damaged"),
    "no end": (b"\x80\x02}", "damaged"),
    "nothing to end with": (b"\x80\x02.", "damaged"),
    "a future protocol": (b"\x80\x63}.", "damaged"),
    "an empty memo": (b"\x80\x02h\x07.", "damaged"),
    "no mark": (b"\x80\x02t.", "damaged"),
}


@pytest.mark.parametrize("name", BY_HAND)
def test_pickles_written_by_hand(tmp_path, name):
    content, message = BY_HAND[name]
    with pytest.raises(WeightsError, match=message):
        read_weights(write(tmp_path / "a", content))


def test_arrays_of_an_own_class_and_of_objects_are_refused(tmp_path):
    for value in (np.zeros(2).view(Own), np.array([{}, os], dtype=object)[:1]):
        with pytest.raises(WeightsError, match="refused"):
            read_weights(write(tmp_path / "a", pickle.dumps({"a": value}, protocol=2)))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_array_state_that_lies_about_its_size(tmp_path, protocol):
    class Lies:
        def __reduce__(self):
            call, arguments, state = np.zeros(4, np.float32).__reduce__()
            return call, arguments, (1, (1 << 40,), state[2], False, state[4])

    with pytest.raises(WeightsError, match="damaged one .16 bytes for an array of shape"):
        read_weights(write(tmp_path / "a", pickle.dumps({"a": Lies()}, protocol=protocol)))


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_cut_at_any_place(tmp_path, protocol):
    whole = pickle.dumps({"a": np.ones((2, 3), np.float32), "b": np.zeros(1, np.float32)}, protocol=protocol)
    for length in range(len(whole)):
        with pytest.raises(WeightsError, match="damaged|refused"):
            read_weights(write(tmp_path / "a", whole[:length]))


def _amplified(kind: str) -> bytes:
    data = pickle.dumps(np.ones(1_000_000, np.float32), protocol=2)
    if kind == "texts encoded again and again":  # 4 MB of text, 1,000 times
        text = b"X" + struct.pack("<I", 4_000_000) + b"a" * 4_000_000
        call = b"c_codecs\nencode\nh\x00X\x06\x00\x00\x00latin1\x86R"
        return b"\x80\x02" + text + b"q\x000" + b"(" + call * 1000 + b"t."
    if kind == "lists of lists":  # 10 lists, each the one before it 200 times
        body = b"\x80\x02]q\x00"
        for number in range(9):
            body += b"](" + bytes([ord("h"), number]) * 200 + b"eq" + bytes([number + 1])
        return body + b"."
    if kind == "empty dicts":
        return b"\x80\x02(" + b"}" * 20_000_000 + b"t."
    if kind == "one array under 100,000 names":
        names = b"".join(
            b"X" + struct.pack("<I", 6) + b"%06d" % number + b"h\xfe" for number in range(100_000)
        )
        return b"\x80\x02" + data[2:-1] + b"q\xfe0}(" + names + b"u."
    raise ValueError(kind)


@pytest.mark.parametrize(
    "kind",
    ["texts encoded again and again", "lists of lists", "empty dicts", "one array under 100,000 names"],
)
def test_small_files_do_not_become_large(tmp_path, kind):
    """In a process that may have 1.5 GB; each of these would take 4 GB or far more."""
    path = write(tmp_path / "a.pdparams", _amplified(kind))
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (3 << 29, 3 << 29))\n"
        "from picoquant.weight_files.files import read_weights\n"
        "from picoquant.errors import WeightsError\n"
        "try: print(len(read_weights(sys.argv[1])))\n"
        "except WeightsError as error: print('refused', error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-500:]
    assert "refused" in done.stdout or done.stdout == "100000\n", done.stdout


def test_what_paddles_files_consist_of_is_read():
    """Types, orders and containers; `paddle.save` writes parameters as (name, array) and static ones by eval."""
    arrays = {
        "float": np.linspace(0, 1, 6, dtype=np.float32).reshape(2, 3),
        "double": np.arange(3.0),
        "half": np.float16([1, 2]),
        "whole": np.arange(4),
        "bool": np.array([True, False]),
        "empty": np.zeros((0, 4), np.float32),
        "none": np.array(3.0, np.float32),
        "fortran": np.asfortranarray(np.arange(6, dtype=np.float32).reshape(2, 3)),
        "big-endian": np.arange(3, dtype=">f4"),
    }
    content = collections.OrderedDict(
        arrays, pair=("name", arrays["float"]), nested=[1, 2.5, True, None, "a"]
    )
    content["scalar"] = np.float32(2.5)
    content["static"] = Calls(eval, "data", {"data": arrays["float"]})
    for protocol in PROTOCOLS:
        found = restricted_load(pickle.dumps(content, protocol=protocol))
        for name, value in arrays.items():
            np.testing.assert_array_equal(found[name], value)
            assert found[name].shape == value.shape
        assert found["pair"][0] == "name" and np.array_equal(found["pair"][1], arrays["float"])
        assert found["nested"] == [1, 2.5, True, None, "a"]
        assert found["scalar"] == 2.5
        np.testing.assert_array_equal(found["static"], arrays["float"])


def test_texts_and_bytes_of_python_2():
    """Protocol 2 of Python 2: names and raw data are both `str` instructions."""
    raw = np.float32([1, 2]).tobytes()
    content = (
        b"\x80\x02}U\x01acnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02\x85cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
        b"\x89U\x08" + raw + b"tbs."
    )
    np.testing.assert_array_equal(restricted_load(content)["a"], np.float32([1, 2]))


def test_bfloat16_is_read_from_the_uint16_that_paddle_3_writes(tmp_path):
    """Paddle knows no uint16: in its files the type stands for the upper halves of float32."""
    halves = np.array([[0x3F80, 0xC000], [0x3DCC, 0x7F80]], np.uint16)
    path = write(tmp_path / "a.pdparams", pickle.dumps({"w": halves}, protocol=4))
    np.testing.assert_array_equal(read_weights(path)["w"], [[1.0, -2.0], [np.float32(0.099609375), np.inf]])
    np.savez(tmp_path / "a.npz", w=halves)
    with pytest.raises(WeightsError, match="w is a uint16, no array of floating-point numbers"):
        read_weights(tmp_path / "a.npz")
