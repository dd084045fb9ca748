"""One step of QAT, in one process or several.

Several processes exchange the means of their gradients in one message, through the process group that FP32 training
uses, so the updates are those of one process with all the images. Ranges that follow the data take the largest value
of any process, as one process would; within a step each process still rounds with its own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np
import paddle

from picoquant.quantization.engine.at_once import AtOnce, Part, images_of_a_part
from picoquant.quantization.engine.feeds import cuts, images_at_once
from picoquant.quantization.engine.primitives.forward import PrimitiveForward
from picoquant.quantization.engine.traced import TracedForward, traceable
from picoquant.quantization.processes import Processes
from picoquant.quantization.ptq.zeros import kept_zeros
from picoquant.quantization.qat.learned_ranges.fixed import Fixed
from picoquant.quantization.qat.learned_ranges.strategy import RangeStrategy
from picoquant.quantization.qat.learning_rate import LearningRate
from picoquant.quantization.qat.objective import Objective
from picoquant.quantization.qat.student import State, Student
from picoquant.quantization.qat.teacher import Teacher
from picoquant.training.fast import memory_that_stays
from picoquant.training.graphs.openmp import awake
from picoquant.training.onednn.graph import UnsupportedError
from picoquant.utils.paddle_version.differences import paddle_3

LOG = logging.getLogger("picoquant")

_AWAKE = 1  # milliseconds that threads wait for the next operator before they sleep
_OWN = "ranges@"  # before the names of the state of the ranges' own optimiser


class TrainingStep:
    """Runs forward, backward and optimiser on a batch.

    Args:
        student: trained in place.
        teacher: gives the tensors that the student is compared with.
        objective: how far the student is from it.
        make_optimizer: makes the optimiser of some parameters; its learning rate is set before each step.
        strategy: of the student's ranges.
        rate: of the weights.
        processes: all of them run each step together.
    """

    def __init__(
        self,
        student: Student,
        teacher: Teacher,
        objective: Objective,
        make_optimizer: Callable[[Sequence[Any]], Any],
        strategy: RangeStrategy,
        rate: LearningRate,
        processes: Processes,
    ) -> None:
        self.student, self.rate = student, rate
        self._teacher, self._objective, self._make_optimizer = teacher, objective, make_optimizer
        self._strategy, self._processes = strategy, processes
        self._weights, self._ranges = student.network.trained(), student.learned_ranges
        self._masks = _masks(student)
        self._forward = _forward_of(student, strategy, objective.student_names)
        self._fitting = images_at_once(student.graph)
        self._at_once = _at_once(self._forward, objective, self._fitting)
        self._make_optimisers()

    def _make_optimisers(self) -> None:
        with paddle.utils.unique_name.guard():
            self._own = self._strategy.optimizer(self._ranges) if self._ranges else None
            learned = [] if self._own is not None else self._ranges
            self._optimizer = self._make_optimizer([*self._weights, *learned])
            self._own_rate = 0.0 if self._own is None else self._own.get_lr()

    def __call__(
        self, feed: Mapping[str, np.ndarray], frozen: bool, flags: Sequence[bool]
    ) -> tuple[float, list[bool]]:
        """Train on a batch, and go on to the next step's learning rate.

        Args:
            feed: this process's images by input name.
            frozen: whether ranges and batch-norm statistics stay as they are.
            flags: of this process.

        Returns: the loss, and of each flag whether it is set in any process.
        """
        inputs = {name: feed[name] for name in self.student.graph.inputs}
        with self._memory(not frozen, len(next(iter(inputs.values())))), awake(_AWAKE):
            loss = self._backward(inputs, frozen)
        found = list(flags)
        if self._processes.world > 1:
            loss, found = self._share(loss, flags, following=not frozen)
        self._update(frozen)
        self.rate.step()
        return loss, found

    def _backward(self, inputs: Mapping[str, np.ndarray], frozen: bool) -> float:
        """Compute the gradients; the loss is returned."""
        parts = []
        for cut, share in self._parts(len(next(iter(inputs.values())))):
            feed = {name: value[cut] for name, value in inputs.items()}
            parts.append(Part(feed, self._teacher(feed), share))
        if self._at_once is not None and len(parts) > 1:
            total = self._at_once(parts, not frozen)
        else:
            total = sum(self._of_part(part, frozen) for part in parts)
        self.student.scale_gradients()
        return total

    def _of_part(self, part: Part, frozen: bool) -> float:
        names = self._objective.student_names
        feed, teacher = (
            {name: paddle.to_tensor(value) for name, value in one.items()}
            for one in (part.feed, part.expected)
        )
        found = dict(zip(names, self._forward(feed, names, not frozen)))
        loss = self._objective(teacher, found) * part.share
        loss.backward()
        return loss.item()

    def _memory(self, following: bool, images: int) -> AbstractContextManager[None]:
        names = self._objective.student_names
        traced = self._forward if isinstance(self._forward, TracedForward) else None
        sizes = [len(range(images)[cut]) for cut, _ in self._parts(images)]
        first = traced is not None and traced.traces(names, following, sizes)
        return memory_that_stays() if first else nullcontext()

    def _parts(self, images: int) -> Iterable[tuple[slice, float]]:
        """The parts of a batch that are run by themselves, and their share of it; gradients are added up.

        Where the objective is not one of images, all goes at once: what it compares may have the images elsewhere.
        """
        graph = self.student.graph
        if not self._objective.of_images:
            return ((slice(None), 1.0),)
        most = self._fitting if self._at_once is None else images_of_a_part(images, self._fitting)
        found = cuts(graph, images, most)
        return ((cut, (cut.stop - cut.start) / images) for cut in found)

    def _update(self, frozen: bool) -> None:
        """Change weights and ranges by their gradients, and drop these."""
        if frozen:
            _drop_gradients(self._ranges)
        with paddle.utils.unique_name.guard():  # names of the optimisers' state are the same in every run
            self._optimizer.set_lr(self.rate())
            self._optimizer.step()
            if self._own is not None and not frozen:
                self._own.set_lr(self._own_rate * self.rate.lowered)
                self._own.step()
        self._keep_zeros()
        _drop_gradients([*self._weights, *self._ranges])

    @paddle.no_grad()
    def _keep_zeros(self) -> None:
        for weight, mask in self._masks:
            weight.set_value(weight * mask)

    def _share(self, loss: float, flags: Sequence[bool], following: bool) -> tuple[float, list[bool]]:
        """Replace gradients and statistics by their means over processes; the mean loss and flags are returned."""
        changed = [one.grad for one in (*self._weights, *self._ranges) if one.grad is not None]
        changed += self.student.network.statistics() if following else []
        values = [tensor.numpy() for tensor in changed]
        fused = self._processes.mean(
            np.concatenate([np.float32([loss, *flags]), *(value.ravel() for value in values)])
        )
        offset = 1 + len(flags)
        for tensor, value in zip(changed, values):
            part = fused[offset : offset + value.size]
            tensor.set_value(part.reshape(value.shape).astype(np.float32))
            offset += value.size
        if following:
            self._unify_averages()
        return float(fused[0]), [bool(value > 0) for value in fused[1 : 1 + len(flags)]]

    def _unify_averages(self) -> None:
        stored = self.student.tensors()
        names = [name for name in self.student.ranges if f"{name}@accum" in stored]
        if not names:
            return
        sums = np.concatenate([stored[f"{name}@accum"].numpy() for name in names])
        for name, value in zip(names, self._processes.max(sums)):
            stored[f"{name}@accum"].set_value(np.float32([value]))
            stored[f"{name}@scale"].set_value(np.float32([value]) / stored[f"{name}@state"].numpy())

    def state(self) -> State:
        """Everything that the next step depends on, but for the learning rate."""
        found = self.student.state()
        found.update(_state_of(self._optimizer))
        if self._own is not None:
            found.update({_OWN + name: value for name, value in _state_of(self._own).items()})
        return found

    def restore(self, state: Mapping[str, np.ndarray]) -> None:
        """Continue from what `state` returned."""
        self.student.restore(state)
        self._make_optimisers()
        known = self.student.tensors()
        rest = {name: value for name, value in state.items() if name not in known}
        own = {name[len(_OWN) :]: value for name, value in rest.items() if name.startswith(_OWN)}
        weights = {name: value for name, value in rest.items() if not name.startswith(_OWN)}
        for optimizer, values in ((self._optimizer, weights), (self._own, own)):
            if optimizer is not None and values:
                optimizer.set_state_dict({name: paddle.to_tensor(value) for name, value in values.items()})


def _forward_of(student: Student, strategy: RangeStrategy, names: Sequence[str]) -> Callable[..., list[Any]]:
    """The student's forward: on oneDNN's primitives, or as one graph of Paddle's, where all of it can be."""
    if student.network.onednn and isinstance(strategy, Fixed):
        try:
            return PrimitiveForward(student.network, student.ranges, names)
        except UnsupportedError as error:
            LOG.debug("quantize: training runs on Paddle's operators: the network has %s", error)
    if student.network.onednn and strategy.traceable and traceable(student.graph):
        return TracedForward(student.network, [found.stored for found in student.ranges.values()])
    return student.network


def _at_once(forward: Callable[..., list[Any]], objective: Objective, fitting: int) -> AtOnce | None:
    """What runs parts of a batch at once; None where nothing can be run so."""
    if (
        not (objective.of_images and isinstance(forward, (PrimitiveForward, TracedForward))) or paddle_3()
    ):  # not tried with Paddle 3
        return None
    return AtOnce(forward, objective.student_names, objective, fitting)


def _masks(student: Student) -> list[tuple[Any, Any]]:
    """Weights that were pruned before training, each with its mask: 0 where it stays 0."""
    found = []
    for weight in {
        operator.weight: student.network.stored[operator.weight] for operator in student.operators
    }.values():
        zeros = None if weight.stop_gradient else kept_zeros(weight.numpy())
        if zeros is not None:
            found.append((weight, paddle.to_tensor((~zeros).astype(np.float32))))
    if found:
        LOG.info("quantize: the zeros of %d pruned weights stay", len(found))
    return found


def _drop_gradients(parameters: Sequence[Any]) -> None:
    for one in parameters:
        one.clear_gradient(False)


def _state_of(optimizer: Any) -> State:
    found = optimizer.state_dict()
    return {name: value.numpy() for name, value in found.items() if hasattr(value, "numpy")}
