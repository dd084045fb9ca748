"""The models of a run, and what the packages of all targets share: read and converted once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from picoquant.backends.onnx.parity import compare
from picoquant.backends.source import Source
from picoquant.errors import UserError
from picoquant.packaging.onnx_files import write_onnx_files
from picoquant.packaging.rknn import float_onnx
from picoquant.packaging.sample import SampleImage, expected_detections
from picoquant.paddle_program.model_folder import ModelFolder
from picoquant.paddle_program.program import ProgramFacts, program_facts
from picoquant.postprocess import Detections
from picoquant.storage.files import sha256
from picoquant.utils.batching import Batch

T = TypeVar("T")


@dataclass(frozen=True)
class Models:
    """One network's exported forms; at least one is there.

    Attributes:
        int8: an INT8 Paddle model in Paddle Lite's form.
        fp32: the float model it was made from.
    """

    int8: ModelFolder | None = None
    fp32: ModelFolder | None = None

    @property
    def first(self) -> ModelFolder:
        """The one that a package is about: INT8 where there is one."""
        folder = self.int8 or self.fp32
        if folder is None:
            raise UserError("no model to package: quantise or export one first")
        return folder


class Prepared:
    """Programs, networks and ONNX models of `models`, and what was found out of them: made at first use, then kept.

    None of them is to be changed by who uses it.

    Attributes:
        int8, fp32: the models as exporters take them; None for one that is not there.
    """

    def __init__(self, models: Models) -> None:
        self.models = models
        self.int8 = None if models.int8 is None else Source(models.int8)
        self.fp32 = None if models.fp32 is None else Source(models.fp32)
        self._plain: dict[str, Any] = {}
        self._kept: dict[Hashable, Any] = {}

    @property
    def first(self) -> Source:
        """The one that a package is about, see `Models.first`."""
        return self.int8 or self.fp32

    @cached_property
    def int8_onnx(self) -> Any:
        """The INT8 model as `onnx.ModelProto`, see `qdq.make_onnx`."""
        from picoquant.backends.onnx.qdq import make_onnx

        return make_onnx(self.int8.network)

    def plain_onnx(self, numbers: str) -> Any:
        """The INT8 model as plain `onnx.ModelProto`, see `plain.make_plain_onnx`."""
        from picoquant.backends.onnx.plain import make_plain_onnx

        if numbers not in self._plain:
            self._plain[numbers] = make_plain_onnx(self.int8.network, numbers)
        return self._plain[numbers]

    @cached_property
    def float_onnx(self) -> Any:
        """The float model as `onnx.ModelProto`, opset 12, see `rknn.float_onnx`."""
        return float_onnx(self.fp32.program, self.models.fp32)

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` returned for a key when it was first asked for; the key says all that it depends on."""
        if key not in self._kept:
            self._kept[key] = make()
        return self._kept[key]

    def facts(self, model: Path) -> ProgramFacts:
        """Inputs and outputs of a program, read once for each content."""
        return self.once(("facts", sha256(model)), lambda: program_facts(model))

    def opened(self, folder: Path) -> ModelFolder:
        """`ModelFolder.open` of a folder that packages copy their model to; a program is checked once."""
        found = ModelFolder.open(folder, compare=False)
        self.once(("opened", *_content(found)), lambda: ModelFolder.open(folder))
        return found

    def expected(self, folder: ModelFolder, sample: SampleImage) -> Detections:
        """`expected_detections` of a model in an image, computed once."""
        key = ("expected", *_content(folder), sample.digest)
        return self.once(key, lambda: expected_detections(folder, sample.image))

    def onnx_files(
        self,
        shipped: ModelFolder,
        kind: str,
        folder: Path,
        batch: Batch,
        sample: SampleImage,
        qdq: str | None,
    ) -> dict[str, dict[str, Any]]:
        """`write_onnx_files` of the INT8 model: made and tried once, then written again.

        Args:
            shipped, kind, folder, batch, sample: as there.
            qdq: integers of the plain ONNX; None: without.
        """

        def make() -> tuple[dict[str, dict[str, Any]], dict[str, bytes]]:
            plain = None if qdq is None else self.plain_onnx(qdq)
            made = write_onnx_files(self.int8_onnx, shipped, kind, folder, batch, sample, plain)
            return made, {name: (folder / name).read_bytes() for name in made}

        made, contents = self.once(("onnx", *_content(shipped), kind, batch, sample.digest, qdq), make)
        for name, content in contents.items():
            if not (folder / name).exists():
                (folder / name).write_bytes(content)
        return {name: dict(facts) for name, facts in made.items()}

    def compared(self, shipped: ModelFolder, onnx: Path, kind: str, sample: SampleImage) -> dict[str, Any]:
        """How far an ONNX file is from the Paddle model on an image, see `parity.compare`; computed once."""

        def make() -> dict[str, Any]:
            import cv2

            height, width = shipped.config.input_size
            image = cv2.resize(sample.image, (width, height), interpolation=cv2.INTER_LINEAR)
            return compare(shipped, onnx, kind, image)

        return self.once(("compared", *_content(shipped), sha256(onnx), kind, sample.digest), make)


def _content(folder: ModelFolder) -> tuple[str, ...]:
    """Hashes of all that decides what a model computes of an image."""
    config = hashlib.sha256(repr(folder.config).encode()).hexdigest()
    return sha256(folder.model), sha256(folder.params), config
