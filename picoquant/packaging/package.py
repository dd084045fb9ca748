"""The package of one target: everything a board needs, and proof of what it is."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from picoquant.backends.base import Backend, Found
from picoquant.backends.onnx.paddle2onnx import OPSET
from picoquant.backends.paddle_lite import export as paddle_lite
from picoquant.backends.paddle_lite.opt_tool import OptTool
from picoquant.backends.verisilicon.toolchain import Emulator
from picoquant.errors import SchemeError, ToolError, UserError
from picoquant.npu.emulated.compiled import compile_into
from picoquant.packaging import expectation, rknn
from picoquant.packaging.archive import SUFFIX, write_archive
from picoquant.packaging.board_program import (
    PROGRAMS,
    SCRIPT,
    SETTINGS,
    quoted,
    settings,
    write_board,
    write_script,
)
from picoquant.packaging.forms import (
    FP16_NB,
    FP32_NB,
    INT8_NB,
    ONNX,
    PADDLE,
    PLAIN_ONNX,
    PRECISIONS,
    Forms,
    forms_of,
    models_in,
    tools_of,
    without_nb,
)
from picoquant.packaging.manifest import NAME, ONNX_BATCH, Facts, about_target, files_of
from picoquant.packaging.npu_check import PARTITION, check_for_package, check_of_vela
from picoquant.packaging.prepared import Models, Prepared
from picoquant.packaging.preprocess import description
from picoquant.packaging.readme import readme
from picoquant.packaging.sample import SampleImage, made_sample, write_sample
from picoquant.paddle_program.edit import write_program
from picoquant.paddle_program.infer_config import write_infer_config
from picoquant.paddle_program.model_folder import MODEL, PARAMS, ModelFolder
from picoquant.storage.files import (
    disk_errors,
    recover_folder,
    replace_folder,
    sha256,
    write_json,
    write_text,
)
from picoquant.targets.profiles import Target
from picoquant.utils.batching import Batch
from picoquant.utils.versions import OF_A_PACKAGE, versions
from picoquant.yaml_files.load import dump_yaml

LOG = logging.getLogger("picoquant")

_WITH_BOXES = "post-processing is inside the model, whose boxes in INT8 are of no use: export as raw"


@dataclass(frozen=True)
class PackageResult:
    """What was made.

    Attributes:
        folder: the package.
        archive: the same as one `.tar.gz`.
        files: its files, relative, sorted; `manifest.json` holds the hash of every other one.
        bytes: sizes of the models in it, by name.
        agreement: how far the ONNX model is from the Paddle model, see `parity.compare`; empty without.
    """

    folder: Path
    archive: Path
    files: tuple[str, ...]
    bytes: dict[str, int]
    agreement: dict[str, Any]


def package(*arguments: Any, **named: Any) -> PackageResult:
    """Package a model for a target; `out_dir/<target>` and `.tar.gz` appear whole or not at all.

    The same models, target and tools give the same bytes. Arguments and errors are those of `begin`.
    """
    return begin(*arguments, **named)()


def begin(
    models: Models,
    target: Target,
    out_dir: Path,
    opt: OptTool | None = None,
    facts: Facts | None = None,
    sample: SampleImage | None = None,
    calibration: Sequence[SampleImage] = (),
    prepared: Prepared | None = None,
    batch: Batch = 1,
    qdq: str = "uint8",
    compiler: Emulator | None = None,
) -> Callable[[], PackageResult]:
    """Make the files of a package, and return what makes its archive and puts both in their place.

    That is more than half of the work, and may be called in another thread: packing keeps none from working.

    Args:
        models: what to package.
        target: what to package for.
        out_dir: folder of all packages.
        opt: Paddle Lite's opt, see `paddle_lite/toolchain.py`; not needed for a target without Paddle Lite.
        facts: for the manifest.
        sample: an image to try the package on; by default a picture made from a seed.
        calibration: images of the run's calibration, for a toolkit that quantises by itself, see `rknn`.
        prepared: of the same models, where they are packaged for several targets.
        batch: images a call of the ONNX files, see `onnx_files`; all other forms take one.
        qdq: integers of the plain ONNX, see `plain.make_plain_onnx`.
        compiler: VeriSilicon's tool, for a compiled network where its emulator has the target's NPU; None: without.

    Raises: `UserError` for a batch without an INT8 model, `WeightsError` for a float model where INT8 is needed,
        `ToolError` when opt, paddle2onnx or ONNX Runtime refuse it.
    """
    forms = forms_of(target)
    if forms.needs_int8 and models.int8 is None:
        raise UserError(f"{target.name} takes INT8 models only: run `picoquant quantize` first")
    if forms.lite and opt is None:
        raise UserError(f"{target.name} needs Paddle Lite's opt: run `picoquant toolchain install`")
    if batch != 1 and models.int8 is None:
        raise UserError(
            f"Package.batch={batch} is for the INT8 ONNX files, which {target.name}'s package of a float model has "
            "not: run `picoquant quantize` first, or set Package.batch=1"
        )
    prepared = prepared or Prepared(models)
    tools, left_out = tools_of(forms)
    forms, no_nb = without_nb(forms, target, prepared.int8, compiler is not None)
    forms = replace(forms, backends=tuple(one for one in forms.backends if one.name in tools))
    for name, reason in left_out.items():
        LOG.warning("package %s: the files for %s are left out: %s", target.name, name, reason)
    if no_nb:
        left_out[INT8_NB] = no_nb
        LOG.warning("package %s: %s is left out: %s", target.name, INT8_NB, no_nb)
    LOG.info("package %s: reading %s", target.name, models.first.path)
    shown = sample or made_sample(models.first.config)
    parts = _Parts(prepared, target, forms, opt, tools, shown, calibration, batch, qdq, compiler)
    made_by = {name: tool.version for name, tool in tools.items()}
    if forms.lite:
        made_by["opt"] = opt.version
    final = Path(out_dir) / target.name
    archive = final.with_name(final.name + SUFFIX)
    with disk_errors(final), ExitStack() as stack:
        Path(out_dir).mkdir(parents=True, exist_ok=True)
        recover_folder(final)
        scratch = tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=out_dir)
        folder = Path(stack.enter_context(scratch)) / target.name
        folder.mkdir()
        manifest = parts.write(folder)
        given = facts or Facts({}, {})
        manifest.update(mAP=dict(given.accuracy), settings=dict(given.settings))
        if target.name in given.board:
            manifest["mAP_on_board"] = given.board[target.name]
        if left_out:
            manifest["left_out"] = left_out
        manifest["versions"] = {**versions(OF_A_PACKAGE), **made_by}
        manifest["files"] = files_of(folder)
        write_json(folder / NAME, manifest)
        made = stack.pop_all()

    def finish() -> PackageResult:
        with disk_errors(final), made:
            packed = folder.with_name(archive.name)
            write_archive(folder, packed)
            # An archive is never there beside the folder of another package, nor without one.
            archive.unlink(missing_ok=True)
            replace_folder(folder, final)
            os.replace(packed, archive)
        LOG.info("package %s: done, %s and %s", target.name, final, archive.name)
        endings = (".nb", ".onnx", *(suffix for backend in forms.backends for suffix in backend.suffixes))
        sizes = {name: about["bytes"] for name, about in manifest["files"].items() if name.endswith(endings)}
        names = tuple(sorted([*manifest["files"], NAME]))
        return PackageResult(final, archive, names, sizes, manifest.get("onnx_against_paddle", {}))

    return finish


class _Parts:
    """Writes the parts of one package, each into the folder it is given."""

    def __init__(
        self,
        prepared: Prepared,
        target: Target,
        forms: Forms,
        opt: OptTool | None,
        tools: Mapping[str, Found],
        sample: SampleImage,
        calibration: Sequence[SampleImage],
        batch: Batch,
        qdq: str,
        compiler: Emulator | None,
    ) -> None:
        self.prepared, self.models, self.target, self.forms = prepared, prepared.models, target, forms
        self.opt, self.tools, self.sample = opt, tools, sample
        self.calibration, self.batch, self.qdq, self.compiler = calibration, batch, qdq, compiler
        self.network = None if prepared.int8 is None else prepared.int8.network

    def write(self, folder: Path) -> dict[str, Any]:
        """All parts but the manifest, whose first keys are returned."""
        model = self.models.first
        shipped = self._write_paddle(folder)
        manifest: dict[str, Any] = {"target": about_target(self.target), "model": self._about(shipped)}
        manifest["warnings"] = []
        with ThreadPoolExecutor(1) as pool:  # beside opt, a process of its own
            onnx_files = pool.submit(self._write_onnx, folder, shipped) if self.network is not None else None
            partition = self._write_lite(folder, shipped, manifest)
            compiled = self._write_compiled(folder, manifest)
        onnx: dict[str, dict[str, Any]] = {}
        if onnx_files is not None:
            onnx, manifest["onnx_against_paddle"] = onnx_files.result()
            manifest["qdq"] = {"numbers": self.qdq} if PLAIN_ONNX in onnx else {"left_out": _WITH_BOXES}
        if self.batch != 1:
            manifest[ONNX_BATCH] = onnx
        for backend in self.forms.backends:
            self._write_backend(folder, backend)
        placed = check_of_vela(shipped, self.target, self.tools)
        if placed is not None:
            manifest["check"] = placed.values
            manifest["warnings"] += placed.warnings
        self._write_texts(folder, shipped, onnx)
        manifest["sample"] = self._write_sample(folder, shipped)
        nb: dict[str, str] = {}
        board = self.forms.lite or "file" in compiled
        if board:
            facts = self.prepared.facts(shipped.model)
            made = [(precision, name, folder / name) for precision, name in PRECISIONS.items()]
            nbs = [(precision, name, sha256(path)) for precision, name, path in made if path.is_file()]
            nb = manifest["model"]["nb"] = {precision: name for precision, name, _ in nbs}
            if "file" in compiled:
                nbs.append(("compiled", compiled["file"], sha256(folder / compiled["file"])))
            models = models_in(folder, self.forms, nbs)
            values = settings(model.config, facts, models, self.target, partition)
            write_board(folder, self.target, values)
        for backend in self.forms.with_programs:
            program = bool(PROGRAMS[backend.name].cmake)
            if not board:
                facts, models = self.prepared.facts(shipped.model), models_in(folder, self.forms)
                values = settings(model.config, facts, models, self.target, program=program)
                write_json(folder / SETTINGS, values)
                if program:
                    write_board(folder, self.target, values)
            write_script(folder / SCRIPT, backend.name)
        platform = rknn.platform_of(self.target)
        if platform:
            manifest["rknn"] = self._write_rknn(folder / rknn.FOLDER, platform)
        has_rknn, int8 = (folder / rknn.FOLDER).is_dir(), self.models.int8 is not None
        qdq = self.qdq if PLAIN_ONNX in onnx else ""
        text = readme(self.target, self.forms, int8, partition, has_rknn, nb, self.batch, qdq, compiled)
        write_text(folder / "README.md", text)
        return manifest

    def _write_lite(self, folder: Path, shipped: ModelFolder, manifest: dict[str, Any]) -> str:
        """What Paddle Lite runs, and where; the name of the partition file, empty where none helps."""
        if not self.forms.lite:
            return ""
        said = paddle_lite.other_version(self.target, self.opt)
        manifest["warnings"] += [said] if said else []
        LOG.info("package %s: checking what runs where", self.target.name)
        checked = check_for_package(shipped, self.target, self.opt)
        manifest["check"] = checked.values
        manifest["warnings"] += checked.warnings
        if checked.partition:
            write_text(folder / PARTITION, checked.partition)
        self._write_nb(folder, checked.partition)
        return PARTITION if checked.partition else ""

    def _write_compiled(self, folder: Path, manifest: dict[str, Any]) -> dict[str, Any]:
        """The network as VeriSilicon's tool compiles it; what the manifest says of it, empty without."""
        if self.compiler is None or self.target.verisilicon is None or not self.models.int8:
            return {}
        compiled = manifest["compiled"] = compile_into(folder, self.models.int8, self.target, self.compiler)
        if self.target.on_npu and not self.forms.lite and "file" not in compiled:
            raise ToolError(compiled["left_out"])  # there is no `.nb` either
        return compiled

    def _description(self, model: ModelFolder) -> dict[str, Any]:
        facts = self.prepared.facts(model.model)
        return description(model.config, facts.inputs, facts.outputs)

    def _about(self, shipped: ModelFolder) -> dict[str, Any]:
        about: dict[str, Any] = {
            "input_size": list(shipped.config.input_size),
            "batch": 1,
            "labels": list(shipped.config.labels),
        }
        if self.network is not None:
            about["quantized_operators"] = len(self.network.operators)
            about["weights"] = "per_channel" if self.network.per_channel else "per_tensor"
            about["onnx_opset_at_least"] = OPSET
        return about

    def _write_paddle(self, folder: Path) -> ModelFolder:
        model, out = self.models.first, folder / PADDLE
        out.mkdir()
        write_program(self.prepared.first.program, out / MODEL)
        shutil.copyfile(model.params, out / PARAMS)
        write_infer_config(model.config, out)
        return self.prepared.opened(out)

    def _write_nb(self, folder: Path, partition: str) -> None:
        made = []
        if self.models.int8:
            made.append((INT8_NB, self.prepared.int8, False))
        if self.forms.cpu_nb and self.models.fp32:
            made += [(FP32_NB, self.prepared.fp32, False), (FP16_NB, self.prepared.fp32, True)]
        for name, source, fp16 in made:
            LOG.info("package %s: %s by opt %s", self.target.name, name, self.opt.version)
            out = folder / Path(name).stem
            paddle_lite.export(source, out, self.opt, self.target, fp16=fp16, partition=partition)

    def _write_backend(self, folder: Path, backend: Backend) -> None:
        """The files of the INT8 model that a backend runs."""
        LOG.info("package %s: %s by %s", self.target.name, backend.file, backend.title)
        lacking = backend.scheme.lacks(self.network)
        if lacking:
            raise SchemeError(f"{backend.name} cannot hold {self.models.int8.path}: {lacking}")
        out = folder / Path(backend.file).stem
        backend.make(self.prepared.int8, out, self.tools[backend.name], self.target)

    def _write_onnx(
        self, folder: Path, shipped: ModelFolder
    ) -> tuple[dict[str, dict[str, Any]], dict[str, Any]]:
        """The INT8 ONNX and its variants; returns what `write_onnx_files` does, and how well it and Paddle agree."""
        LOG.info("package %s: %s by paddle2onnx", self.target.name, ONNX)
        kind = self._description(shipped)["output"]["kind"]
        plain = self.qdq if kind == "raw" else None
        if plain is None:
            LOG.info("package %s: left out %s: %s", self.target.name, PLAIN_ONNX, _WITH_BOXES)
        made = self.prepared.onnx_files(shipped, kind, folder, self.batch, self.sample, plain)
        single = ", ".join(name for name, facts in made.items() if facts["images"] == 1)
        if self.batch != 1:
            forms = [single, f"{PADDLE}/", *(["the .nb"] if self.forms.lite else [])]
            LOG.info(
                "package %s: one image a call, as ever: %s", self.target.name, ", ".join(filter(None, forms))
            )
        LOG.info("package %s: comparing ONNX Runtime with Paddle", self.target.name)
        return made, self.prepared.compared(shipped, folder / ONNX, kind, self.sample)

    def _write_rknn(self, folder: Path, platform: str) -> dict[str, Any]:
        """The route for Rockchip's own toolkit; returns what the manifest says of it."""
        fp32, lacking = self.models.fp32, ""
        if fp32 is None:
            lacking = "there is no float model: package a run that exported one"
        elif self._description(fp32)["output"]["kind"] == "detections":
            lacking = "the float model has NMS inside, which that toolkit does not take: export without"
        elif not self.calibration:
            lacking = "there are no calibration images: package a run whose data set is there"
        if lacking:
            LOG.info("package %s: left out %s/, for rknn-toolkit: %s", self.target.name, folder.name, lacking)
            return {"left_out": lacking}
        LOG.info("package %s: %s/, for rknn-toolkit, by paddle2onnx", self.target.name, folder.name)
        images = self.calibration[: rknn.IMAGES]
        return rknn.write_rknn(folder, self.prepared.float_onnx, fp32.config, images, platform)

    def _write_texts(self, folder: Path, shipped: ModelFolder, onnx: Mapping[str, Mapping[str, Any]]) -> None:
        labels = (" ".join(label.split()) for label in shipped.config.labels)
        write_text(folder / "labels.txt", "".join(f"{label}\n" for label in labels))
        described = self._description(shipped)
        if self.batch != 1:  # the shapes in it are those of one image
            described["onnx_images_a_call"] = {name: facts["images"] for name, facts in onnx.items()}
        write_text(folder / "preprocess.yml", dump_yaml(described))
        variables = "".join(f"export {key}={quoted(text)}\n" for key, text in self.target.environment.items())
        write_text(folder / "environment.sh", f"# Source this on the board before the program.\n{variables}")

    def _write_sample(self, folder: Path, shipped: ModelFolder) -> dict[str, Any]:
        """Image and expected detections; for a CPU target with a float model beside INT8, of both."""
        place = folder / "sample"
        write_sample(self.sample, place)
        pairs = [("expected.json", shipped, "INT8" if self.models.int8 else "FP32")]
        if self.forms.cpu_nb and self.models.int8 and self.models.fp32:
            pairs.append(("expected_fp32.json", self.models.fp32, "FP32"))
        tolerance = expectation.Tolerance()
        counts = {}
        for name, model, precision in pairs:
            found = self.prepared.expected(model, self.sample)
            made_by = f"the {precision} Paddle model in Paddle's inference runtime on the host"
            write_json(place / name, expectation.as_json(found, model.config.labels, tolerance, made_by))
            counts[name] = int((found.scores >= tolerance.min_score).sum())
        height, width = self.sample.image.shape[:2]
        return {"source": self.sample.source, "size": [height, width], "expected": counts}
