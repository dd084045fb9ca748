"""Errors of training."""

from __future__ import annotations

from picoquant.errors import UserError


class DivergedError(UserError):
    """The loss is no number any more; the message names step and learning rate."""
