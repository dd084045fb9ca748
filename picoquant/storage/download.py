"""Fetch a file by https, once, into a cache: resumed, bounded, checked, and by one process at a time."""

from __future__ import annotations

import fcntl
import hashlib
import http.client
import json
import logging
import os
import re
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable
from urllib.parse import urlsplit, urlunsplit

from picoquant.errors import UserError
from picoquant.storage.files import disk_errors, sha256, write_json

LOG = logging.getLogger("picoquant")

MAX_BYTES = 512 << 20  # as many as a file of weights may have
_TIMEOUT = 20  # seconds without an answer
_TRIES = 4  # a connection that breaks is taken up again
_CHUNK = 1 << 16
_ARCHIVES = (".tar", ".tgz", ".gz", ".zip", ".xz", ".bz2", ".7z", ".rar")


@dataclass(frozen=True)
class Source:
    """Where a file comes from.

    Attributes:
        url: without what stands behind `#`.
        name: of the file.
        digest: hex SHA-256 that it must have; None where nobody said.
    """

    url: str
    name: str
    digest: str | None


def cache_folder() -> Path:
    """Where fetched files are kept: `PICOQUANT_CACHE`, or the user's cache folder."""
    named = os.environ.get("PICOQUANT_CACHE")
    if named:
        return Path(named).expanduser()
    return Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "picoquant"


def fetched(
    address: str,
    key: str,
    allow_http: bool = False,
    check: Callable[[Path], Any] | None = None,
    max_bytes: int = MAX_BYTES,
) -> Path:
    """The cached file of an address, fetched when it is not there yet.

    Its SHA-256 is recorded beside it. A cached file that no longer has it is fetched again. What a
    broken connection left is continued, where the server says that its file is still the same.

    Args:
        address: `https://…`, and `#sha256=<64 hex digits>` behind it where the digest is known.
        key: the configuration's key that names it, for messages.
        allow_http: take `http://…` too, and redirections to it.
        check: raises when the file is not what it should be; such a file is not kept.
        max_bytes: a larger file is refused.

    Raises: `UserError` when the address is not https, cannot be reached, or gives another file than told.
    """
    source = parse_address(address, key, allow_http)
    folder = cache_folder() / "weights" / hashlib.sha256(source.url.encode()).hexdigest()[:16]
    path = folder / source.name
    with disk_errors(folder), _lock(folder, source.url):
        if not _intact(path, source):
            _fetch(source, path, key, allow_http, check, max_bytes)
    return path


def parse_address(address: str, key: str, allow_http: bool) -> Source:
    """Raises: `UserError` for an address that is not taken, saying why."""
    try:
        parts = urlsplit(address)
        host = parts.hostname
    except ValueError as error:
        raise UserError(f"{key}: {address} is no address ({error})") from error
    name = Path(parts.path).name
    if parts.scheme == "http" and not allow_http:
        raise UserError(
            f"{key}: {address} is not https: anyone on the way could change the file; give an https address, "
            "or set Global.allow_http=true, best with #sha256=... behind the address"
        )
    if parts.scheme not in ("https", "http") or not host or not name or name in (".", ".."):
        raise UserError(f"{key}: {address} is no https address of a file; give one, a path, or null")
    if name.lower().endswith(_ARCHIVES):
        raise UserError(
            f"{key}: {address} is an archive, which is not unpacked; fetch it yourself and set {key} to the path "
            "of the weights in it"
        )
    digest = None
    if parts.fragment:
        match = re.fullmatch(r"sha256=([0-9a-fA-F]{64})", parts.fragment)
        if not match:
            raise UserError(f"{key}: behind the # of {address} only sha256=<64 hex digits> is understood")
        digest = match[1].lower()
    return Source(urlunsplit(parts._replace(fragment="")), name, digest)


