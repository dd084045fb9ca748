"""Stage `package`: INT8 model -> a folder and an archive for each target, with everything a board needs."""

from __future__ import annotations

import logging
import shutil
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from picoquant.backends.base import Machine
from picoquant.backends.paddle_lite.remembered import RememberedOpt
from picoquant.backends.paddle_lite.toolchain import find_opt
from picoquant.backends.verisilicon import toolchain as verisilicon
from picoquant.backends.verisilicon.toolchain import Emulator
from picoquant.data.images import read_image
from picoquant.errors import DataError, ToolError, UserError
from picoquant.packaging.archive import SUFFIX
from picoquant.packaging.expectation import Tolerance
from picoquant.packaging.forms import forms_of, tools_of
from picoquant.packaging.package import Facts, Models, PackageResult, begin
from picoquant.packaging.prepared import Prepared
from picoquant.packaging.rknn import IMAGES, platform_of
from picoquant.packaging.sample import SampleImage, expected_detections, made_sample, sample_of
from picoquant.stages import datasets
from picoquant.stages.board_accuracy import board_accuracy
from picoquant.stages.run_models import fp32_model, int8_model
from picoquant.stages.stage import Context, Stage
from picoquant.storage.files import sha256
from picoquant.targets.profiles import ALL, Target
from picoquant.utils.device import available_cpus

LOG = logging.getLogger("picoquant")

_TRIED = 8  # evaluation images that the sample is chosen from


def _targets(context: Context) -> list[Target]:
    """The recipe's targets; of `all` those whose tools are here.

    Raises: `ToolError` when the tool of a target that is asked for by name is absent.
    """
    if "targets" not in context.loaded:
        chosen = []
        for target in context.plan.targets:
            try:
                tools_of(forms_of(target))
            except ToolError as error:
                if ALL not in context.plan.recipe.targets:
                    raise
                LOG.warning("package: %s is left out: %s", target.name, error)
                continue
            chosen.append(target)
        context.loaded["targets"] = chosen
    return context.loaded["targets"]


def _opt(context: Context) -> Any:
    """Paddle Lite's opt, looked for once; None when no target needs it.

    Raises: `ToolError` saying how to get it.
    """
    if not any(forms_of(target).lite for target in _targets(context)):
        return None
    if "opt" not in context.loaded:
        context.loaded["opt"] = find_opt(context.opt)
    return context.loaded["opt"]


def _models(context: Context, compare: bool = True) -> Any:
    """The run's models as `picoquant.packaging.package.Models`; see `run_models.fp32_model`.

    Raises: `UserError` when a target needs an INT8 model and the run has none.
    """
    int8 = None
    needed = any(forms_of(target).needs_int8 for target in _targets(context))
    if needed or context.run.folder("quantize").is_dir():
        int8 = int8_model(context, compare)
    try:
        fp32 = fp32_model(context, compare)
    except UserError:
        if int8 is None:
            raise
        LOG.info("package: no exported float model in this run, so INT8 only")
        fp32 = None
    return Models(int8, fp32)


def _inputs(context: Context) -> dict[str, Any]:
    from dataclasses import asdict

    opt, batch, qdq = _opt(context), context.plan.package.batch, context.plan.package.qdq
    return {
        "files": _model_files(context),
        "targets": {target.name: asdict(target) for target in _targets(context)},
        "opt": opt.version if opt else None,
        "mAP": _accuracy(context),
        "images": datasets.identity(context, "EvalDataset"),
        "calibration": _calibration_identity(context),
        **({} if batch == 1 else {"batch": batch}),  # without the key as packaged before there was one
        "qdq": qdq,
        **_compiler_version(context),
        **_tools(context),
    }


def _compiler(context: Context) -> Emulator | None:
    """VeriSilicon's tool where the recipe asks for compiled networks and a target's NPU is known; looked for once.

    Raises: `ToolError` saying how to get it.
    """
    asked = context.plan.package.compiled and any(target.verisilicon for target in _targets(context))
    if "compiler" not in context.loaded:
        context.loaded["compiler"] = verisilicon.find(Machine()) if asked else None
    return context.loaded["compiler"]


def _compiler_version(context: Context) -> dict[str, Any]:
    compiler = _compiler(context)
    return {} if compiler is None else {"compiler": compiler.version}


def _tools(context: Context) -> dict[str, Any]:
    """Versions of the tools of the targets' backends, by their names; empty where none has one."""
    tools = [tools_of(forms_of(target))[0] for target in _targets(context)]
    found = {name: tool.version for some in tools for name, tool in some.items()}
    return {"tools": found} if found else {}


