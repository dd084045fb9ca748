"""Programs of Paddle 3 that are not sound: one line each, whatever is wrong, and nothing is run."""

from __future__ import annotations

import copy
import json
import random
import re
from pathlib import Path

import pytest

from picoquant.errors import WeightsError
from picoquant.paddle_program.pir import document
from picoquant.paddle_program.pir.document import is_pir
from picoquant.paddle_program.program import program_facts, read_program

SMALL = json.loads((Path(__file__).parent / "small" / "inference.json").read_text(encoding="utf-8"))


def operations(content):
    return content["program"]["regions"][0]["blocks"][0]["ops"]


def the(content, name):
    return next(op for op in operations(content) if op["#"] == f"1.{name}")


def attribute(op, name):
    return next(item for item in op["A"] if item["N"] == name)["AT"]


def refused(tmp_path, content) -> str:
    """What is said of a program, without its path."""
    path = tmp_path / "inference.json"
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    with pytest.raises(WeightsError) as error:
        program_facts(path)
    text, begin = str(error.value), f"{path} is no program of PaddlePaddle 3 that can be read: "
    assert text.startswith(begin) and "\n" not in text and len(text) < len(begin) + 400
    return text[len(begin) :]


def set_type(op, dtype):
    op["O"][0]["TT"]["D"][0]["#"] = dtype


