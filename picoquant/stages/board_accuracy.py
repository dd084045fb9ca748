"""The mAP that an INT8 model has on a board whose NPU runs everything in INT8, simulated; a model that loses most of
it there is refused.

An NPU also holds what follows the last convolutions in INT8: of boxes in pixels nothing useful is left
(rounded to steps of about 3 pixels of a 416-pixel input). What Paddle Lite leaves to the CPU stays in float.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from picoquant.backends.paddle.runtime import open_predictor
from picoquant.backends.paddle_lite.toolchain import find_opt
from picoquant.errors import ToolError, UserError
from picoquant.int8.fake_quant_run import save_full_integer_simulation
from picoquant.npu.check import check_model
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.program import program_facts
from picoquant.postprocess import Decoder
from picoquant.stages import datasets
from picoquant.stages.evaluating import evaluate_model, evaluation_images
from picoquant.stages.stage import Context
from picoquant.targets.profiles import Target

LOG = logging.getLogger("picoquant")

METRIC = "board_mAP"  # of stage `quantize`, where post-processing is inside: target -> mAP
EVERY_TENSOR = "every_tensor_mAP"
_PART, _POINTS = 0.1, 0.01  # of the mAP that may be lost; rounding alone costs far less (docs/accuracy.md)


def runs_everything_in_int8(target: Target) -> bool:
    """Whether a target's NPU computes nothing in float."""
    return target.on_npu and not target.quantization.mixed_precision


def holds_postprocessing(context: Context, model: ModelFolder) -> bool:
    """Whether boxes are decoded inside a model."""
    outputs = program_facts(model.model).outputs
    return Decoder.of(*zip(*outputs), model.config, context.plan.nms, str(model.model)).kind != "raw"


def warn_of_postprocessing(context: Context, model: ModelFolder) -> None:
    """Say before a model is quantised that it is not made for the targets' NPUs."""
    only = [target.name for target in context.plan.targets if runs_everything_in_int8(target)]
    if only and holds_postprocessing(context, model):
        LOG.warning(
            "quantize: post-processing is inside %s, and %s computes everything in INT8: boxes lose most of their "
            "accuracy there; export without it (export.post_process=false)",
            model.model,
            ", ".join(only),
        )


def board_accuracy(
    context: Context, int8: ModelFolder, metrics: Mapping[str, Any], targets: tuple[Target, ...]
) -> dict[str, float]:
    """mAP on each of the targets that run everything in INT8, by name; empty where nothing was evaluated.

    Args:
        context: the recipe.
        int8: the INT8 model.
        metrics: of its quantisation.
        targets: any.

    Raises: `UserError` when a target loses much of the mAP that integer runtimes have.
    """
    if EVERY_TENSOR not in metrics or "mAP" not in metrics:
        return {}
    known, found = metrics.get(METRIC) or {}, {}
    for target in filter(runs_everything_in_int8, targets):
        value = known.get(target.name)
        found[target.name] = _measured(context, int8, metrics, target) if value is None else value
    return found


def _measured(context: Context, int8: ModelFolder, metrics: Mapping[str, Any], target: Target) -> float:
    """mAP on one target; see `board_accuracy`.

    Without post-processing inside, every tensor is the NPU's; else what opt's split says is. What every tensor in
    INT8 costs counts as long as some of the post-processing is left to the NPU.
    """
    from picoquant.int8.files import open_network

    whole = metrics[EVERY_TENSOR]
    if not holds_postprocessing(context, int8):
        _require_kept(target, metrics["mAP"], whole, "`picoquant analyze` ranks the layers")
        return whole
    held = _held(context, int8, target)
    tensors = open_network(int8).tensors
    behind = {
        name
        for name, tensor in tensors.items()
        if tensor.fused_into is None and not (tensor.quantised or tensors[tensor.owner].quantised)
    }
    if held is None or behind & held:
        cause = (
            "post-processing is inside and not left to the CPU: export without it (export.post_process=false)"
        )
        _require_kept(target, metrics["mAP"], whole, cause)
    if held is None:
        return whole
    value = _simulated(context, int8, held)
    LOG.info("quantize: INT8 mAP %.4f on %s, split as Paddle Lite does (simulated)", value, target.name)
    _require_kept(target, metrics["mAP"], value, "export without post-processing (export.post_process=false)")
    return value


def _held(context: Context, int8: ModelFolder, target: Target) -> frozenset[str] | None:
    """The tensors that a target's NPU holds; None where there is no opt to say so."""
    from picoquant.int8.files import open_network

    try:
        opt = find_opt(context.opt)
    except ToolError as error:
        LOG.info("quantize: taken to run on %s's NPU as a whole: %s", target.name, error)
        return None
    found = check_model(int8, target, opt).npu_tensors
    graph = open_network(int8).graph
    # An export ends each output in a `scale` by 1, which opt drops: the tensor before it gets the output's name.
    ends = [op for op in graph.operators if op.op_type == "scale" and op.name in found & set(graph.outputs)]
    return found | {name for op in ends for _, name in op.inputs}


def _simulated(context: Context, int8: ModelFolder, held: frozenset[str]) -> float:
    """mAP with those tensors in INT8 that the NPU holds."""
    from picoquant.int8.files import open_network

    plan, network = context.plan, open_network(int8)
    dataset = datasets.load(context, "EvalDataset")
    dataset = datasets.for_model(context, dataset, int8.config.labels, str(int8.path))
    images = evaluation_images(dataset, plan.eval_reader_of(int8.config), plan.workers)
    with tempfile.TemporaryDirectory(prefix="picoquant-board-") as scratch:
        model = ProgramModel(network.program, network.values, str(int8.model))
        folder = save_full_integer_simulation(network, model, Path(scratch), int8.config, held)
        predict = open_predictor(folder)
        outputs = program_facts(int8.model).outputs
        decoder = Decoder.of(*zip(*outputs), int8.config, plan.nms, str(int8.model))
        return evaluate_model(predict, decoder, images, "evaluate as split").metrics["mAP"]


def _require_kept(target: Target, int8: float, board: float, what_to_do: str) -> None:
    if board < int8 * (1 - _PART) - _POINTS:
        raise UserError(
            f"the INT8 model has mAP {int8:.4f} in integer runtimes, but {board:.4f} as {target.name} computes it, "
            f"which runs everything in INT8 (simulated); {what_to_do}, or name another target (Package.target)"
        )
