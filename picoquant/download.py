"""Fetch a file by https, once, into a cache."""

from __future__ import annotations

import logging
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

from picoquant.errors import UserError
from picoquant.files import whole_file

LOG = logging.getLogger("picoquant")

_TIMEOUT = 20  # seconds without an answer


def cache_folder() -> Path:
    """Where fetched files are kept: `PICOQUANT_CACHE`, or the user's cache folder."""
    named = os.environ.get("PICOQUANT_CACHE")
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "picoquant"


def fetched(address: str, key: str) -> Path:
    """The cached file of an https address, fetched when it is not there yet.

    Args:
        address: `https://…`.
        key: the configuration's key that names it, for messages.

    Raises: `UserError` when the address is not https, or cannot be reached.
    """
    parts = urlsplit(address)
    name = Path(parts.path).name
    if parts.scheme != "https" or not name:
        raise UserError(f"{key}: {address} is no https address of a file; give one, a path, or null")
    path = cache_folder() / "weights" / name
    if path.is_file():
        return path
    LOG.info("fetching %s -> %s", address, path)
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT) as answer, whole_file(path, "wb") as stream:
            shutil.copyfileobj(answer, stream)
    except (urllib.error.URLError, TimeoutError, ConnectionError) as error:
        reason = getattr(error, "reason", error)
        raise UserError(
            f"{key}: {address} cannot be fetched ({reason}); put the file at {path}, set {key} to its path, or "
            f"to null to train from scratch"
        ) from error
    return path
