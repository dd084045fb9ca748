"""The cost of a network: parameters, multiply-accumulates, shapes and memory."""

from __future__ import annotations

from picoquant.summary.summarise import Memory, Part, Row, Summary, summarise

__all__ = ["Memory", "Part", "Row", "Summary", "summarise"]
