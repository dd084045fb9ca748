"""What the student is compared with in the teacher, and the losses of the comparison.

The losses are those that PaddleSlim 2.6 offers for pairs of variables (`paddleslim/dist/single_distiller.py`), with
its default temperatures of 1. Two differences: its `_parse_distill_loss` adds a group's loss again for every later
group with a loss of the same name, here each counts once; and its `dkd` hands probabilities to a function that takes
their logarithms, here it is the paper's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import paddle
import paddle.nn.functional as F

from picoquant.errors import ConfigError
from picoquant.paddle_program.graph import Graph
from picoquant.quantization.final_nodes import final_nodes
from picoquant.quantization.settings import DistillationSettings
from picoquant.utils.suggest import suggestion

PREFIX = "teacher_"
_EPSILON = 1e-7

# Names of a tensor of the teacher and of the student.
Pair = tuple[str, str]


def l2(teacher: Any, student: Any) -> Any:
    """The mean squared difference."""
    return F.mse_loss(student, teacher)


def soft_label(teacher: Any, student: Any) -> Any:
    """The cross-entropy of the softmax over the last axis."""
    return F.cross_entropy(F.softmax(student), F.softmax(teacher), soft_label=True, use_softmax=False)


def decoupled(teacher: Any, student: Any) -> Any:
    """DKD (https://arxiv.org/abs/2203.08679) of logits with classes on axis 1; the target is the teacher's best."""
    best = F.one_hot(paddle.argmax(teacher, axis=1), teacher.shape[1])
    best = paddle.moveaxis(best, -1, 1)

    def parts(logits: Any) -> tuple[Any, Any]:
        target = (F.softmax(logits, axis=1) * best).sum(axis=1, keepdim=True)
        return paddle.concat([target, 1 - target], axis=1), F.softmax(logits - 1e5 * best, axis=1)

    def divergence(of_student: Any, of_teacher: Any) -> Any:
        return F.kl_div(paddle.log(of_student + _EPSILON), of_teacher, reduction="mean")

    return sum(divergence(*pair) for pair in zip(parts(student), parts(teacher)))


def spherical(teacher: Any, student: Any) -> Any:
    """Spherical distillation of logits with classes on axis 1: both normalised to the teacher's spread.

    Source: https://github.com/forjiuzhou/Spherical-Knowledge-Distillation.
    """
    spread = paddle.std(teacher, axis=1, keepdim=True)

    def probabilities(logits: Any) -> Any:
        return F.softmax(F.layer_norm(logits, logits.shape[1:], epsilon=_EPSILON) * spread, axis=1)

    found = probabilities(student), probabilities(teacher)
    return F.cross_entropy(*found, soft_label=True, use_softmax=False)


LOSSES: Mapping[str, Callable[[Any, Any], Any]] = {
    "l2": l2,
    "soft_label": soft_label,
    "dkd": decoupled,
    "skd": spherical,
}


def distillation_loss(
    groups: Sequence[Sequence[Pair]],
    settings: DistillationSettings,
    teacher: Mapping[str, Any],
    student: Mapping[str, Any],
) -> Any:
    """The loss, a scalar.

    Args:
        groups: pairs of tensors; each group has a loss and a factor.
        settings: section `Distillation`.
        teacher, student: the tensors by name.
    """
    losses, alphas = settings.loss, settings.alpha
    if isinstance(losses, str):
        losses, alphas = (losses,), (alphas,)
    total = 0.0
    for pairs, loss, alpha in zip(groups, losses, alphas):
        for of_teacher, of_student in pairs:
            total = total + paddle.mean(LOSSES[loss](teacher[of_teacher], student[of_student])) * alpha
    return total


def distilled_pairs(graph: Graph, settings: DistillationSettings) -> tuple[tuple[Pair, ...], ...]:
    """The pairs that `Distillation.node` names, in groups; by default the final nodes of both networks.

    Raises: `ConfigError` for a node that the student does not have.
    """
    nodes = settings.node or tuple(final_nodes(graph))
    groups = nodes if isinstance(nodes[0], tuple) else (nodes,)
    known = {name for op in graph.operators for name in op.results} | set(graph.inputs)
    for name in (one for group in groups for one in group):
        plain = name[len(PREFIX) :] if name.startswith(PREFIX) else name
        if name == plain and plain not in known:
            last = ", ".join(name for name in final_nodes(graph) if name in known)
            raise ConfigError(
                f"Distillation.node: the model has no variable {name}{suggestion(name, sorted(known))}; without "
                f"node the last results of its layers with weights are compared: {last}"
            )
    return tuple(tuple(_pairs(group, known)) for group in groups)


def _pairs(names: Sequence[str], known: set[str]) -> list[Pair]:
    """Pairs of names; of the student's alone, or already the teacher's and the student's in turn."""
    if names[0] in known:
        return [(name, name) for name in names]
    return [(name[len(PREFIX) :], student) for name, student in zip(names[::2], names[1::2])]