EDITS = {
    "an operator": (
        lambda c: the(c, "relu6").update({"#": "1.deformable_conv"}),
        r"it has operators that are not read here: deformable_conv; export a PicoDet for inference",
    ),
    "a custom operator": (lambda c: the(c, "relu6").update({"#": "3.mine"}), "not read here: custom_op.mine;"),
    "control flow": (
        lambda c: the(c, "relu6").update(regions=[{}]),
        r"operation \d+, pd_op.relu6, has blocks of its own: control flow is not read",
    ),
    "a later version": (lambda c: c["base_code"].update(version=5), "version 5, of a later PaddlePaddle than 3.3"),
    "no version": (lambda c: c["base_code"].pop("version"), "base_code: 'version' is missing, a int is expected"),
    "another tool's JSON": (lambda c: c["base_code"].update(magic="mlir"), "base_code.magic is not pir"),
    "two blocks": (lambda c: c["program"]["regions"].append({}), "it has 2 regions, one is expected"),
    "arguments": (lambda c: c["program"]["regions"][0]["blocks"][0]["args"].append({}), "takes arguments"),
    "no operations": (lambda c: operations(c).clear(), "it has no input"),
    "nobody's value": (
        lambda c: the(c, "relu6").update(I=[{"%": 999}]), "takes value 999, which nothing before it makes"
    ),
    "a value twice": (lambda c: the(c, "relu6")["O"][0].update({"%": 1}), "makes value 1, which is made already"),
    "no operand": (lambda c: the(c, "relu6").update(I=[]), "pd_op.relu6, takes nothing as operand 0"),
    "one operand more": (
        lambda c: the(c, "relu6")["I"].append({"%": 1}),
        "has 2 operands and 1 results, more than it takes",
    ),
    "an unknown attribute": (
        lambda c: the(c, "relu6")["A"].append({"N": "slope", "AT": {"#": "0.a_f32", "D": 0.5}}),
        "pd_op.relu6, has an attribute 'slope', which is not read",
    ),
    "no attribute": (lambda c: the(c, "conv2d").update(A=[]), "pd_op.conv2d, has no attribute 'strides'"),
    "a text for numbers": (
        lambda c: attribute(the(c, "conv2d"), "strides").update({"#": "0.a_str", "D": "2"}),
        "'strides' is '2', ints expected",
    ),
    "a stride of 0": (
        lambda c: attribute(the(c, "conv2d"), "strides")["D"][0].update(D=0), "'strides' is .*, above 0 expected"
    ),
    "a group of 2^40": (
        lambda c: attribute(the(c, "conv2d"), "groups").update(D=2**40), "'groups' is 1099511627776, beyond 32 bits"
    ),
    "true for a number": (
        lambda c: attribute(the(c, "conv2d"), "groups").update(D=True), "'groups' is 'True', a int is expected"
    ),
    "training": (lambda c: attribute(the(c, "batch_norm_"), "is_test").update(D=False), "is_test False.*after eval"),
    "float16": (lambda c: set_type(the(c, "conv2d"), "0.t_f16"), "it computes in float16: export it in float32"),
    "a bfloat16 input": (lambda c: set_type(the(c, "data"), "0.t_bf16"), "its input 'image' is bfloat16"),
    "a bfloat16 weight": (
        lambda c: operations(c)[0]["O"]["TT"]["D"][0].update({"#": "0.t_bf16"}), "its weight '.*' is bfloat16"
    ),
    "a sparse tensor": (lambda c: the(c, "conv2d")["O"][0].update(TT={"#": "1.t_scoo"}), "'1.t_scoo' is no type"),
    "a negative side": (
        lambda c: the(c, "conv2d")["O"][0]["TT"]["D"].__setitem__(1, [-2, 8]), r"\[-2, 8\] is no shape"
    ),
    "a weight of any shape": (
        lambda c: operations(c)[0]["O"]["TT"]["D"].__setitem__(1, [-1]), "parameter 0, '.*', has no fixed shape"
    ),
    "a weight without a name": (lambda c: operations(c)[0].update(A=[0, 1, 1]), "parameter 0 has no name"),
    "two weights of one name": (
        lambda c: operations(c)[1].update(A=operations(c)[0]["A"]), "two parameters are called"
    ),
    "a weight called feed": (lambda c: operations(c)[0]["A"].__setitem__(3, "feed"), "its weight 'feed'"),
    "an output twice": (lambda c: attribute(operations(c)[-1], "col").update(D=0), "gives output 0 again"),
    "output 7 of 2": (lambda c: attribute(operations(c)[-1], "col").update(D=7), r"outputs are numbered \[0, 7\]"),
    "another shape": (
        lambda c: the(c, "reshape")["O"][0]["TT"]["D"].__setitem__(1, [1, 5, 1, 1]), r"makes \[1, 5, 1, 1\] of \[\d\]"
    ),
    "a constant of 10^12": (
        lambda c: operations(c).insert(
            0, {"#": "1.full", "I": [], "A": [
                {"N": "value", "AT": {"#": "0.a_f64", "D": 1.0}},
                {"N": "dtype", "AT": {"#": "1.a_dtype", "D": "float32"}},
            ], "O": [{"%": 500, "TT": {"#": "0.t_dtensor", "D": [{"#": "0.t_f32"}, [10**6, 10**6]]}}]},
        ),
        "makes 1000000000000 numbers, more than any PicoDet does",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("edit", "said"), EDITS.values(), ids=EDITS)
def test_each_fault_is_named(tmp_path, edit, said):
    content = copy.deepcopy(SMALL)
    edit(content)
    text = refused(tmp_path, content)
    assert re.search(said, text), text


def test_what_is_no_json_or_too_much_of_it(tmp_path, monkeypatch):
    assert "it is no JSON: " in refused(tmp_path, b'{"base_code"')
    assert "it is no JSON: " in refused(tmp_path, b'{"a": NaN}')
    assert "it is no JSON: " in refused(tmp_path, b'{"a": "\xff"}')
    assert "it is no JSON: " in refused(tmp_path, b'{"a": ' + b"9" * 5000 + b"}")
    assert "nested too deep" in refused(tmp_path, b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}")
    assert "base_code" in refused(tmp_path, b"{}")
    deep: dict = {"#": "0.a_i32", "D": 1}
    for _ in range(400):
        deep = {"#": "0.a_array", "D": [deep]}
    content = copy.deepcopy(SMALL)
    the(content, "conv2d")["A"][0]["AT"] = deep
    assert "nested too deep" in refused(tmp_path, content) or "expected" in refused(tmp_path, content)
    monkeypatch.setattr(document, "MOST_BYTES", 100)
    assert "0 MiB are more than any PicoDet's program" in refused(tmp_path, SMALL)


def test_only_json_is_taken_for_json():
    assert is_pir(b' {"base_code"') and not is_pir(b"\n\x04feed{") and not is_pir(b"")


def _places(value, found):
    """Every (container, key) in a document."""
    for key, item in value.items() if isinstance(value, dict) else enumerate(value):
        found.append((value, key))
        if isinstance(item, (dict, list)):
            _places(item, found)
    return found


@pytest.mark.parametrize("seed", range(200))
def test_whatever_is_changed_it_is_read_or_refused(tmp_path, seed):
    """One to three values anywhere in the file replaced, dropped or doubled."""
    drawn, content = random.Random(seed), copy.deepcopy(SMALL)
    for _ in range(drawn.randint(1, 3)):
        container, key = drawn.choice(_places(content, []))
        new = drawn.choice(
            [None, True, -1, 0, 3, 2**31, 2**70, 1e308, "", "x", [], {}, [[]], "drop", "double"]
        )
        if new == "drop":
            del container[key]
        elif new == "double" and isinstance(container, list):
            container.append(container[key])
        else:
            container[key] = new
    path = tmp_path / "inference.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    try:
        assert program_facts(path).inputs
        read_program(path)
    except WeightsError as error:
        assert "\n" not in str(error) and len(str(error)) < 600
