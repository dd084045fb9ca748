"""The parity ladder of a run: the trained network, and everything that was made of it, on the same images."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from picoquant.backends.base import MACHINE, Backend, Machine, load_backends
from picoquant.backends.table import BACKENDS, DYGRAPH, REFERENCE
from picoquant.commands.compare_runtimes import open_context
from picoquant.commands.evaluate_running import evaluate_running
from picoquant.commands.on_runtimes import dygraph_on, ready_on, simulated_on
from picoquant.errors import SchemeError, UserError, WeightsError, in_one_line
from picoquant.evaluation.evaluate import Evaluation
from picoquant.evaluation.paired import paired
from picoquant.evaluation.parity import Ladder, ParityStep
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.quantization.qat_graph import FOLDER
from picoquant.runtimes.backends import SIMULATION, Running, absence
from picoquant.runtimes.model import Model, model_of_folder
from picoquant.stages import datasets
from picoquant.stages.model import trained_weights
from picoquant.stages.run_models import fp32_model, int8_model
from picoquant.stages.stage import Context
from picoquant.storage.files import write_json
from picoquant.targets.profiles import Target

LOG = logging.getLogger("picoquant")

OUT = "ladder"  # folder of the results, in the run folder
# Two right INT8 runtimes differ by up to 0.007 on 87 images (docs/evaluation.md); what is wrong costs far more.
MAX_LOSS = 0.01

Opened = AbstractContextManager[tuple[Running, "Model | None"]]


@dataclass(frozen=True)
class _Step:
    """One step that may be there.

    Attributes:
        name, what: see `ParityStep`.
        open: gives, to be entered, what is called, and its model.
        lacks: why there is nothing to open; empty where there is.
        after: the steps that it may be compared with, the first that ran counts.
    """

    name: str
    what: str
    open: Callable[[], Opened]
    lacks: str
    after: tuple[str, ...]


def evaluate_ladder(
    config: str | None,
    overrides: Sequence[str],
    save_dir: str,
    machine: Machine = MACHINE,
    limit: int | None = None,
    targets: Sequence[str] = (),
    max_loss: float = MAX_LOSS,
    known: Mapping[str, str] = BACKENDS,
) -> Ladder:
    """Evaluate each step of a run: same images, same post-processing, each against the step before.

    Writes `results.json` and `detections_<step>.json` into `ladder/` of the run folder.

    Args:
        config: a recipe; None takes the run folder's own.
        overrides: `KEY.SUB=VALUE` texts.
        save_dir: the run folder.
        machine: threads, device, opt.
        limit: only the first images.
        targets: simulated as last steps.
        max_loss: mAP (0 to 1) that a step may lose.
        known: the backends, see `table.BACKENDS`.

    Raises: `UserError` when there is no run, or fewer than two steps of it.
    """
    context = open_context(config, overrides, machine.device, save_dir)
    if context.run is None:
        raise UserError(
            f"--ladder is of a run, and {save_dir} holds none: run `picoquant run` with that --save-dir"
        )
    dataset = datasets.first(datasets.load(context, "EvalDataset"), limit)
    done: dict[str, Evaluation] = {}
    steps: list[ParityStep] = []
    profiles = context.plan.targets_named(targets)
    for step in _steps(context, machine, dataset, profiles, known):
        steps.append(_run_step(step, context, dataset, done))
        if steps[-1].evaluation is not None:
            done[step.name] = steps[-1].evaluation
    if len(done) < 2 and not any(step.failure for step in steps):
        reasons = "; ".join(f"{step.name}: {step.absent}" for step in steps if step.absent)
        raise UserError(f"--ladder needs at least two steps of a run ({reasons})")
    ladder = Ladder(tuple(steps), max_loss, len(dataset))
    out = Path(save_dir).expanduser() / OUT
    for name, found in done.items():
        found.write_detections(out / f"detections_{name}.json", dataset)
    write_json(out / "results.json", ladder.to_json())
    LOG.info("written: %s", out)
    return ladder


def _run_step(step: _Step, context: Context, dataset: Any, done: dict[str, Evaluation]) -> ParityStep:
    after = next((name for name in step.after if name in done), "")
    if step.lacks:
        LOG.info("%s: not run, %s", step.name, step.lacks)
        return ParityStep(step.name, step.what, after, absent=step.lacks)
    try:
        with step.open() as (ready, model):
            found, _ = evaluate_running(context, ready, model, dataset, step.name)
    except SchemeError as error:
        LOG.info("%s: not run, %s", step.name, error)
        return ParityStep(step.name, step.what, after, absent=str(error))
    except Exception as error:  # whatever a runtime raises, it is its own step that fails
        LOG.info("%s: failed, %s", step.name, in_one_line(error))
        LOG.debug("%s", step.name, exc_info=True)
        return ParityStep(step.name, step.what, after, failure=in_one_line(error))
    change = None
    if after:
        truth, ids = dataset.ground_truth(), dataset.image_ids
        change = paired(truth, done[after].detections, found.detections, ids)
    return ParityStep(step.name, step.what, after, found, change, note=ready.note)


def _steps(
    context: Context, machine: Machine, dataset: Any, targets: Sequence[Target], known: Mapping[str, str]
) -> Iterator[_Step]:
    """All steps, in order; what is not there says so."""

    def running(folder: Any, backend: str) -> Callable[[], Opened]:
        return lambda: _with_model(
            (model := folder if isinstance(folder, Model) else model_of_folder(folder)),
            ready_on(context, model, backend, machine, known),
        )

    above: list[str] = []

    def step(
        name: str, what: str, open_: Callable[[], Opened], lacks: str, after: tuple[str, ...] = ()
    ) -> _Step:
        made = _Step(name, what, open_, lacks, after or tuple(reversed(above)))
        above.append(name)
        return made

    yield step(
        DYGRAPH,
        "the trained network itself",
        lambda: _dygraph(context, dataset),
        _lack(trained_weights, context),
    )
    fp32, lack = _found(fp32_model, context)
    yield step("export", "the FP32 export in Paddle's runtime", running(fp32, REFERENCE), lack)
    int8, lack = _found(int8_model, context)
    graph, no_graph = (None, lack) if int8 is None else _qat_graph(int8)
    yield step(
        "qat_graph",
        "the network of QAT: float weights, rounding as operators",
        running(graph, REFERENCE),
        no_graph,
    )
    yield step("int8", "the INT8 model in Paddle's runtime", running(int8, REFERENCE), lack)
    for backend in load_backends(known):
        if backend.step:
            model, made = _made_for(backend, context, int8)
            what = backend.step_says.format(made=made)
            absent = lack or absence(backend, machine)
            yield step(backend.step, what, running(model, backend.name), absent)
            # No later step is compared with what these compute.
            if not backend.integers or backend.scheme.every_tensor:
                above.remove(backend.step)
    for target in targets:
        absent = "" if target.integer_rules else f"{target.name} has no integer rules to simulate"
        yield step(
            f"{SIMULATION}_{target.name}",
            f"SIMULATION of the INT8 model in {target.name}'s integers",
            lambda target=target: _simulated(context, int8, target),
            lack or absent,
            ("int8", "qat_graph", "export", DYGRAPH),
        )


@contextmanager
def _with_model(model: Model, opened: AbstractContextManager[Running]) -> Iterator[tuple[Running, Model]]:
    with opened as ready:
        yield ready, model


@contextmanager
def _dygraph(context: Context, dataset: Any) -> Iterator[tuple[Running, None]]:
    with dygraph_on(context, dataset) as ready:
        yield ready, None


@contextmanager
def _simulated(context: Context, int8: Any, target: Target) -> Iterator[tuple[Running, Model]]:
    model = model_of_folder(int8)
    with simulated_on(context, model, target) as ready:
        yield ready, model


def _found(find: Callable[[Context], Any], context: Context) -> tuple[Any, str]:
    """What is there, or why it is not; what is there and damaged is the user's error."""
    try:
        return find(context), ""
    except WeightsError:
        raise
    except UserError as error:
        return None, str(error)


def _lack(find: Callable[[Context], Any], context: Context) -> str:
    return _found(find, context)[1]


def _qat_graph(int8: Any) -> tuple[Any, str]:
    folder = int8.path / FOLDER
    if not folder.is_dir():
        return (
            None,
            f"no {folder}: the run was quantised by an older picoquant; run `picoquant quantize --force`",
        )
    return ModelFolder.open(folder, config=int8.config), ""


def _made_for(backend: Backend, context: Context, int8: Any) -> tuple[Model | None, str]:
    """The packaged file that a backend runs where the run has one, else the model it is made of; and which it is."""
    if int8 is None:
        return None, "none"
    name = backend.file
    packaged = sorted(context.run.folder("package").glob(f"*/{name}")) if name else []
    if packaged:
        made = "/".join(packaged[0].parts[-3:])
        return Model(made, "int8", int8.config, files={backend.family: packaged[0]}), made
    return model_of_folder(int8), "made as a package's is"
