"""Models on runtimes over one data set: what `picoquant eval --backend` and `picoquant benchmark` share."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from picoquant.backends.acuity import toolchain as acuity
from picoquant.backends.base import MACHINE, Machine, load_backend
from picoquant.backends.table import BACKENDS, DYGRAPH
from picoquant.commands.evaluate_running import evaluate_running
from picoquant.commands.on_runtimes import (
    Emulate,
    acuity_on,
    dygraph_on,
    emulated_on,
    ready_on,
    require_chips,
    simulated_on,
)
from picoquant.data.dataset import Dataset
from picoquant.errors import UserError, in_one_line
from picoquant.evaluation.comparison import (
    Row,
    as_csv,
    as_json,
    as_table,
    int8_fidelities,
    int8_models_compared,
    int8_pairs,
)
from picoquant.evaluation.fidelity import Fidelity
from picoquant.evaluation.paired import Paired
from picoquant.npu.emulated.differences import write_differences
from picoquant.packaging.open_model import open_model
from picoquant.paddle_program.infer_config import find_infer_config
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.runtimes.backends import ACUITY, EMULATOR, SIMULATION, Running, check_backends, result_name
from picoquant.runtimes.model import Model, model_of_folder
from picoquant.runtimes.sliced import Slicing
from picoquant.runtimes.timing import measure
from picoquant.stages import datasets
from picoquant.stages.plan import load_plan
from picoquant.stages.run_models import config_of, int8_model
from picoquant.stages.stage import Context
from picoquant.storage.files import write_json, write_text
from picoquant.storage.run_folder import CONFIG, RunFolder
from picoquant.targets.profiles import Target
from picoquant.utils.device import check_device

LOG = logging.getLogger("picoquant")

OUT = "backends"  # folder of the results, in the run folder
_LATENCY_IMAGES = 16
_FEW = 3  # pairs of which the images that lost most are listed


@dataclass(frozen=True)
class Comparison:
    """Rows of an evaluation on several runtimes.

    Attributes:
        rows: one a model and runtime, as they ran.
        not_run: why the others did not.
        pairs: INT8 against FP32 on the same runtime, by the INT8 row's name; without labels there are none.
        fidelities: how well INT8 finds again what that FP32 detects, by the INT8 row's name.
        compared: fidelity of a further INT8 model less that of the first in its runtime, by its row's name.
    """

    rows: tuple[Row, ...]
    not_run: dict[str, str]
    pairs: dict[str, Paired] = field(default_factory=dict)
    fidelities: dict[str, Fidelity] = field(default_factory=dict)
    compared: dict[str, tuple[str, Paired]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """`backends.<name>.mAP` and so on, `paired.<name>`, `fidelity.<name>`, `fidelity_paired.<name>`."""
        pairs = {name: pair.as_dict() for name, pair in self.pairs.items()}
        found = {name: one.as_dict() for name, one in self.fidelities.items()}
        compared = {
            name: {"beside": other, **pair.as_dict()} for name, (other, pair) in self.compared.items()
        }
        more = {"fidelity_paired": compared} if compared else {}
        return {**as_json(self.rows, self.not_run), "paired": pairs, "fidelity": found, **more}

    def to_text(self, per_class: bool = False) -> str:
        """The table, and what the pairs say."""
        lines = [as_table(self.rows, self.not_run, per_class, self.fidelities)]
        for name, pair in self.pairs.items():
            verdict = "" if pair.told_apart else ": these images do not tell the two apart"
            lines.append(
                f"{name} - FP32 on the same runtime: mAP {pair.difference:+.4f}, 95 % interval "
                f"{pair.low:+.4f} to {pair.high:+.4f} over {len(pair.images)} images{verdict}"
            )
            lost = [image for image in pair.images[:5] if image.change < 0] if len(self.pairs) <= _FEW else []
            lines += [f"  {image.change:+.3f}  {image.file_name}" for image in lost]
        lines += [f"{name}: {one.to_text()}" for name, one in self.fidelities.items()]
        lines += [
            f"{name} - {other}: fidelity {pair.difference:+.4f}, 95 % interval {pair.low:+.4f} to {pair.high:+.4f}"
            + ("" if pair.told_apart else ": these images do not tell the two apart")
            for name, (other, pair) in self.compared.items()
        ]
        return "\n".join(lines)


def open_context(config: str | None, overrides: Sequence[str], device: str, save_dir: str) -> Context:
    """A recipe and, where there is one, the run folder; nothing of the run is changed.

    Args:
        config: a recipe or configuration; None takes the run folder's own.

    Raises: `UserError` when there is neither.
    """
    check_device(device)
    root = Path(save_dir).expanduser()
    if config is None:
        if not (root / CONFIG).is_file():
            raise UserError(
                f"--config is needed: {save_dir} holds no earlier run (no {root / CONFIG}); it says which data "
                "set to evaluate on"
            )
        config = str(root / CONFIG)
    plan = load_plan(config, overrides)
    known = plan.synthetic is not None or (root / CONFIG).is_file()
    return Context(plan, RunFolder(root) if known else None, device)


def compare_classes(models: Sequence[Model], save_dir: str) -> None:
    """Say in one line how the classes of models differ from those of a run folder's data set, where there is one.

    Raises: `DataError` when a model and the data set have no name in common.
    """
    if (Path(save_dir).expanduser() / CONFIG).is_file():
        context = open_context(None, (), "cpu", save_dir)
        for model in models:
            datasets.compare_classes(context, model.config.labels, model.name)


@contextmanager
def models_of(context: Context, paths: Sequence[str]) -> Iterator[list[Model]]:
    """The models that this command names, or else the run's FP32 and INT8 ones.

    The FP32 model of a run may be the exported one that its recipe names (`Global.model_dir`).

    Args:
        context: the recipe and the run.
        paths: models named now, in place of the recipe's `Global.model_dir`; beside it where that is named now, too.

    Raises: `UserError` when what is named is no model.
    """
    common = context.plan.common
    also = common.model_dir and (context.plan.names_model or not paths)
    named = [*([common.model_dir] if also else []), *paths]
    files = (common.model_filename, common.params_filename)
    with ExitStack() as stack:
        opened = [stack.enter_context(open_model(path, _config(context, path), *files)) for path in named]
        if not (paths or context.plan.names_model):
            opened += _of_run(context)
        yield opened


@contextmanager
def models_here(save_dir: str, paths: Sequence[str] = ()) -> Iterator[list[Model]]:
    """The models named, or else those of a run folder, without its data: what `picoquant benchmark` times.

    Raises: `UserError` when there is none.
    """
    root = Path(save_dir).expanduser()
    with ExitStack() as stack:
        if paths:
            opened = [stack.enter_context(open_model(path)) for path in paths]
        elif (root / CONFIG).is_file():
            opened = stack.enter_context(models_of(open_context(None, (), "cpu", save_dir), ()))
        else:
            folders = [root / stage for stage in ("export", "quantize") if (root / stage).is_dir()]
            opened = [stack.enter_context(open_model(str(folder))) for folder in folders]
        if not opened:
            raise UserError(
                f"{save_dir} holds no exported model; run `picoquant export` first, or give --model PATH"
            )
        yield opened


def _config(context: Context, path: str) -> Any:
    """Preprocessing for a model that has no `infer_cfg.yml` or `inference.yml`; read only where that is so."""
    place = Path(path).expanduser()
    if place.suffix == ".onnx":
        beside = (place.parent, place.parent / "paddle")
        return None if any(find_infer_config(folder) for folder in beside) else config_of(context)
    bare = place.is_dir() and not ((place / "manifest.json").is_file() or find_infer_config(place))
    return config_of(context) if bare else None


def _of_run(context: Context) -> list[Model]:
    """The models that the run itself made."""
    found = []
    if context.run is not None:
        if not context.plan.common.model_dir and context.run.folder("export").is_dir():
            found.append(model_of_folder(ModelFolder.open(context.run.folder("export")), "export"))
        if context.run.folder("quantize").is_dir():
            found.append(model_of_folder(int8_model(context), "quantize"))
    return found


def evaluate_backends(
    config: str | None,
    overrides: Sequence[str],
    save_dir: str,
    backends: Sequence[str],
    paths: Sequence[str] = (),
    machine: Machine = MACHINE,
    limit: int | None = None,
    targets: Sequence[str] = (),
    known: Mapping[str, str] = BACKENDS,
    fidelity_on: str | None = None,
    slicing: Slicing | None = None,
    emulator: bool = False,
    every_tensor: bool = False,
    in_acuity: bool = False,
) -> Comparison:
    """Evaluate models on runtimes: same images, same post-processing, one row each.

    Writes `results.json`, `results.csv` and `detections_<name>.json` into `backends/` of `save_dir`.

    Args:
        config: a recipe; None takes the run folder's own.
        overrides: `KEY.SUB=VALUE` texts.
        save_dir: the run folder, or any other one.
        backends: of `known`, `dygraph`, or `all`: those that can run.
        paths: models; none: those of the run folder.
        machine: threads, device, opt.
        limit: only the first images.
        targets: of these the integers are simulated, too, with each INT8 model.
        known: the backends, see `table.BACKENDS`.
        fidelity_on: a folder of images, no labels needed: in place of mAP, how well INT8 finds again what FP32
            detects on them.
        slicing: how images are taken apart; None: they are not.
        emulator: each INT8 model on VeriSilicon's emulator of these targets, too.
        every_tensor: with the emulator, every tensor beside the simulation's; written to a CSV file a row.
        in_acuity: each INT8 model in acuity's own simulation, too.

    Raises: `UserError` when a runtime that was asked for by name does not run, or nothing at all does, or, with
        `fidelity_on`, there are not both FP32 and INT8 models.
    """
    chosen = check_backends(backends, known)
    context = open_context(config, overrides, machine.device, save_dir)
    rows: list[Row] = []
    not_run: dict[str, str] = {}
    with models_of(context, paths) as models:
        if not models and DYGRAPH not in chosen:
            raise UserError(
                f"no model: {save_dir} holds none yet; run `picoquant export`, or give --model PATH"
            )
        dataset = datasets.first(_images(context, models, fidelity_on), limit)
        for model in models:  # an error whatever the others do
            datasets.for_model(context, dataset, model.config.labels, model.name)
        profiles = context.plan.targets_named(targets)
        out = Path(save_dir).expanduser() / OUT
        emulate = Emulate(out, every_tensor) if emulator else None
        if emulator:
            require_chips(profiles)
        if in_acuity:
            acuity.find(machine)
        passed_over = _passed_over(models, chosen, known)
        for name, opened in _jobs(
            context, models, chosen, machine, dataset, profiles, known, emulate, in_acuity
        ):
            try:
                with opened as (ready, model):
                    rows.append(_row(context, ready, model, dataset, rows, slicing))
                    if emulate and every_tensor and hasattr(ready.predict, "differences"):
                        write_differences(ready.predict.differences, out / f"tensors_{rows[-1].name}.csv")
            except Exception as error:  # with `all` a runtime, whatever it raises, costs its own row alone
                if not ("all" in backends or (name in passed_over and isinstance(error, UserError))):
                    raise
                not_run[name] = in_one_line(error)
                LOG.info("%s: not run, %s", name, not_run[name])
                LOG.debug("%s", name, exc_info=True)
    if not rows:
        raise UserError(
            "; ".join(f"{name}: {reason}" for name, reason in not_run.items()) or "nothing to run"
        )
    pairs = {} if fidelity_on else int8_pairs(rows, dataset)
    found = int8_fidelities(rows, dataset, required=fidelity_on is not None)
    result = Comparison(tuple(rows), not_run, pairs, found, int8_models_compared(rows, dataset))
    _write(result, dataset, out)
    return result


def _jobs(
    context: Context,
    models: Sequence[Model],
    backends: Sequence[str],
    machine: Machine,
    dataset: Any,
    targets: Sequence[Target],
    known: Mapping[str, str],
    emulate: Emulate | None = None,
    in_acuity: bool = False,
) -> Iterator[tuple[str, Any]]:
    """Name and, to be entered, `(Running, Model or None)` of every row that may come."""

    @contextmanager
    def dygraph() -> Iterator[tuple[Running, None]]:
        with dygraph_on(context, dataset) as ready:
            yield ready, None

    @contextmanager
    def of(opened: Any, model: Model) -> Iterator[tuple[Running, Model]]:
        with opened as ready:
            yield ready, model

    if DYGRAPH in backends:
        yield result_name(DYGRAPH, "fp32"), dygraph()
    for model in models:
        for backend in backends:
            if backend != DYGRAPH:
                ready = ready_on(context, model, backend, machine, known)
                yield result_name(backend, model.precision), of(ready, model)
    integers = [model for model in models if model.precision == "int8"]
    if (targets or in_acuity) and not integers:
        option = "--target" if targets else "--acuity"
        raise UserError(
            f"{option} simulates an INT8 model, and there is none: run `picoquant quantize`, or --model PATH"
        )
    for target in targets:
        for model in integers:
            yield (
                result_name(f"{SIMULATION}_{target.name}", "int8"),
                of(simulated_on(context, model, target), model),
            )
            if emulate is not None:
                ready = emulated_on(context, model, target, emulate)
                yield result_name(f"{EMULATOR}_{target.name}", "int8"), of(ready, model)
    for model in integers if in_acuity else ():
        yield result_name(ACUITY, "int8"), of(acuity_on(context, model), model)


def _passed_over(models: Sequence[Model], backends: Sequence[str], known: Mapping[str, str]) -> set[str]:
    """Names of the rows that cannot be because a backend takes models of another precision only, and there is one."""
    taken = {backend: load_backend(backend, known).precisions for backend in backends if backend != DYGRAPH}
    have = {model.precision for model in models}
    return {
        result_name(backend, precision)
        for backend, takes in taken.items()
        for precision in have
        if precision not in takes and have & set(takes)
    }


def _row(
    context: Context,
    ready: Running,
    model: Model | None,
    dataset: Any,
    rows: Sequence[Row],
    slicing: Slicing | None,
) -> Row:
    taken = {row.name for row in rows}
    name = ready.name if ready.name not in taken else f"{ready.name}_{model.name}"
    found, images = evaluate_running(context, ready, model, dataset, name, slicing)
    median, p90 = None, None
    if ready.timed:
        latency = measure(ready.predict, images.single_feeds(ready.predict.input_names, _LATENCY_IMAGES))
        median, p90 = latency.median_ms, latency.p90_ms
    taken_apart = f"images {slicing}, and as a whole" if slicing else ""
    note = "; ".join(filter(None, (ready.note, getattr(ready.predict, "remark", ""), taken_apart)))
    return Row(
        name, ready.backend, ready.precision, model.name if model else "weights", found, median, p90, ready.bytes, note
    )  # fmt: skip


def _images(context: Context, models: Sequence[Model], fidelity_on: str | None) -> Dataset:
    """The data set to evaluate on, or a folder of images with the classes of the models.

    Raises: `UserError` when a folder is named and there are not both FP32 and INT8 models.
    """
    if fidelity_on is None:
        return datasets.load(context, "EvalDataset")
    if {model.precision for model in models} != {"fp32", "int8"}:
        raise UserError(
            "--fidelity compares an INT8 model with the FP32 model it was made from: name both with --model, or a "
            "--save-dir that holds both"
        )
    return datasets.unlabelled(fidelity_on, models[0].config.labels)


def _write(result: Comparison, dataset: Any, out: Path) -> None:
    for row in result.rows:
        row.evaluation.write_detections(out / f"detections_{row.name}.json", dataset)
    write_json(out / "results.json", result.to_json())
    write_text(out / "results.csv", as_csv(result.rows, result.fidelities))
    LOG.info("written: %s", out)
