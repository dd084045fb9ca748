"""A PIR program as the `ProgramDesc` message that Paddle 2.6 would have written for the same network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from picoquant.errors import WeightsError
from picoquant.paddle_program.graph import BOOKKEEPING, FEED, FETCH
from picoquant.paddle_program.message import DTYPES, TypedList, add_operator, add_variable
from picoquant.paddle_program.pir.attributes import attribute, checked, require_known
from picoquant.paddle_program.pir.document import Operation, PirError, PirProgram, Type, read_document
from picoquant.paddle_program.pir.rules import RULES, Constant, Rule
from picoquant.paddle_program.pir.special import SPECIAL
from picoquant.paddle_program.pir.translation import Emitted, Number, Translation

_VERSION = 2006002  # of Paddle 2.6.2, whose operators these are
_NAMED = 5  # unknown operators in one message


def program_of(data: bytes, path: Path) -> Any:
    """The `ProgramDesc` message of the bytes of an `inference.json`; nothing of it is run.

    Weights keep their names, so that the `.pdiparams` file beside it is that of the message, too. Inputs keep their
    names; other variables, which have none in PIR, are named after their operators.

    Raises: `WeightsError` naming the operators that are not read, or the first fault.
    """
    try:
        return _message(_translate(read_document(data)))
    except RecursionError as error:
        raise WeightsError(
            f"{path} is no program of PaddlePaddle 3 that can be read: it is nested too deep"
        ) from error
    except PirError as error:
        raise WeightsError(f"{path} is no program of PaddlePaddle 3 that can be read: {error}") from error


def _translate(program: PirProgram) -> tuple[Translation, tuple[str, ...]]:
    """The new program, and the names of its stored variables.

    Raises: `PirError`.
    """
    unknown = dict.fromkeys(
        op.name for op in program.operations if op.name not in RULES and op.name not in SPECIAL
    )
    if unknown:
        named = [name[:50] for name in unknown]
        more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
        raise PirError(
            f"it has operators that are not read here: {', '.join(named[:_NAMED])}{more}; "
            "export a PicoDet for inference"
        )
    state = Translation()
    for name, value in program.parameters.items():
        assert isinstance(value.type, Type)
        if value.type.dtype not in DTYPES:
            raise PirError(f"its weight {name[:50]!r} is {value.type.dtype}: export it in float32")
        if name in (FEED, FETCH) or value.number in state.entries or not value.number:
            raise PirError(f"its weight {name[:50]!r} has the name or the number of something else")
        state.types[name], state.entries[value.number] = value.type, name
    for op in program.operations:
        special = SPECIAL.get(op.name)
        if special is not None:
            special(state, op)
        else:
            _apply(RULES[op.name], state, op)
    if not state.inputs or not state.outputs:
        raise PirError(f"it has no {'output' if state.inputs else 'input'}")
    if sorted(state.outputs) != list(range(len(state.outputs))):
        raise PirError(f"its outputs are numbered {sorted(state.outputs)[:10]}")
    return state, tuple(program.parameters)


def _apply(rule: Rule, state: Translation, op: Operation) -> None:
    """Write an operation by its rule.

    Raises: `PirError` if its operands, results or attributes are not those of the rule.
    """
    require_known(op, (*rule.attributes, *rule.dropped))
    for name, value in rule.dropped.items():
        if op.attributes.get(name) != value:
            raise PirError(
                f"{op.where}, has {name} {str(op.attributes.get(name))[:40]!r}, {value!r} expected"
            )
    attributes: dict[str, Any] = {}
    for name, kind in rule.attributes.items():
        attributes[rule.renamed.get(name, name)] = attribute(op, name, kind)
        if name in rule.required and op.attributes[name] != rule.required[name]:
            raise PirError(
                f"{op.where}, has {name} {op.attributes[name]!r}: export it for inference, after eval()"
            )
    attributes.update(rule.fixed)
    if len(op.inputs) > len(rule.operands) or len(op.results) > len(rule.outputs):
        raise PirError(
            f"{op.where}, has {len(op.inputs)} operands and {len(op.results)} results, more than it takes"
        )
    inputs: dict[str, tuple[str, ...]] = {}
    for place, operand in enumerate(rule.operands):
        found = state.entry(op, place)
        if isinstance(operand, Constant):
            if isinstance(found, Number):
                attributes[operand.attribute] = _constant(found, operand.kind, f"{op.where}: operand {place}")
            elif operand.tensor and found is not None:
                inputs[operand.tensor] = (state.tensor(op, place),)
            else:
                raise PirError(f"{op.where}, computes its {operand.attribute}, which is not read")
        elif found is not None:
            inputs[operand.name] = state.tensors(op, place) if operand.many else (state.tensor(op, place),)
        elif not operand.optional:
            raise PirError(f"{op.where}, takes nothing as operand {place}")
    if rule.type.startswith("reduce_"):
        attributes.update(_reduced(attributes, op))
    outputs = _outputs(rule, state, op)
    if rule.type == "batch_norm":  # its statistics are written where they are read
        outputs.update(MeanOut=inputs["Mean"], VarianceOut=inputs["Variance"])
    if rule.shape_output:
        first = state.type_of(op, 0)
        noted = Type(first.dtype, (0, *first.shape))
        outputs[rule.shape_output] = (state.new(f"{rule.type}.{rule.shape_output}", noted),)
    state.emit(rule.type, inputs, outputs, attributes, rule.version)


def _constant(number: Number, kind: str, where: str) -> Any:
    """A number as an attribute; PIR writes every single one as a float."""
    single = kind.rstrip("+") in ("int", "float")
    value: Any = number.values
    if single:
        if len(value) != 1:
            raise PirError(f"{where} is {len(value)} numbers, one is expected")
        value = value[0]
        if kind == "float":
            value = float(value)
        elif isinstance(value, float) and value.is_integer():
            value = int(value)
    return checked(value, kind, where)


def _reduced(attributes: dict[str, Any], op: Operation) -> dict[str, Any]:
    """No axes are all of them."""
    axes = attributes["dim"].items
    if axes:
        return {"reduce_all": False, "in_dtype": -1, "out_dtype": -1}
    return {"dim": TypedList("ints", (0,)), "reduce_all": True, "in_dtype": -1, "out_dtype": -1}


def _outputs(rule: Rule, state: Translation, op: Operation) -> dict[str, tuple[str, ...]]:
    """Variables by slot; what only training reads is made, too, where Paddle wants it."""
    outputs: dict[str, tuple[str, ...]] = {}
    for place, slot in enumerate(rule.outputs):
        kind = op.results[place].type if place < len(op.results) else None
        if isinstance(kind, tuple):
            if not kind:
                raise PirError(f"{op.where}, has an empty list as result")
            names = tuple(state.new(rule.type, one) for one in kind)
            outputs[slot] = names
            _define_list(state, op, place, names)
        elif slot and kind is not None:
            stem = f"{rule.type}.{slot}" if slot in BOOKKEEPING else rule.type
            outputs[slot] = (state.result(op, place, stem),)
        elif slot:
            raise PirError(f"{op.where}, has no result {place}")
    return outputs


def _define_list(state: Translation, op: Operation, place: int, names: Sequence[str]) -> None:
    """A list of new variables; its items get numbers below all of a file's."""
    numbers = []
    for name in names:
        number = -1 - len(state.entries)
        state.entries[number] = name
        numbers.append(number)
    state.define(op, op.results[place], tuple(numbers))


