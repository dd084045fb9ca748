"""Loading, looking at and saving static programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle.static.quantization.quant_config import SUPPORT_QUANTIZATION_OP_DICT

from picoquant.errors import WeightsError
from picoquant.paddle_program.graph import Graph, graph_of
from picoquant.paddle_program.model_folder import MODEL, PARAMS
from picoquant.paddle_program.program import complete_program, read_program
from picoquant.paddle_program.validate import require_sound
from picoquant.storage.files import whole_file

_SERIALISED = "serialised."
_FLOATS = (paddle.float32,)


@dataclass(frozen=True)
class InferenceModel:
    """A loaded inference program.

    Attributes:
        program: with its feed and fetch operators.
        feeds: names of the inputs.
        fetches: output variables, in order.
    """

    program: Any
    feeds: tuple[str, ...]
    fetches: tuple[Any, ...]

    def graph(self) -> Graph:
        """The operators and tensors of the program as it is now."""
        return graph_of(self.program, self.feeds, [variable.name for variable in self.fetches])


def load_model(folder: Path, executor: Any) -> InferenceModel:
    """Load `model.pdmodel` and `model.pdiparams` of a folder into the current scope.

    Raises: `WeightsError` when Paddle cannot read the files.
    """
    model, params = Path(folder) / MODEL, Path(folder) / PARAMS
    require_sound(read_program(model), model)
    try:
        program, feeds, fetches = paddle.static.load_inference_model(str(model.with_suffix("")), executor)
    except (ValueError, RuntimeError, TypeError) as error:
        reason = str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
        raise WeightsError(
            f"{model} and {params.name} cannot be read by Paddle {paddle.__version__}: {reason}; "
            "export the model again"
        ) from error
    return InferenceModel(program, tuple(feeds), tuple(fetches))


def save_program(program: Any, executor: Any, folder: Path) -> None:
    """Write a program (feed and fetch operators included) and the weights it uses into a folder."""
    stripped = program._remove_training_info(clip_extra=False)
    # Paddle leaves the bytes in the scope under a name of their own: here always the same.
    with paddle.utils.unique_name.guard(_SERIALISED):
        weights = paddle.static.io._serialize_persistables(stripped, executor)
    with whole_file(Path(folder) / PARAMS, "wb") as stream:
        stream.write(weights)
    with whole_file(Path(folder) / MODEL, "wb") as stream:
        stream.write(stripped.desc.serialize_to_string())
    complete_program(Path(folder) / MODEL)


def with_outputs(program: Any, feeds: Sequence[str], fetches: Sequence[str]) -> Any:
    """A copy of a program that computes the named variables and nothing else.

    Args:
        program: stays as it is.
        feeds: inputs; those that are not needed are left out of the copy.
        fetches: names of the variables, in the order of the outputs.
    """
    block = program.global_block()
    copy = strip_feed_fetch(program._prune([block.var(name) for name in fetches]))
    used = {name for op in copy.global_block().ops for name in op.input_arg_names}
    paddle.static.io.prepend_feed_ops(copy, [name for name in feeds if name in used])
    paddle.static.io.append_fetch_ops(copy, list(fetches))
    return copy


def strip_feed_fetch(program: Any) -> Any:
    """Remove feed and fetch operators, which an executor adds as it needs them; returns the program."""
    block = program.global_block()
    for index in reversed(range(len(block.ops))):
        if block.ops[index].type in ("feed", "fetch"):
            block._remove_op(index, sync=False)
    program._sync_with_cpp()
    return program


def read_variable(scope: Any, name: str) -> np.ndarray:
    """The value of a variable."""
    return np.array(scope.find_var(name).get_tensor())


def write_variable(scope: Any, name: str, value: np.ndarray) -> None:
    """Set a variable, making it where it is not there."""
    scope.var(name).get_tensor().set(np.ascontiguousarray(value), paddle.CPUPlace())


def free_variables(program: Any, scope: Any) -> None:
    """Free what a program that was loaded, and saved, holds in a scope of its own: Paddle keeps every scope."""
    scope.erase([*state_names(program), f"{_SERIALISED}out_var_0"])


def state_names(program: Any) -> list[str]:
    """Names of the variables of a program that outlast a step."""
    kinds = paddle.framework.core.VarDesc.VarType
    return sorted(
        variable.name
        for variable in program.list_vars()
        if variable.persistable and variable.type == kinds.LOD_TENSOR
    )


def input_names(op: Any) -> list[str]:
    """Names of the variables an operator computes on, as PaddleSlim lists them for its type."""
    slots = SUPPORT_QUANTIZATION_OP_DICT.get(op.type)
    names = slots[0] if slots else op.input_names
    return [name for slot in names if slot in op.input_names for name in op.input(slot)]


def output_names(op: Any) -> list[str]:
    """Names of an operator's results (for known types without shape and bookkeeping outputs)."""
    slots = SUPPORT_QUANTIZATION_OP_DICT.get(op.type)
    names = slots[1] if slots else op.output_names
    return [name for slot in names if slot in op.output_names for name in op.output(slot)]


def is_activation(block: Any, name: str) -> bool:
    """Whether a variable is a floating point tensor that is computed, not stored."""
    if not block.has_var(name):
        return False
    variable = block.var(name)
    kind = variable.type == paddle.framework.core.VarDesc.VarType.LOD_TENSOR
    return kind and not variable.persistable and variable.dtype in _FLOATS


class Inserter:
    """Puts operators into a block, one after the other, from a place on.

    Args:
        block: the block.
        index: where the first one goes.
    """

    def __init__(self, block: Any, index: int) -> None:
        self._block, self.index = block, index

    def operator(self, kind: str, inputs: dict, outputs: dict, attrs: dict) -> Any:
        """Insert one operator; inputs and outputs are variables by slot."""
        op = self._block._insert_op_without_sync(
            self.index, type=kind, inputs=inputs, outputs=outputs, attrs=attrs
        )
        self.index += 1
        return op

    def variable(self, name: str, like: Any, persistable: bool = False, **changes: Any) -> Any:
        """A variable with the shape and type of another."""
        if self._block.has_var(name):
            return self._block.var(name)
        shape, dtype = changes.get("shape", like.shape), changes.get("dtype", like.dtype)
        variable = self._block.create_var(name=name, shape=shape, dtype=dtype, persistable=persistable)
        variable.stop_gradient = persistable
        return variable
