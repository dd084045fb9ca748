"""Distillation losses against hand-worked numbers."""

from __future__ import annotations

import numpy as np
import paddle
import pytest

from picoquant.errors import ConfigError
from picoquant.paddle_program.graph import Graph, Operator, Tensor
from picoquant.quantization.qat.distillation import distillation_loss, distilled_pairs, spherical
from picoquant.quantization.settings import DistillationSettings

TEACHER = np.log(np.array([[1.0, 1.0, 2.0], [1.0, 2.0, 1.0]], np.float32))
STUDENT = np.log(np.array([[1.0, 2.0, 1.0], [1.0, 2.0, 1.0]], np.float32))
# One of two rows differs: (ln 2)^2 twice, of six values.
L2 = 2 * np.log(2) ** 2 / 6
# Cross-entropies of (1/4, 1/4, 1/2) against (1/4, 1/2, 1/4), and of (1/4, 1/2, 1/4) with itself.
SOFT_LABEL = ((1 / 4 + 1 / 2) * np.log(4) + 1 / 4 * np.log(2) + 1 / 2 * np.log(4) + 1 / 2 * np.log(2)) / 2


# DKD: the target is the teacher's best class, the last in the first row, the second in the second. Of the first row
# (target, rest): (1/2, 1/2) against (1/4, 3/4), and within the rest (1/2, 1/2, 0) against (1/3, 2/3, 0).
DKD = (np.log(2) / 2 + np.log(2 / 3) / 2) / 4 + (np.log(3 / 2) / 2 + np.log(3 / 4) / 2) / 6


def loss_of(groups, losses, alphas):
    sections = {"node": [["a"]] * len(groups), "loss": losses, "alpha": alphas}
    if isinstance(losses, str):
        del sections["node"]
    teacher, student = {"a": paddle.to_tensor(TEACHER)}, {"a": paddle.to_tensor(STUDENT)}
    return distillation_loss(groups, DistillationSettings(**sections), teacher, student).item()


PAIR = (("a", "a"),)


@pytest.mark.parametrize(("name", "expected"), [("l2", L2), ("soft_label", SOFT_LABEL)])
def test_one_loss(name, expected):
    assert loss_of([PAIR], name, 2.0) == pytest.approx(2 * expected, rel=1e-5)


def test_decoupled_loss_is_the_papers():
    assert loss_of([PAIR], "dkd", 1.0) == pytest.approx(DKD, rel=1e-4)


def test_spherical_loss_is_least_for_equal_logits():
    """The cross-entropy of a distribution with itself; rows of a student that are scaled make no difference."""
    teacher = paddle.to_tensor(TEACHER)
    spread = TEACHER.std(1, ddof=1, keepdims=True)
    logits = (TEACHER - TEACHER.mean(1, keepdims=True)) / TEACHER.std(1, keepdims=True) * spread
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    entropy = -(expected * np.log(expected)).sum(1).mean()
    assert float(spherical(teacher, teacher)) == pytest.approx(entropy, rel=1e-4)
    assert float(spherical(teacher, teacher * 3.0)) == pytest.approx(entropy, rel=1e-4)
    assert float(spherical(teacher, paddle.to_tensor(STUDENT))) > entropy + 0.01


def test_groups_count_once_each():
    assert loss_of([PAIR, PAIR], ["l2", "l2"], [1.0, 0.5]) == pytest.approx(1.5 * L2, rel=1e-5)
    found = loss_of([PAIR, PAIR], ["l2", "soft_label"], [1.0, 0.5])
    assert found == pytest.approx(L2 + 0.5 * SOFT_LABEL, rel=1e-5)


def graph_of_chain():
    """x -> conv a -> relu b -> conv c."""
    convolutions = [
        Operator(name, "conv2d", (("Input0", source), ("Filter0", "w")), (("Output0", name),), {})
        for name, source in (("a", "x"), ("c", "b"))
    ]
    relu = Operator("b", "relu", (("X0", "a"),), (("Out0", "b"),), {})
    tensors = {name: Tensor(name, (1, 2, 4, 4), "float32", name == "w") for name in "xabcw"}
    return Graph((convolutions[0], relu, convolutions[1]), tensors, ("x",), ("c",))


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        ([], ((("c", "c"),),)),
        (["a", "c"], ((("a", "a"), ("c", "c")),)),
        (["teacher_b", "a"], ((("b", "a"),),)),
        ([["a"], ["teacher_a", "b"]], ((("a", "a"),), (("a", "b"),))),
    ],
)
def test_nodes_of_the_settings(node, expected):
    lists = {"loss": ["l2", "l2"], "alpha": [1.0, 1.0]} if node and isinstance(node[0], list) else {}
    assert distilled_pairs(graph_of_chain(), DistillationSettings(node=node, **lists)) == expected


def test_a_node_that_is_not_there_is_named():
    with pytest.raises(ConfigError, match=r"the model has no variable d.*; without node the last results"):
        distilled_pairs(graph_of_chain(), DistillationSettings(node=["a", "d"]))
