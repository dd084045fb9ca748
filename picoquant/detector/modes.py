"""Training and evaluation mode of a network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def evaluation_mode(model: Any) -> Iterator[None]:
    """Within the block the network is in evaluation mode; its previous mode is restored afterwards."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        if training:
            model.train()
