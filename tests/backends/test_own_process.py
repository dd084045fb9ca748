"""A runtime in a process of its own: what it says, and what is left of a crash."""

from __future__ import annotations

import os
import signal
import sys

import numpy as np
import pytest

from picoquant.backends.base import Exported, Machine, load_backend
from picoquant.backends.own_process import OwnProcess
from picoquant.backends.source import Source
from picoquant.errors import PicoquantError, ToolError, UserError

IMAGE = {"image": np.arange(6, dtype=np.float32).reshape(1, 1, 2, 3)}


class Doubles:
    """Doubles an image, unless the first value says how it is to end."""

    def __init__(self, path, factor=2):
        print("noise on stdout")
        self.factor, self.path = factor, path
        self.inputs = self.outputs = (("image", (-1, 1, 2, 3)),)
        if path.name == "crashes":
            sys.stderr.write("INFO: loading\nno such operator\n")
            sys.stderr.flush()
            os.abort()
        if path.name == "damaged":
            raise ImportError("libgone.so.1: cannot open shared object file")
        if path.name == "refused":
            raise ToolError(f"it does not take {path}")

    def __call__(self, feed):
        first = feed["image"].flat[0]
        if first == -1:
            os.kill(os.getpid(), signal.SIGSEGV)
        if first == -2:
            raise ValueError("of ours")
        if first == -3:
            raise ToolError("not this one")
        sum(range(200_000))  # takes CPU time
        return [feed["image"] * self.factor]


def ends(first):
    image = IMAGE["image"].copy()
    image.flat[0] = first
    return {"image": image}


def test_it_computes_and_a_crash_costs_one_call(tmp_path, capfd):
    with OwnProcess("Doubler", Doubles, tmp_path / "model", 3) as predict:
        assert predict.input_names == ("image",) and predict.outputs == (("image", (-1, 1, 2, 3)),)
        np.testing.assert_array_equal(predict(IMAGE)[0], 3 * IMAGE["image"])
        assert 0 < predict.network_cpu_seconds < 5 and 0 < predict.network_seconds < 5
        with pytest.raises(ToolError) as error:
            predict(ends(-1))
        assert str(error.value) == (
            f"Doubler does not run {tmp_path / 'model'}: it ended with SIGSEGV, a crash of its own; make the file "
            "again, or take another runtime"
        )
        np.testing.assert_array_equal(predict(IMAGE)[0], 3 * IMAGE["image"])  # by a new process
        with pytest.raises(ToolError, match="^not this one$"):
            predict(ends(-3))
        with pytest.raises(
            PicoquantError, match=r"^Doubler does not run .*/model: ValueError: of ours$"
        ) as failure:
            predict(ends(-2))
        assert not isinstance(failure.value, UserError)
        np.testing.assert_array_equal(predict(IMAGE)[0], 3 * IMAGE["image"])
    assert capfd.readouterr().out == ""


def test_images_that_do_not_fit_do_not_reach_it(tmp_path):
    with OwnProcess("Doubler", Doubles, tmp_path / "model") as predict:
        with pytest.raises(ToolError, match=r"^model takes image of \[1, 2, 3\], not \[1, 3, 2\]: export it"):
            predict({"image": np.zeros((1, 1, 3, 2), np.float32)})
        with pytest.raises(ToolError, match="^model takes image, which no image has"):
            predict({"picture": IMAGE["image"]})


def test_what_it_does_not_open_is_one_line(tmp_path):
    with pytest.raises(ToolError) as error, OwnProcess("Doubler", Doubles, tmp_path / "crashes"):
        pass
    assert str(error.value).startswith(
        f"Doubler does not take {tmp_path / 'crashes'}: it ended with SIGABRT, a crash of its own (no such operator); "
    )
    with pytest.raises(ToolError, match=f"^it does not take {tmp_path / 'refused'}$"):
        OwnProcess("Doubler", Doubles, tmp_path / "refused").__enter__()
    with pytest.raises(ToolError, match=r"^the package cannot be loaded \(libgone.so.1: cannot open"):
        OwnProcess("Doubler", Doubles, tmp_path / "damaged").__enter__()


@pytest.mark.slow  # a process for each damage
def test_mnn_crashes_on_damaged_files_and_nothing_else_does(small, tmp_path):
    pytest.importorskip("MNN")
    backend = load_backend("mnn")
    tool = backend.toolchain.find(Machine())
    made = backend.export.export(Source(small), tmp_path / "model", tool)
    whole = made.files[0].read_bytes()
    feed = {"image": np.zeros((1, 3, 32, 32), np.float32)}
    said = []
    for place in range(64, len(whole) - 4, 150):
        made.files[0].write_bytes(whole[:place] + b"\xff" * 4 + whole[place + 4 :])
        try:
            with backend.runtime.open_files(Exported(made.files), tool, Machine(1)) as predict:
                predict(feed)
        except UserError as error:
            said.append(str(error))
            if "a crash" in said[-1]:
                break
    assert said and not any("\n" in line for line in said)
    assert any(": it ended with SIG" in line for line in said), said
