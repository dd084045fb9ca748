"""acuity: found where `picoquant toolchain install acuity` has put it, or in a Python that the user names."""

from __future__ import annotations

from picoquant.backends.acuity.package import PACKAGE
from picoquant.backends.own_environment.package import faces

TITLE = PACKAGE.title
DISTRIBUTIONS = ()  # none of this environment
OPTIONAL = True

find, install = faces(PACKAGE)
