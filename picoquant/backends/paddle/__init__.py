"""Paddle's own inference runtime, with oneDNN and without."""

from dataclasses import replace

from picoquant.backends.base import Backend

_PADDLE = Backend("paddle", "Paddle's inference runtime", __name__, check="paddle")

BACKENDS = (
    _PADDLE,
    replace(_PADDLE, name="paddle-no-onednn", variant_of="paddle", without=frozenset({"onednn"}), check=""),
)
