"""A small exported model."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def small_model(tmp_path_factory) -> Path:
    """Folder of the exported network of `small_net`."""
    from tests.quantization.small_net import export_small

    folder = tmp_path_factory.mktemp("small")
    export_small(folder)
    return folder
