"""Everything of picoquant that the pinned scenarios call in a process of their own.

All imports of picoquant are in this file, so that a module that moves is followed here only. `in_process` runs one of
`CALLS` in a new interpreter; everything else of `tests/pinned` goes through the command line.

python -m tests.pinned.calls    reads {"call": name, "arguments": {...}} from stdin, prints the result as JSON
"""

from __future__ import annotations

import contextlib
import io
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def in_process(call: str, arguments: Mapping[str, Any], cwd: Path, environment: Mapping[str, str]) -> Any:
    """The result of one of `CALLS` in an interpreter of its own.

    Raises: `RuntimeError` with the process's messages when it fails.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.pinned.calls"],
        input=json.dumps({"call": call, "arguments": dict(arguments)}),
        capture_output=True,
        text=True,
        cwd=cwd,
        env=dict(environment),
        timeout=3000,
    )
    if done.returncode:
        raise RuntimeError(f"{call}{dict(arguments)} ended with {done.returncode}:\n{done.stderr}")
    return json.loads(done.stdout)


def help_texts() -> dict[str, str]:
    """`--help` of the program and of each command and sub-command, by its words, as every version of click has it.

    Versions differ in where they break a line of "Usage" and in its brackets.
    """
    from picoquant.cli.main import cli
    from picoquant.cli.tree import commands

    paths = [(), *(path for path, _ in commands(cli))]
    texts = {}
    for path, one in zip(paths, command_lines([[*path, "--help"] for path in paths])):
        usage, rest = one["stdout"].split("\n\n", 1)
        texts[" ".join(["picoquant", *path])] = "\n\n".join([re.sub(r"[\[\]\s]", "", usage), rest])
    return texts


def command_lines(lines: list[list[str]]) -> list[dict[str, Any]]:
    """Exit code, stdout and error line of command lines, one after the other in this process."""
    from picoquant.cli.main import cli
    from picoquant.errors import PicoquantError

    found = []
    for arguments in lines:
        error = ""
        with contextlib.redirect_stdout(io.StringIO()) as out:
            try:
                code = cli(arguments, prog_name="picoquant", standalone_mode=False)
            except PicoquantError as refused:
                code, error = refused.exit_code, str(refused)
        code = code if isinstance(code, int) else 0
        found.append({"code": code, "stdout": out.getvalue(), "error": error})
    return found


def with_integer_rules(names: list[str]) -> list[str]:
    """Those of some targets that the simulation computes for."""
    from picoquant.targets.profiles import load_target

    return [name for name in names if load_target(name).integer_rules is not None]


def simulate(folder: str, names: list[str], image: str) -> dict[str, list[dict[str, Any]]]:
    """Outputs of an INT8 model folder in each target's integers.

    Args:
        folder: the model.
        names: targets.
        image: `.npy` file of the network's input, `[1, 3, H, W]` float32.

    Returns: for each target shape, type and SHA-256 of each output.
    """
    from picoquant.paddle_program.model_folder import ModelFolder
    from picoquant.runtimes.backends import simulating
    from picoquant.runtimes.model import model_of_folder
    from picoquant.targets.profiles import load_target

    model = model_of_folder(ModelFolder.open(Path(folder)), "pinned")
    feed = {"image": np.load(image)}
    found = {}
    for name in names:
        with simulating(model, load_target(name)) as ready:
            found[name] = [_described(value) for value in ready.predict(feed)]
    return found


def read_operators(folder: str | None) -> dict[str, Any]:
    """What is read out of an INT8 model folder: operators with scales, ranges, the network's operator types.

    Args:
        folder: the model; None writes the small one of `tests/packaging`, in PaddleSlim's form.
    """
    from picoquant.int8.paddle.form import out_thresholds
    from picoquant.int8.paddle.reader import take_apart
    from picoquant.paddle_program.edit import batch_of_one
    from picoquant.paddle_program.model_folder import ModelFolder
    from picoquant.paddle_program.params import read_params
    from tests.networks.small_int8 import write_small

    with tempfile.TemporaryDirectory() as scratch:
        model = ModelFolder.open(Path(folder)) if folder else write_small(Path(scratch))
        program = batch_of_one(model.model, model.config.input_size)
        values = read_params(program, model.params)
        network, operators, learnt = take_apart(program, values, model.model)
    return {
        "operators": [
            {
                "type": one.op_type,
                "output": one.output,
                "activation": one.activation,
                "activation_scale": learnt[one.activation] / 127,
                "weight": one.weight,
                "weight_values": _described(one.integers),
                "weight_scales": _described(one.scales.astype(np.float32)),
                "weight_axis": one.params.axis,
            }
            for one in operators.values()
        ],
        "ranges": {name: value for name, value in out_thresholds(network.blocks[0]).items() if value},
        # Paddle 2.6 saves a small network's outputs behind scales of 1, Paddle 3 as they are.
        "operator_types": [op.type for op in network.blocks[0].ops if folder or op.type != "scale"],
    }


def _described(value: np.ndarray) -> dict[str, Any]:
    import hashlib

    value = np.ascontiguousarray(value)
    digest = hashlib.sha256(value.tobytes()).hexdigest()
    return {"shape": list(value.shape), "dtype": str(value.dtype), "sha256": digest}


CALLS = {
    "help_texts": help_texts,
    "command_lines": command_lines,
    "with_integer_rules": with_integer_rules,
    "simulate": simulate,
    "read_operators": read_operators,
}


def main() -> None:
    """Run the call that stdin asks for; its result is all that goes to stdout."""
    asked = json.load(sys.stdin)
    with contextlib.redirect_stdout(sys.stderr):
        result = CALLS[asked["call"]](**asked["arguments"])
    print(json.dumps(result))


if __name__ == "__main__":
    main()