def _used(state: Translation) -> list[Emitted]:
    """The operators that an output depends on: PIR keeps shapes that were computed while it was traced."""
    wanted, kept = set(state.outputs.values()), []
    for op in reversed(state.operators):
        if any(name in wanted for names in op.outputs.values() for name in names):
            wanted.update(name for names in op.inputs.values() for name in names)
            kept.append(op)
    return kept[::-1]


def _message(translated: tuple[Translation, tuple[str, ...]]) -> Any:
    """The new program as a message."""
    from paddle.base.proto import framework_pb2

    state, stored = translated
    operators = _used(state)
    program = framework_pb2.ProgramDesc()
    program.version.version = _VERSION
    block = program.blocks.add(idx=0, parent_idx=-1, forward_block_idx=-1)
    for name, holder in ((FEED, "FEED_MINIBATCH"), (FETCH, "FETCH_LIST")):
        variable = block.vars.add(name=name, persistable=True)
        variable.type.type = framework_pb2.VarType.Type.Value(holder)
    used = {
        name for op in operators for names in (*op.inputs.values(), *op.outputs.values()) for name in names
    }
    for name in (*state.inputs, *stored, *sorted(used - set(state.inputs) - set(stored))):
        kind = state.types[name]
        variable = add_variable(program, name, kind.shape, kind.dtype, name in stored)
        block.vars.append(variable)
    for column, name in enumerate(state.inputs):
        block.ops.append(add_operator(program, FEED, {"X": (FEED,)}, {"Out": (name,)}, {"col": column}))
    for op in operators:
        block.ops.append(add_operator(program, op.type, op.inputs, op.outputs, op.attributes))
    for column in range(len(state.outputs)):
        name = state.outputs[column]
        block.ops.append(add_operator(program, FETCH, {"X": (name,)}, {"Out": (FETCH,)}, {"col": column}))
    for name in sorted({op.type for op in operators} & set(state.versions)):
        pair = program.op_version_map.pair.add(op_name=name)
        pair.op_version.version = state.versions[name]
    return program
