"""A model that is changed: its program as messages, its stored values as arrays; nothing of it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from picoquant.errors import PicoquantError, WeightsError
from picoquant.paddle_program.editing.operator import EditableOperator
from picoquant.paddle_program.graph import FEED, FETCH, Graph, read_graph
from picoquant.paddle_program.message import add_operator, add_variable
from picoquant.paddle_program.model_folder import MODEL, PARAMS
from picoquant.paddle_program.params import read_params, write_params
from picoquant.paddle_program.program import complete, read_program
from picoquant.paddle_program.validate import require_sound
from picoquant.storage.files import whole_file
from picoquant.utils.paddle_version.differences import tensor_of


class ProgramModel:
    """A program of one block with its stored values.

    Args:
        program: a `ProgramDesc` message that `validate.require_sound` accepts; left unchanged.
        values: its stored tensors, by name.
        where: names the program in messages.

    Attributes:
        operators: in execution order, without feed and fetch; may be changed.
        values: the stored tensors; arrays are replaced (`write`), never changed in place.

    Raises: `WeightsError` for a program with control flow: what its inner blocks read is not followed.
    """

    def __init__(self, program: Any, values: Mapping[str, np.ndarray], where: str = "the model") -> None:
        block = program.blocks[0]
        if len(program.blocks) > 1:
            holder = next((op.type for op in block.ops if _holds_block(op)), "unknown")
            raise WeightsError(
                f"{where} has control flow ({holder}: a block inside of another), which quantisation does not follow: "
                "export the model without it"
            )
        self._program, self._where = program, where
        operators = [_copied(op) for op in block.ops]
        self._feeds = [op for op in operators if op.type == FEED]
        self._fetches = [op for op in operators if op.type == FETCH]
        self.operators = [EditableOperator(op) for op in operators if op.type not in (FEED, FETCH)]
        self._variables = {variable.name: _copied(variable) for variable in block.vars}
        self.values = dict(values)

    @classmethod
    def load(cls, folder: Path) -> ProgramModel:
        """Read `model.pdmodel` and `model.pdiparams` of a folder.

        Raises: `WeightsError` for files that are damaged or do not belong together, or a program with control flow.
        """
        path = Path(folder) / MODEL
        program = read_program(path)
        require_sound(program, path)
        return cls(program, read_params(program, Path(folder) / PARAMS), str(path))

    def copy(self) -> ProgramModel:
        """The model again, to be changed on its own; the arrays are shared."""
        return ProgramModel(self.message(), self.values, self._where)

    def save(self, folder: Path) -> None:
        """Write `model.pdmodel` and `model.pdiparams` into a folder, which is made; each file is whole or absent."""
        program = self.message()
        complete(program)
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(folder / PARAMS, "wb") as stream:
            write_params(program, self.values, stream)
        with whole_file(folder / MODEL, "wb") as stream:
            stream.write(program.SerializeToString(deterministic=True))

    def message(self) -> Any:
        """The program as it is now, a `ProgramDesc` message of its own."""
        program = type(self._program)()
        program.CopyFrom(self._program)
        block = program.blocks[0]
        del block.ops[:], block.vars[:]
        block.ops.extend([*self._feeds, *(op.message for op in self.operators), *self._fetches])
        block.vars.extend(self._variables.values())
        return program

    def graph(self) -> Graph:
        """The operators and tensors as they are now, as plain values."""
        return read_graph(self.message())

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs, in order."""
        return tuple(name for op in sorted(self._feeds, key=_column) for name in op.outputs[0].arguments)

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs, in order."""
        return tuple(name for op in sorted(self._fetches, key=_column) for name in op.inputs[0].arguments)

    # Tensors.

    def has(self, name: str) -> bool:
        """Whether the program has a tensor of that name."""
        return name in self._variables

    def is_stored(self, name: str) -> bool:
        """Whether a tensor's value is in the model's files."""
        return name in self._variables and self._variables[name].persistable

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape of a tensor, -1 for an unknown length.

        Raises: `PicoquantError` for one that the program does not have.
        """
        return tuple(tensor_of(self._variable(name).type).dims)

    def set_shape(self, name: str, shape: Sequence[int]) -> None:
        """Change the shape of a tensor."""
        tensor_of(self._variable(name).type).dims[:] = shape

    def add_tensor(self, name: str, like: str) -> str:
        """Add a computed tensor of another's shape and type; one that is there already stays. The name is returned."""
        if name not in self._variables:
            variable = add_variable(self._program, name, self.shape(like))
            tensor_of(variable.type).data_type = tensor_of(self._variable(like).type).data_type
            self._variables[name] = variable
        return name

    def store(self, name: str, value: np.ndarray) -> str:
        """Add a stored float32 tensor, or give the one of that name another value and shape; its name is returned."""
        value = np.ascontiguousarray(value, np.float32)
        self._variables[name] = add_variable(self._program, name, value.shape, stored=True)
        self.values[name] = value
        return name

    def write(self, name: str, value: np.ndarray) -> None:
        """Replace the value of a stored tensor; its type stays.

        Args:
            name: of the tensor.
            value: in its shape; another shape becomes the tensor's.

        Raises: `PicoquantError` for a tensor that is not stored.
        """
        if name not in self.values:
            raise PicoquantError(f"{self._where} has no stored tensor {name}")
        self.values[name] = np.ascontiguousarray(value, self.values[name].dtype)
        if self.shape(name) != self.values[name].shape:
            self.set_shape(name, self.values[name].shape)

    def _variable(self, name: str) -> Any:
        if name not in self._variables:
            raise PicoquantError(f"{self._where} has no tensor {name}")
        return self._variables[name]

    # Operators.

    def producer(self, name: str) -> EditableOperator | None:
        """The first operator that computes a tensor; None for an input or a stored tensor."""
        return next((op for op in self.operators if name in op.outputs), None)

    def users(self, name: str) -> list[EditableOperator]:
        """The operators that read a tensor, in execution order."""
        return [op for op in self.operators if name in op.inputs]

    def insert(
        self,
        index: int,
        op_type: str,
        inputs: Mapping[str, Sequence[str]],
        outputs: Mapping[str, Sequence[str]],
        attributes: Mapping[str, Any],
    ) -> EditableOperator:
        """Insert an operator before the one at an index; its tensors must be there.

        Raises: `PicoquantError` for a tensor that the program does not have.
        """
        for name in (name for slots in (inputs, outputs) for names in slots.values() for name in names):
            self._variable(name)
        message = add_operator(self._program, op_type, inputs, outputs, attributes)
        self.operators.insert(index, EditableOperator(message))
        return self.operators[index]

    def insert_copy(self, index: int, op: EditableOperator) -> EditableOperator:
        """Insert a copy of an operator before the one at an index."""
        self.operators.insert(index, EditableOperator(_copied(op.message)))
        return self.operators[index]

    def index(self, op: EditableOperator) -> int:
        """The place of an operator."""
        return next(place for place, one in enumerate(self.operators) if one is op)

    def rename_reads(self, name: str, other: str, start: int = 0) -> None:
        """Let operators, from an index on, read another tensor in place of one; outputs stay."""
        for op in self.operators[start:]:
            if name in op.inputs:
                op.rename_input(name, other)

    def rename(self, name: str, other: str) -> None:
        """Give a tensor another name everywhere, also as an output of the model.

        Raises: `PicoquantError` for a tensor that is not there, or a name that is taken.
        """
        if other in self._variables:
            raise PicoquantError(f"{self._where} has a tensor {other} already")
        variable = self._variable(name)
        variable.name = other
        self._variables[other] = self._variables.pop(name)
        if name in self.values:
            self.values[other] = self.values.pop(name)
        ends = [EditableOperator(op) for op in (*self._feeds, *self._fetches)]
        for op in (*self.operators, *ends):
            if name in op.inputs:
                op.rename_input(name, other)
            if name in op.outputs:
                op.rename_output(name, other)

    def with_outputs(self, names: Iterable[str]) -> ProgramModel:
        """A copy that computes some tensors and nothing else; inputs that they do not need are left out.

        Raises: `PicoquantError` for a tensor that the program does not have.
        """
        names = tuple(names)
        needed, kept = set(names), []
        for name in names:
            self._variable(name)
        for op in reversed(self.operators):
            if needed.intersection(op.outputs):
                kept.append(op)
                needed.update(op.inputs)
        made = self.copy()
        made.operators = [EditableOperator(_copied(op.message)) for op in reversed(kept)]
        made._feeds = [op for op in made._feeds if op.outputs[0].arguments[0] in needed]
        made._fetches = [made._fetch(name, column) for column, name in enumerate(names)]
        made.drop_unused()
        return made

    def _fetch(self, name: str, column: int) -> Any:
        holder = self._fetches[0].outputs[0].arguments[0] if self._fetches else FETCH
        return add_operator(self._program, FETCH, {"X": [name]}, {"Out": [holder]}, {"col": column})

    def drop_unused(self) -> None:
        """Remove tensors that nothing reads or computes."""
        operators = (*(op.message for op in self.operators), *self._feeds, *self._fetches)
        used = {name for op in operators for slot in (*op.inputs, *op.outputs) for name in slot.arguments}
        self._variables = {name: one for name, one in self._variables.items() if name in used}
        self.values = {name: value for name, value in self.values.items() if name in used}


class Inserter:
    """Inserts operators into a model, one after the other.

    Args:
        model: changed in place.
        index: before which operator the first one is inserted.
    """

    def __init__(self, model: ProgramModel, index: int) -> None:
        self._model, self.index = model, index

    def operator(
        self,
        op_type: str,
        inputs: Mapping[str, str],
        outputs: Mapping[str, str],
        attributes: Mapping[str, Any],
    ) -> EditableOperator:
        """Insert an operator with one tensor a slot; see `ProgramModel.insert`."""
        reads, gives = ({slot: [name] for slot, name in one.items()} for one in (inputs, outputs))
        op = self._model.insert(self.index, op_type, reads, gives, attributes)
        self.index += 1
        return op


def _copied(message: Any) -> Any:
    copy = type(message)()
    copy.CopyFrom(message)
    return copy


def _column(op: Any) -> int:
    return next((attribute.i for attribute in op.attrs if attribute.name == "col"), 0)  # its default


def _holds_block(op: Any) -> bool:
    from paddle.base.proto import framework_pb2

    return any(attribute.type in (framework_pb2.BLOCK, framework_pb2.BLOCKS) for attribute in op.attrs)
