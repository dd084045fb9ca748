"""What is trained is what PaddleSlim's AutoCompression trains: operators, losses, ranges, weights."""

from __future__ import annotations

import copy
import shutil
from functools import partial

import numpy as np
import paddle
import pytest

from picoquant.int8.operators import quantizable_operators
from picoquant.paddle_program.batch_norm_folding import fold_folder
from picoquant.paddle_program.editing.program_model import ProgramModel
from picoquant.quantization.engine.convolution import Convolutions
from picoquant.quantization.processes import Processes
from picoquant.quantization.qat.learned_ranges.choose import range_strategy
from picoquant.quantization.qat.learning_rate import LearningRate
from picoquant.quantization.qat.objective import ConfiguredObjective
from picoquant.quantization.qat.optimisers import make_optimizer, make_schedule
from picoquant.quantization.qat.step import TrainingStep
from picoquant.quantization.qat.student import open_student
from picoquant.quantization.qat.teacher import Teacher
from picoquant.utils.paddle_version.differences import paddle_3
from tests.networks.paddle_static import read_variable, static_session
from tests.networks.small_net import CONFIG, batches, settings


def of_paddleslim(model, folder, wanted, monkeypatch):
    """Losses, quantised operators and stored variables of AutoCompression itself."""
    from paddleslim.auto_compression import AutoCompression
    from paddleslim.common.load_model import load_inference_model

    monkeypatch.chdir(folder)  # with PACT it writes a file into the working folder
    shutil.copytree(model, folder / "student")
    names = {"model_filename": "model.pdmodel", "params_filename": "model.pdiparams"}
    sections = {
        "Distillation": wanted.distillation.to_paddleslim(),
        "QuantAware": wanted.quant.to_paddleslim(),
        "TrainConfig": wanted.train.to_paddleslim(),
    }
    with static_session() as scope:
        compression = AutoCompression(
            str(folder / "student"),
            lambda: iter([{}]),
            save_dir=str(folder / "out"),
            config=copy.deepcopy(sections),
            **names,
        )
        loaded = load_inference_model(str(folder / "student"), executor=compression._exe, **names)
        train, _ = compression._prepare_program(
            *loaded, None, compression._strategy[0], compression._config[0], compression.train_config[0]
        )
        program = train.program._program
        quantized = sorted(
            op.output("Output")[0]
            for op in program.global_block().ops
            if op.has_attr("quantization_type") and op.attr("quantization_type") == "qat_with_weight"
        )
        feeds = batches(0)
        losses = []
        for _ in range(wanted.train.train_iter):
            feed = {"image": next(feeds)["image"]}
            losses += compression._exe.run(train.program, feed=feed, fetch_list=train.fetch_targets)
        return np.array(losses), quantized, stored(program, scope)


def of_picoquant(model, folder, wanted):
    """The same of ours, with Paddle's own convolutions, as PaddleSlim's; limits and ranges start as PaddleSlim's."""
    shutil.copytree(model, folder / "student")
    operators = quantizable_operators(ProgramModel.load(folder / "student"), wanted.quant)
    strategy = range_strategy(wanted.quantization, wanted.quant)
    student = open_student(folder / "student", operators, wanted.quant, strategy, Convolutions(onednn=False))
    objective = ConfiguredObjective(student, wanted.distillation)
    teacher = Teacher(folder / "student", objective.teacher_names, folder / "distilled", CONFIG)
    rate, optimizer = LearningRate(make_schedule(wanted.train)), partial(make_optimizer, wanted.train)
    step = TrainingStep(student, teacher, objective, optimizer, strategy, rate, Processes())
    feeds = batches(0)
    losses = [step(next(feeds), False, ())[0] for _ in range(wanted.train.train_iter)]
    return np.array(losses), sorted(operator.output for operator in operators), step.state()


@pytest.fixture(scope="module")
def folded_model(small_model, tmp_path_factory):
    """The small network with its batch-norm folded, as `quantize` hands it on."""
    folder = tmp_path_factory.mktemp("folded") / "model"
    shutil.copytree(small_model, folder)
    fold_folder(folder)
    return folder


def stored(program, scope):
    """Stored variables of a program, without the teacher's."""
    types = paddle.framework.core.VarDesc.VarType
    names = [one.name for one in program.list_vars() if one.persistable and one.type == types.LOD_TENSOR]
    return {name: read_variable(scope, name) for name in names if not name.startswith("teacher_")}


# Convolution and batch-norm, three times, and two heads, compared before their bias is added, which PaddleSlim's
# program leaves out; folded: weights and biases of the three and of the heads, compared behind it.
@pytest.mark.skipif(paddle_3(), reason="PaddleSlim 2.6.0 is for Paddle 2")
@pytest.mark.parametrize(("model", "count"), [("small_model", 3 * 5 + 2), ("folded_model", 2 * (3 + 2))])
@pytest.mark.parametrize(("use_pact", "steps"), [(False, 4), (True, 1)])
def test_losses_operators_ranges_and_weights(request, tmp_path, monkeypatch, model, count, use_pact, steps):
    # With PACT the first step only: PaddleSlim's weight gradients then depend on the order in which it
    # happens to find operators (see `picoquant/quantization/qat/learned_ranges/pact.py`).
    small_model = request.getfixturevalue(model)
    wanted = settings(steps, {"use_pact": use_pact}, learning_rate=1e-2)
    for name in ("theirs", "ours"):
        (tmp_path / name).mkdir()
    losses, quantized, variables = of_paddleslim(small_model, tmp_path / "theirs", wanted, monkeypatch)
    own_losses, own_quantized, own = of_picoquant(small_model, tmp_path / "ours", wanted)
    assert own_quantized == quantized
    np.testing.assert_allclose(own_losses, losses, rtol=1e-4)
    assert paddle.in_dynamic_mode()
    scales = [name for name in own if name.endswith("@scale")]
    assert len(scales) == 4
    weights = [name for name in variables if name.endswith((".w_0", ".b_0", ".w_1", ".w_2", ".bias"))]
    assert len(weights) == count
    for name in scales + (weights if not use_pact else []):
        np.testing.assert_allclose(own[name], variables[name], rtol=1e-3, atol=1e-5, err_msg=name)
    limits = sorted(value.item() for name, value in own.items() if name.endswith("_pact"))
    expected = sorted(value.item() for name, value in variables.items() if name.endswith("_pact"))
    assert len(limits) == (4 if use_pact else 0)
    np.testing.assert_allclose(limits, expected, rtol=1e-6)
