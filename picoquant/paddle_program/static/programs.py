"""Loading, inspecting, editing and saving static programs."""

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
        program: a `paddle.static.Program` with its feed and fetch operators.
        feeds: names of the inputs.
        fetches: output variables, in order.
    """

    program: Any
    feeds: tuple[str, ...]
    fetches: tuple[Any, ...]

    def graph(self) -> Graph:
        """The operators and tensors of the program in its current state."""
        return graph_of(self.program, self.feeds, [variable.name for variable in self.fetches])


def load_model(folder: Path, executor: Any) -> InferenceModel:
    """Load `model.pdmodel` and `model.pdiparams` of a folder into the current scope.

    Raises: `WeightsError` if Paddle cannot read the files.
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
    """Write a program, including its feed and fetch operators, and the weights that it uses into a folder."""
    stripped = program._remove_training_info(clip_extra=False)
    # Paddle leaves the bytes in the scope under a unique name; this makes it always the same one.
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
        program: the program to copy; left unchanged.
        feeds: names of its inputs; those that the copy does not need are left out.
        fetches: names of the variables, in the order of the outputs.
    """
    block = program.global_block()
    copy = strip_feed_fetch(program._prune([block.var(name) for name in fetches]))
    used = {name for op in copy.global_block().ops for name in op.input_arg_names}
    paddle.static.io.prepend_feed_ops(copy, [name for name in feeds if name in used])
    paddle.static.io.append_fetch_ops(copy, list(fetches))
    return copy


def strip_feed_fetch(program: Any) -> Any:
    """Remove the feed and fetch operators, which an executor adds itself; returns the same program."""
    block = program.global_block()
    for index in reversed(range(len(block.ops))):
        if block.ops[index].type in ("feed", "fetch"):
            block._remove_op(index, sync=False)
    program._sync_with_cpp()
    return program


def read_variable(scope: Any, name: str) -> np.ndarray:
    """A copy of the value of a variable in a scope."""
    return np.array(scope.find_var(name).get_tensor())


def write_variable(scope: Any, name: str, value: np.ndarray) -> None:
    """Set the value of a variable in a scope; the variable is created if it does not exist."""
    scope.var(name).get_tensor().set(np.ascontiguousarray(value), paddle.CPUPlace())


def state_names(program: Any) -> list[str]:
    """Names of the persistable variables of a program, sorted."""
    types = paddle.framework.core.VarDesc.VarType
    return sorted(
        variable.name
        for variable in program.list_vars()
        if variable.persistable and variable.type == types.LOD_TENSOR
    )


def input_names(op: Any) -> list[str]:
    """Names of an operator's input variables, for known types only the slots that PaddleSlim quantises."""
    slots = SUPPORT_QUANTIZATION_OP_DICT.get(op.type)
    names = slots[0] if slots else op.input_names
    return [name for slot in names if slot in op.input_names for name in op.input(slot)]


def output_names(op: Any) -> list[str]:
    """Names of an operator's output variables, for known types without shapes and bookkeeping outputs."""
    slots = SUPPORT_QUANTIZATION_OP_DICT.get(op.type)
    names = slots[1] if slots else op.output_names
    return [name for slot in names if slot in op.output_names for name in op.output(slot)]


def is_activation(block: Any, name: str) -> bool:
    """Whether a variable is a float32 tensor that is computed, not stored."""
    if not block.has_var(name):
        return False
    variable = block.var(name)
    is_tensor = variable.type == paddle.framework.core.VarDesc.VarType.LOD_TENSOR
    return is_tensor and not variable.persistable and variable.dtype in _FLOATS


class Inserter:
    """Inserts operators into a block, one after the other.

    Args:
        block: the block of a static program.
        index: index in the block at which the first operator is inserted.
    """

    def __init__(self, block: Any, index: int) -> None:
        self._block, self.index = block, index

    def operator(self, op_type: str, inputs: dict, outputs: dict, attrs: dict) -> Any:
        """Insert one operator and return it; inputs and outputs are variables by slot."""
        op = self._block._insert_op_without_sync(
            self.index, type=op_type, inputs=inputs, outputs=outputs, attrs=attrs
        )
        self.index += 1
        return op

    def variable(self, name: str, like: Any, persistable: bool = False, **changes: Any) -> Any:
        """Create a variable with the shape and type of another, or return the existing one of this name.

        Args:
            name: name of the variable.
            like: the other variable.
            persistable: whether it is stored with the program.
            changes: `shape` or `dtype`, if they differ from those of `like`.
        """
        if self._block.has_var(name):
            return self._block.var(name)
        shape, dtype = changes.get("shape", like.shape), changes.get("dtype", like.dtype)
        variable = self._block.create_var(name=name, shape=shape, dtype=dtype, persistable=persistable)
        variable.stop_gradient = persistable
        return variable
