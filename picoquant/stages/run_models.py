"""Where the FP32 and the INT8 model of a run are."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from picoquant.errors import UserError
from picoquant.paddle_program.infer_config import FILE_NAME, PADDLEX_NAME, find_infer_config
from picoquant.paddle_program.model_folder import ModelFolder, find_files
from picoquant.stages import datasets
from picoquant.stages.stage import Context

LOG = logging.getLogger("picoquant")


def fp32_model(context: Context, compare: bool = True) -> Any:
    """The exported FP32 model: `Global.model_dir`, or the run's own export, as a `ModelFolder`.

    Args:
        context: of a stage.
        compare: of the run's own export, see `ModelFolder.open`; not where a stage only asks whether it is done.

    A `model_dir` without infer_cfg.yml or inference.yml takes preprocessing and NMS from the recipe's configuration.

    Raises: `UserError` saying which command makes it; `WeightsError` naming a missing file, or the sizes where the
        model takes images of another size than they are prepared in.
    """
    common = context.plan.common
    if not common.model_dir:
        folder = context.run.folder("export")
        if not folder.is_dir():
            raise UserError(
                f"no exported model in {folder}; run `picoquant export` with the same --save-dir first, or set "
                "Global.model_dir"
            )
        return ModelFolder.open(folder, compare=compare)
    path = Path(common.model_dir).expanduser()
    config = None
    model, _ = find_files(path, common.model_filename, common.params_filename, say=False)
    if find_infer_config(path, model.name) is None:
        config = config_of(context)
        LOG.info(
            "%s has no %s or %s; input size, preprocessing and NMS are the configuration's",
            path,
            FILE_NAME,
            PADDLEX_NAME,
        )
    folder = ModelFolder.open(path, common.model_filename, common.params_filename, config)
    if common.input_size and common.input_size != tuple(folder.config.input_size):
        raise UserError(
            f"{path} was exported for an input of {list(folder.config.input_size)}, Global.input_size is "
            f"{list(common.input_size)}; leave it out, or export the weights again at that size"
        )
    return folder


def int8_model(context: Context, compare: bool = True) -> Any:
    """The run's INT8 model as a `ModelFolder`; the arguments are those of `fp32_model`.

    Raises: `UserError` saying which command makes it.
    """
    folder = context.run.folder("quantize")
    if not folder.is_dir():
        raise UserError(f"no INT8 model in {folder}; run `picoquant quantize` with the same --save-dir first")
    return ModelFolder.open(folder, compare=compare)


def config_of(context: Context) -> Any:
    """`InferConfig` from the recipe, for a model that has no infer_cfg.yml."""
    said = context.plan.export_size[1]
    if said:
        LOG.info("%s", said)
    return context.plan.infer_config(datasets.load(context, "EvalDataset").class_names)
