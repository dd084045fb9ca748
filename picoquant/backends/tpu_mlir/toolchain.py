"""TPU-MLIR: found where `picoquant toolchain install tpu_mlir` has put it, or in a Python that the user names."""

from __future__ import annotations

from picoquant.backends.own_environment.package import faces
from picoquant.backends.tpu_mlir.package import PACKAGE

TITLE = PACKAGE.title
DISTRIBUTIONS = ()  # none of this environment
OPTIONAL = True

find, install = faces(PACKAGE)
