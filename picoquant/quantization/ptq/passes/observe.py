"""Pass: histograms and channel means of the activations, measured on the calibration images."""

from __future__ import annotations

from dataclasses import replace

from picoquant.quantization.ptq.passes.observed import Observations
from picoquant.quantization.ptq.state import PtqState
from picoquant.quantization.ptq.student_files import share_student


def observe(state: PtqState) -> PtqState:
    """Run the float network over the calibration images and collect what ranges and biases are chosen from.

    Several processes share the images; the others than rank 0 are in `observe_share`.

    Raises: `DataError` for a tensor that is not finite; `WeightsError` naming an operator that cannot be run.
    """
    processes = state.context.processes
    if processes.world > 1:
        state.model.save(state.context.paths.student)
        processes.broadcast(OBSERVE)
        share_student(state.context)
    found = Observations.of(state, processes.world)
    for content in processes.gather(b"")[1:]:
        found.merge(content)
    return replace(state, statistics=found.statistics(), images=state.context.images.images)


OBSERVE = b"observe"  # what rank 0 asks the others for


def observe_share(state: PtqState) -> None:
    """In other processes than rank 0: measure their part of the images, and send what was found.

    Args:
        state: the network as rank 0 has it.
    """
    state.context.processes.gather(Observations.of(state).packed())