def _calibration_identity(context: Context) -> dict[str, Any] | None:
    if not any(platform_of(target) for target in _targets(context)):
        return None
    return datasets.identity(context, datasets.calibration_section(context))


def _model_files(context: Context) -> dict[str, str]:
    """Hash of every file of the models, by name."""
    models = _models(context, compare=False)
    folders = {"int8": models.int8, "fp32": models.fp32}
    return {
        f"{kind}/{path.relative_to(folder.path).as_posix()}": sha256(path)
        for kind, folder in folders.items()
        if folder
        for path in sorted(folder.path.rglob("*"))
        if path.is_file() and path.suffix != ".csv"
    }


def _accuracy(context: Context) -> dict[str, float]:
    """mAP of each model, 0 to 1, as the run's evaluation measured it; empty when it did not."""
    metrics = context.run.record("evaluate").get("metrics", {})
    return {name: values["mAP"] for name, values in metrics.items()}


def _sample(context: Context, models: Any) -> Any:
    """The first evaluation image in which the model finds something; a made one without a data set."""
    try:
        datasets.check(context, "EvalDataset")
        records = datasets.load(context, "EvalDataset").records[:_TRIED]
    except DataError as error:
        LOG.warning("package: the sample is a made picture, for there is no evaluation image: %s", error)
        return made_sample(models.first.config)
    samples = []
    for record in records:
        path = Path(record.path)
        sample = sample_of(read_image(path), f"evaluation image {path.name} (id {record.image_id})")
        samples.append(sample)
        scores = expected_detections(models.first, sample.image).scores
        if (scores >= Tolerance().min_score).any():
            return sample
    return samples[0]


def _calibration(context: Context) -> list[Any]:
    """The first images of the run's calibration, where a target's own toolkit quantises; empty without data."""
    if not any(platform_of(target) for target in _targets(context)):
        return []
    section = datasets.calibration_section(context)
    try:
        datasets.check(context, section)
        records = datasets.calibration_images(context).records
    except DataError as error:
        LOG.warning("package: no calibration images: %s", error)
        return []
    return [
        SampleImage(read_image(record.path), f"{Path(record.path).name} (id {record.image_id})")
        for record in records[:IMAGES]
    ]


def _work(context: Context, out: Path, keep: Path) -> dict[str, Any]:
    opt, models = _opt(context), _models(context)
    accuracy = _accuracy(context)
    if not accuracy:
        LOG.info("package: the manifest says no mAP, for the run has none: `picoquant eval` measures it")
    quantised = context.run.record("quantize")
    boards = {}
    if models.int8 is not None:
        boards = board_accuracy(context, models.int8, quantised.get("metrics", {}), _targets(context))
    facts = Facts(accuracy, quantised.get("settings", {}), boards)
    datasets.compare_classes(context, models.first.config.labels, str(models.first.path))
    sample = _sample(context, models)
    calibration, prepared = _calibration(context), Prepared(models)
    settings, compiler = context.plan.package, _compiler(context)
    if opt is not None:
        opt = RememberedOpt.of(opt)
    ends: dict[str, Future[PackageResult]] = {}
    pool = ThreadPoolExecutor(available_cpus())
    try:
        for target in _targets(context):
            finish = begin(
                models,
                target,
                out,
                opt,
                facts,
                sample,
                calibration,
                prepared,
                settings.batch,
                settings.qdq,
                compiler,
            )
            ends[target.name] = pool.submit(finish)
            for end in ends.values():
                if end.done():  # a full disk ends it here
                    end.result()
        results = {name: {"bytes": end.result().bytes} for name, end in ends.items()}
    finally:
        pool.shutdown(cancel_futures=True)
    _keep_other_targets(context, out)
    return {"targets": results}


def _keep_other_targets(context: Context, out: Path) -> None:
    """Take over the packages of targets not asked for now, when they hold the same model."""
    done = context.run.folder(STAGE.name)
    before = context.run.record(STAGE.name).get("settings", {}).get("files")
    now = _model_files(context)
    for folder in sorted(done.iterdir()) if done.is_dir() else []:
        if not folder.is_dir() or (out / folder.name).exists():
            continue
        if before == now:
            shutil.copytree(folder, out / folder.name)
            archive = done / (folder.name + SUFFIX)
            if archive.is_file():
                shutil.copyfile(archive, out / archive.name)
        else:
            LOG.info("package: %s held another model and is dropped; package it again", folder)


STAGE = Stage("package", "INT8 model -> a package for each target", lambda context: None, _inputs, _work)