@contextmanager
def _lock(folder: Path, url: str) -> Iterator[None]:
    """One process at a time; a dead one's lock is gone with it."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            LOG.info("another run is fetching %s; waiting for it", url)
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _record(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


def _read_record(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_record(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _intact(path: Path, source: Source) -> bool:
    """Whether the cached file is there, is what was fetched, and is what it must be."""
    if not path.is_file():
        return False
    digest = sha256(path)
    if digest != _read_record(path).get("sha256"):
        LOG.warning("%s is not what was fetched; fetching it again", path)
        return False
    if source.digest and digest != source.digest:
        LOG.warning("%s has another SHA-256 than the address says; fetching it again", path)
        return False
    return True


def _fetch(
    source: Source,
    path: Path,
    key: str,
    allow_http: bool,
    check: Callable[[Path], Any] | None,
    max_bytes: int,
) -> None:
    LOG.info("fetching %s -> %s", source.url, path)
    part = path.with_name(f".{path.name}.part")
    for left in reversed(range(_TRIES)):
        try:
            _receive(source, part, key, allow_http, max_bytes)
            break
        except UserError:
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            if isinstance(error, OSError) and error.filename is not None and error.errno is not None:
                raise  # the disk's, not the network's
            if left and _may_pass(error):
                LOG.info("%s: %s; trying again", source.url, _reason(error))
                time.sleep(min(2.0, 0.2 * 2 ** (_TRIES - 1 - left)))
                continue
            raise UserError(
                f"{key}: {source.url} cannot be fetched ({_reason(error)}); put the file somewhere and set {key} to "
                "its path, or to null to train from scratch"
            ) from error
    digest = sha256(part)
    if source.digest and digest != source.digest:
        part.unlink()
        raise UserError(
            f"{key}: {source.url} has SHA-256 {digest}, not the {source.digest} behind its #; nothing was kept"
        )
    if check is not None:
        try:
            check(part)
        except UserError as error:
            part.unlink()
            raise UserError(f"{key}: {source.url} gave no weights: {error}") from error
    os.replace(part, path)
    write_json(_record(path), {"url": source.url, "sha256": digest, "bytes": path.stat().st_size})
    _record(part).unlink(missing_ok=True)
    LOG.info("%s: SHA-256 %s%s", path.name, digest, "" if source.digest else ", recorded")


def _receive(source: Source, part: Path, key: str, allow_http: bool, max_bytes: int) -> None:
    """One connection: from where the last one stopped, to the end."""
    have = part.stat().st_size if part.is_file() else 0
    state = _read_record(part).get("version") if have else None
    headers = {"User-Agent": "picoquant", "Accept-Encoding": "identity"}
    if have and state:
        headers.update({"Range": f"bytes={have}-", "If-Range": state})
    opener = urllib.request.build_opener(_Redirects(allow_http))
    request = urllib.request.Request(source.url, headers=headers)
    with opener.open(request, timeout=_TIMEOUT) as answer:
        begin = _begin(answer, have)
        length = answer.headers.get("Content-Length")
        total = begin + int(length) if length and length.isdigit() else None
        if (total or 0) > max_bytes:
            raise _too_large(key, source, max_bytes)
        write_json(_record(part), {"version": _version(answer)})
        with open(part, "r+b" if begin else "wb") as stream:
            stream.truncate(begin)
            stream.seek(begin)
            size = begin
            while chunk := answer.read(_CHUNK):
                size += len(chunk)
                if size > max_bytes:
                    part.unlink()
                    raise _too_large(key, source, max_bytes)
                stream.write(chunk)
            stream.flush()
            os.fsync(stream.fileno())
    if total is not None and size < total:
        raise ConnectionError(f"the connection ended after {size} of {total} bytes")


def _begin(answer: Any, have: int) -> int:
    """Where the answer's bytes belong: behind those there, or at the start."""
    match = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range") or "")
    return have if answer.status == 206 and match and int(match[1]) == have else 0


def _version(answer: Any) -> str | None:
    """What tells this content from a later one at the same address; a weak tag does not."""
    tag = answer.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified")


def _too_large(key: str, source: Source, max_bytes: int) -> UserError:
    return UserError(f"{key}: {source.url} is larger than {max_bytes >> 20} MiB, so no PicoDet's weights")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections to https only, unless http is allowed."""

    def __init__(self, allow_http: bool) -> None:
        self._schemes = ("https", "http") if allow_http else ("https",)

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Raises: `URLError` for a redirection elsewhere."""
        if urlsplit(newurl).scheme not in self._schemes:
            raise urllib.error.URLError(f"it leads on to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _may_pass(error: Exception) -> bool:
    """Whether trying again could help: not for an answer such as 404, a refused certificate, a refused lead."""
    if isinstance(error, urllib.error.HTTPError):
        return error.code >= 500 or error.code in (408, 429)
    return isinstance(error, (ConnectionError, TimeoutError, http.client.HTTPException))


def _reason(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError):
        return f"the server answers {error.code} {error.reason}"
    text = " ".join(str(getattr(error, "reason", error)).split()) or type(error).__name__
    if "Name or service not known" in text or "name resolution" in text or "No address" in text:
        return f"no network, or no such host: {text}"
    return text
