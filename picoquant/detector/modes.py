"""Modes of a network."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def evaluation_mode(model: Any) -> Iterator[None]:
    """Put a network into evaluation mode and, afterwards, back into the mode it was in."""
    training = model.training
    model.eval()
    try:
        yield
    finally:
        if training:
            model.train()
