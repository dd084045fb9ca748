"""What packages of the small model say and hold."""

from __future__ import annotations

from picoquant.packaging.package import Facts

FACTS = Facts({"fp32": 0.34, "int8": 0.33}, {"seed": 0})


def content(folder):
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
