"""`picoquant report`: everything a run folder holds, on one page."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from picoquant.backends.paddle_lite.toolchain import find_opt
from picoquant.commands.analyze import FOLDER as ANALYZE
from picoquant.commands.check import FOLDER as CHECK
from picoquant.commands.compare_runtimes import OUT as BACKENDS
from picoquant.errors import DataError, PicoquantError, ToolError, UserError, reason_of
from picoquant.evaluation.confusion import confusion, match_images
from picoquant.evaluation.paired import paired
from picoquant.evaluation.precision_recall import precision_recall
from picoquant.npu.check import check_model
from picoquant.npu.emulated.cycles import Cycles
from picoquant.npu.picture import draw
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.report.choice import typical_images, worst_images
from picoquant.report.contents import Board, Detections, Layers, Report, Training
from picoquant.report.pictures import pair_of, shown_classes
from picoquant.report.run_record import finished, size_rows, stage_rows, stale_evaluation
from picoquant.stages import datasets
from picoquant.stages.plan import load_plan
from picoquant.stages.run_models import int8_model
from picoquant.stages.stage import Context
from picoquant.storage.csv_log import read_rows
from picoquant.storage.files import sha256, write_text
from picoquant.storage.run_folder import CONFIG, MANIFEST, RunFolder
from picoquant.targets.profiles import load_target

LOG = logging.getLogger("picoquant")

REPORT = "report.html"
_ORDER = ("train", "export", "quantize", "evaluate", "package")
_NOT_LOSSES = ("step", "epoch", "lr", "images_per_second", "mAP")
_RESULT = {"image_id", "category_id", "bbox", "score"}
_IOU = 0.5


@dataclass(frozen=True)
class ReportOptions:
    """What the report shows.

    Attributes:
        score: least score of a detection in the confusion matrices and pictures, 0 to 1.
        images: how many worst and how many typical images.
        out: the page; None: report.html in the run folder.
    """

    score: float = 0.5
    images: int = 4
    out: Path | None = None


def report(
    save_dir: str, overrides: Sequence[str] = (), opt: str | None = None, options: ReportOptions | None = None
) -> Path:
    """Write the page; the same run folder and data give the same bytes.

    Args:
        save_dir: the run folder.
        overrides: `KEY.SUB=VALUE` texts, for example where the evaluation images are now.
        opt: path of Paddle Lite's opt.
        options: see there.

    Returns: the page's path.

    Raises: `UserError` for a folder that holds no run with a model, or whose files are damaged.
    """
    from picoquant.report.page import render

    options = options or ReportOptions()
    context = _open(save_dir, overrides, opt)
    page = render(_gather(context, options, f"--save-dir {shlex.quote(save_dir)}"))
    path = options.out or context.run.root / REPORT
    write_text(path, page)
    return path


def _open(save_dir: str, overrides: Sequence[str], opt: str | None) -> Context:
    root = Path(save_dir).expanduser()
    if not (root / MANIFEST).is_file():
        raise UserError(
            f"no run in {save_dir} (no {root / MANIFEST}); run `picoquant run --save-dir {save_dir}` first"
        )
    run = RunFolder(root)
    if all(run.record(stage).get("status") != "done" for stage in ("export", "quantize", "evaluate")):
        raise UserError(
            f"{save_dir} holds no exported model yet, so there is nothing to report; run `picoquant run` or "
            f"`picoquant export`, `quantize` and `eval` with --save-dir {save_dir} first"
        )
    for stage, command in (("quantize", "quantize"), ("evaluate", "eval")):
        record = run.record(stage)
        if record.get("status") == "done" and not run.is_current(stage, record.get("fingerprint", "")):
            raise UserError(
                f"{run.folder(stage)} is not as the run left it, a file is gone or cut short; run `picoquant "
                f"{command} --save-dir {save_dir}` again"
            )
    if not (root / CONFIG).is_file():
        raise UserError(f"{root / CONFIG} is gone; run `picoquant run` with the same --save-dir again")
    return Context(load_plan(str(root / CONFIG), overrides), run, "cpu", opt)


def _gather(context: Context, options: ReportOptions, where: str) -> Report:
    """Everything; `where` is the option that names the run folder, for the commands that the page names."""
    run, absent = context.run, {}
    records = {stage: run.record(stage) for stage in _ORDER}
    warnings = [
        f"The {name.upper()} model is not the one that was evaluated: run `picoquant eval {where}` again."
        for name in stale_evaluation(records)
    ]
    metrics = records["evaluate"].get("metrics") or {}
    metrics = {name: metrics[name] for name in ("fp32", "int8") if name in metrics}
    detections = None
    if not metrics:
        absent["detections"] = f"No evaluation in this run: `picoquant eval {where}` makes it."
    else:
        try:
            detections = _detections(context, metrics, options)
        except DataError as error:
            absent["detections"] = f"The evaluation images are not as they were evaluated: {error}"
    if "int8" not in metrics:
        absent["int8"] = (
            f"No INT8 model was evaluated: `picoquant quantize {where}`, then `picoquant eval {where}`."
        )
    absent["backends"] = f"Not compared on other runtimes: `picoquant eval --backend all {where}` does."
    absent["benchmark"] = f"Not measured: `picoquant benchmark {where}` does."
    return Report(
        name=run.root.name,
        about=run.about(),
        stages=stage_rows(records, _ORDER),
        metrics=metrics,
        config=(run.root / CONFIG).read_text(encoding="utf-8"),
        warnings=warnings,
        detections=detections,
        backends=_current(run, f"{BACKENDS}/results.json", warnings, "backends", "not_run", "images"),
        benchmark=_current(run, "benchmark/results.json", warnings, "cases"),
        training=_training(run, absent, where),
        qat=_qat(run, absent, where),
        layers=_layers(run, absent, warnings, where),
        boards=_boards(context, absent, where, warnings),
        sizes=size_rows(records),
        absent=absent,
    )


def _read(path: Path, *needed: str) -> Any:
    """A JSON file of the run folder: an object with these keys, or a list where none are needed.

    Raises: `UserError` when it is gone or damaged.
    """
    keys = set(needed)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(
            f"{path} is gone; run its command again, with --force if it says it is done"
        ) from None
    except (ValueError, OSError) as error:
        raise UserError(f"{path} is damaged{reason_of(error)}; remove it and run its command again") from None
    if isinstance(content, dict) and keys <= content.keys() or isinstance(content, list) and not keys:
        return content
    raise UserError(
        f"{path} is damaged (no {', '.join(sorted(keys)) or 'list'}); remove it and run its command again"
    )


def _results(path: Path) -> list[dict[str, Any]]:
    """A COCO results file of the run folder.

    Raises: `UserError` when it is none.
    """
    found = _read(path)
    if all(isinstance(entry, dict) and entry.keys() >= _RESULT for entry in found):
        return found
    raise UserError(f"{path} is damaged (no COCO results); remove it and run `picoquant eval` again")


def _current(run: RunFolder, name: str, warnings: list[str], *needed: str) -> Any:
    """A file that a command beside the stages wrote; None without one. Warns where the models are newer."""
    path = run.root / name
    if not path.is_file():
        return None
    times = [finished(run.record(stage)) for stage in ("export", "quantize")]
    if any(time is not None and path.stat().st_mtime < time for time in times):
        warnings.append(f"{name} is older than this run's models: make it again.")
    return _read(path, *needed)


def _detections(context: Context, metrics: Mapping[str, Any], options: ReportOptions) -> Detections:
    run = context.run
    datasets.check(context, "EvalDataset")
    if datasets.identity(context, "EvalDataset") != run.record("evaluate")["settings"]["images"]:
        raise DataError("annotations or images have changed since; run `picoquant eval` again")
    dataset = datasets.load(context, "EvalDataset")
    truth, ids = dataset.ground_truth(), dataset.image_ids
    found = {
        name: dataset.with_ids_here(_results(run.folder("evaluate") / f"detections_{name}.json"))
        for name in metrics
    }
    LOG.info("report: counting detections in %d images", len(ids))
    curves = {name: precision_recall(truth, results, ids) for name, results in found.items()}
    matched = {
        name: match_images(truth, results, ids, options.score, _IOU) for name, results in found.items()
    }
    confusions = {
        name: confusion(truth, images.values(), options.score, _IOU) for name, images in matched.items()
    }
    if "int8" not in found:
        return Detections(len(ids), curves, confusions, no_pictures="There is no INT8 model to compare with.")
    LOG.info("report: comparing FP32 and INT8 image by image")
    pair = paired(truth, found["fp32"], found["int8"], ids)
    return Detections(len(ids), curves, confusions, pair, **_pictures(dataset, pair, matched, options.images))


def _pictures(dataset: Any, pair: Any, matched: Mapping[str, Any], count: int) -> dict[str, Any]:
    categories = {
        number: (label, name)
        for label, (number, name) in enumerate(zip(dataset.category_ids, dataset.class_names))
    }
    paths = {record.image_id: record.path for record in dataset.records}
    worst = worst_images(pair.images, count)
    chosen = {"worst": worst, "typical": typical_images(pair.images, count, worst)}
    try:
        shown = {
            kind: [
                pair_of(
                    image,
                    paths[image.image_id],
                    {name: images[image.image_id] for name, images in matched.items()},
                    categories,
                )
                for image in images
            ]
            for kind, images in chosen.items()
        }
    except DataError as error:
        return {"no_pictures": str(error)}
    return {**shown, "legend": shown_classes([*shown["worst"], *shown["typical"]], categories)}


def _training(run: RunFolder, absent: dict[str, str], where: str) -> Training | None:
    folder, record = run.folder("train"), run.record("train")
    steps = read_rows(folder / "metrics.csv")
    if not steps:
        reason = record.get("reason") or f"`picoquant train {where}` does that"
        absent["training"] = f"Not trained in this run: {reason}."
        return None
    names = sorted(set(steps[-1]) - set(_NOT_LOSSES), key=lambda name: (name != "loss", name))
    return Training(steps, read_rows(folder / "evaluations.csv"), names)


def _qat(run: RunFolder, absent: dict[str, str], where: str) -> Training | None:
    record = run.record("quantize")
    if record.get("status") != "done":
        absent["qat"] = f"Not quantised in this run: `picoquant quantize {where}` does that."
        return None
    steps = read_rows(run.folder("quantize") / "qat.csv")
    if not steps:
        absent["qat"] = "Quantised without training (Quantize.method: ptq), so there are no curves."
        return None
    metrics = record.get("metrics", {})
    scored = [dict(zip(("step", "mAP", "fidelity"), one)) for one in metrics.get("evaluations") or ()]
    best = metrics.get("best_step")
    note = "" if best is None else f"The model of step {best} was kept."
    return Training(steps, scored, ["loss"], note)


def _layers(run: RunFolder, absent: dict[str, str], warnings: list[str], where: str) -> Layers | None:
    analysis = _current(run, f"{ANALYZE}/analysis.json", warnings, "layers", "tensors", "outputs_snr_db")
    if analysis is None:
        absent["analysis"] = f"The error of each layer: `picoquant analyze {where}` measures it."
    if run.record("quantize").get("status") != "done":
        absent["layers"] = f"No INT8 model in this run: `picoquant quantize {where}` makes it."
        return Layers((), analysis) if analysis else None
    described = _read(run.folder("quantize") / "quantization.json", "operators")
    ranges = [operator.get("activation_range") for operator in described["operators"]]
    return Layers([float(value) for value in ranges if value], analysis)


def _cycles(run: RunFolder, target: str, model: ModelFolder, warnings: list[str]) -> Cycles | None:
    """What `picoquant check --emulator` measured of this model; None without it. Warns where it was another model."""
    path = run.root / CHECK / f"{target}.json"
    if not path.is_file():
        return None
    values = _read(path, "target").get("cycles")
    if values is None:
        return None
    try:
        cycles = Cycles.from_json(values)
    except (KeyError, TypeError, ValueError):
        raise UserError(f"{path} is damaged (cycles); remove it and run its command again") from None
    if cycles.model == sha256(model.params):
        return cycles
    warnings.append(f"{CHECK}/{target}.json has cycles of another model: `picoquant check --emulator` again.")
    return None


def _boards(context: Context, absent: dict[str, str], where: str, warnings: list[str]) -> list[Board]:
    run = context.run
    if run.record("quantize").get("status") != "done":
        absent["boards"] = f"No INT8 model in this run: `picoquant quantize {where}` makes it."
        return []
    packaged = {path.parent.name: path for path in sorted(run.folder("package").glob("*/manifest.json"))}
    names = {Path(name).stem: name for name in context.plan.recipe.targets}
    if not packaged and not names:
        absent["boards"] = f"No target: `picoquant package --target rv1126 {where}` names one."
    boards = []
    for target in sorted({*packaged, *names}):
        try:
            model = int8_model(context)
            result = check_model(model, load_target(names.get(target, target)), find_opt(context.opt))
            cycles = _cycles(run, target, model, warnings)
        except (ToolError, UserError) as error:
            said = _read(packaged[target], "target").get("check") if target in packaged else None
            boards.append(Board(target, said, note=str(error)))
        except PicoquantError as error:
            boards.append(Board(target, None, note=str(error)))
        else:
            picture = draw(result.graph, target, cycles.of_tensors if cycles is not None else None)
            boards.append(Board(target, replace(result, cycles=cycles).to_json(), picture))
    return boards
