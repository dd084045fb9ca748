"""Every model of a search on the same images in the same way; FP32 once, as all are compared with it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import Any

from picoquant.evaluation.fidelity import agreement, detections_as_objects
from picoquant.evaluation.paired import Paired, bootstrapped, paired
from picoquant.quantization.score import Score
from picoquant.stages import datasets
from picoquant.stages.evaluate import evaluate_folder
from picoquant.stages.run import run_stages
from picoquant.stages.run_models import fp32_model, int8_model
from picoquant.stages.stage import Context, Stage
from picoquant.storage.files import sha256
from picoquant.storage.run_folder import RunFolder

NAME = "score"
_FILE = "detections.json"


class Scores:
    """Scores models, and compares them.

    Args:
        context: the run folder `fp32` of the search, with a plan that names the FP32 model.
        force: evaluate FP32 again.
    """

    def __init__(self, context: Context, force: bool = False) -> None:
        self._context, self._dataset = context, datasets.load(context, "EvalDataset")
        self._reference = _identity(fp32_model(context))
        run_stages(context, [self._stage("FP32", fp32_model)], force)

    @property
    def seconds_per_image(self) -> float:
        """What an image took in the evaluation of FP32."""
        return self._context.run.record(NAME)["metrics"]["seconds_per_image"]

    @property
    def images(self) -> int:
        """Number of the evaluation images."""
        return len(self._dataset)

    @property
    def stage(self) -> Stage:
        """Scores the INT8 model of a trial's run folder."""
        return self._stage("INT8", int8_model, self._reference)

    def score(self, run: RunFolder) -> Score:
        """What `stage` found of a trial."""
        metrics = run.record(NAME)["metrics"]
        return Score(metrics["mAP"], metrics["fidelity"])

    def interval(self, run: RunFolder) -> tuple[float, float] | None:
        """The 95 % confidence interval of a trial's fidelity; None where FP32 detects nothing."""
        if not self._expected["annotations"]:
            return None
        return bootstrapped(self._expected, self._detections(run), self._dataset.image_ids)[1:]

    def difference(self, first: RunFolder, second: RunFolder) -> Paired:
        """Fidelity of the second trial minus that of the first, with its interval; mAP where FP32 detects nothing."""
        truth = self._expected if self._expected["annotations"] else self._labels
        return paired(truth, self._detections(first), self._detections(second), self._dataset.image_ids)

    @cached_property
    def _labels(self) -> Mapping[str, Any]:
        return self._dataset.ground_truth()

    @cached_property
    def _expected(self) -> Mapping[str, Any]:
        """What FP32 detects, as annotations."""
        return detections_as_objects(self._labels, self._detections(self._context.run))

    def _detections(self, run: RunFolder) -> Sequence[Mapping[str, Any]]:
        content = json.loads((run.folder(NAME) / _FILE).read_text(encoding="utf-8"))
        return self._dataset.with_ids_here(content)

    def _stage(self, title: str, model: Any, reference: Mapping[str, str] | None = None) -> Stage:
        def inputs(context: Context) -> dict[str, Any]:
            folder = model(context)
            return {
                **_identity(folder),
                "preprocessing": folder.config.identity(),
                "compared with": reference,
                "nms": asdict(context.plan.nms),
                "images": datasets.identity(context, "EvalDataset"),
            }

        def work(context: Context, out: Path, keep: Path) -> dict[str, Any]:
            found = evaluate_folder(context, model(context), self._dataset, f"evaluate {title}", quick=True)
            found.write_detections(out / _FILE, self._dataset)
            ids = self._dataset.image_ids
            return {
                "mAP": found.metrics["mAP"],
                "fidelity": agreement(self._expected, found.detections, ids) if reference else None,
                "seconds_per_image": found.seconds / found.images,
            }

        return Stage(NAME, f"{title} on the evaluation images", lambda context: None, inputs, work)


def _identity(folder: Any) -> dict[str, str]:
    return {"model": sha256(folder.model), "params": sha256(folder.params)}
