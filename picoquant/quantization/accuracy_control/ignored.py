"""What the layers cost that the user keeps in float (`Quantize.keep_float`)."""

from __future__ import annotations

from picoquant.int8.build import Int8Source
from picoquant.int8.operators import quantizable_operators
from picoquant.int8.scheme import QuantAwareSettings
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.quantization.accuracy_control.evaluator import CandidateEvaluator
from picoquant.quantization.accuracy_control.float_layers import int8_runs, names_by_output
from picoquant.quantization.accuracy_control.report import LayerInFloat, MixedPrecision


def cost_of_ignored_layers(
    source: Int8Source, evaluator: CandidateEvaluator, quant: QuantAwareSettings
) -> MixedPrecision:
    """How the ignored layers split the network; their mAP is that of the model, so none is measured here.

    Args:
        source: the INT8 model, in whose operators the ignored layers are missing.
        evaluator: counts NPU pieces, once, with all of these layers in float.
        quant: section `QuantAware`: names the operators that would be in INT8 without the user's choice.
    """
    model = ProgramModel.load(source.folder)
    operators = quantizable_operators(model, quant)
    int8 = {operator.output for operator in source.operators}
    names = names_by_output(operators)
    ignored = [operator.output for operator in operators if operator.output not in int8]
    pieces = evaluator.pieces_of(source)
    rows = [
        LayerInFloat(
            layer=names[output],
            output=output,
            alone_db=None,
            mAP_before=None,
            mAP_after=None,
            int8_runs=int8_runs(model.graph(), ignored[:number]),
            npu_pieces=pieces if number == len(ignored) else {},
        )
        for number, output in enumerate(ignored, start=1)
    ]
    return MixedPrecision(layers=tuple(rows), int8_runs=int8_runs(model.graph(), ()))
