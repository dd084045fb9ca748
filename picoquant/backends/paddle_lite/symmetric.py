"""What Paddle Lite's programs cannot hold."""

from __future__ import annotations

from picoquant.backends.scheme import not_symmetric
from picoquant.backends.source import Source
from picoquant.errors import SchemeError
from picoquant.int8.paddle.form import zero_points


def require_symmetric(source: Source) -> None:
    """Refuse an INT8 network with zero points: opt reads ranges alone, and would make another network of it.

    Raises: `SchemeError` naming a tensor, and what holds it.
    """
    found = zero_points(source.program.blocks[0])
    if found:
        raise SchemeError(f"Paddle Lite cannot hold {source.folder.path}: {not_symmetric(next(iter(found)))}")
