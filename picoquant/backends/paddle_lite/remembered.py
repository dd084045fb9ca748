"""opt, asked once for each thing: several targets of one run often want the same file, or the same report."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from picoquant.backends.paddle_lite.opt_tool import OptTool
from picoquant.storage.files import disk_errors, sha256


@dataclass(frozen=True)
class RememberedOpt(OptTool):
    """An opt whose results are kept in memory, by the content of the model and by the options.

    opt gets the same file names in an empty folder each time, so nothing else decides what it makes.
    """

    _made: dict[str, tuple[str, dict[str, bytes]]] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def of(cls, tool: OptTool) -> RememberedOpt:
        """The same tool with nothing to remember yet."""
        return cls(tool.path, tool.origin)

    def run(
        self,
        model_file: Path,
        param_file: Path,
        out: Path,
        targets: str,
        out_type: str = "naive_buffer",
        partition: str = "",
        fp16: bool = False,
        sparse: float | None = None,
    ) -> str:
        """As `OptTool.run`; arguments and errors as there. What failed is tried again."""
        wanted = (sha256(model_file), sha256(param_file), targets, out_type, partition, fp16, sparse)
        key, out = hashlib.sha256(repr(wanted).encode()).hexdigest(), Path(out)
        if key not in self._made:
            said = super().run(model_file, param_file, out, targets, out_type, partition, fp16, sparse)
            files = [out] if out.is_file() else sorted(path for path in out.rglob("*") if path.is_file())
            self._made[key] = said, {file.relative_to(out).as_posix(): file.read_bytes() for file in files}
            return said
        said, contents = self._made[key]
        with disk_errors(out):
            for name, content in contents.items():
                file = out / name  # of a single file the name is "."
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_bytes(content)
        return said
