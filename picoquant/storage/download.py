"""Download a file by https into a cache: resumable, limited in size, verified, one process at a time."""

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

MAX_BYTES = 512 << 20  # the same limit as for reading a file of weights
_TIMEOUT = 20  # seconds without a response
_TRIES = 4  # after a broken connection the download is resumed
_CHUNK = 1 << 16
_ARCHIVES = (".tar", ".tgz", ".gz", ".zip", ".xz", ".bz2", ".7z", ".rar")


@dataclass(frozen=True)
class Source:
    """The origin of a file.

    Attributes:
        url: the address without its fragment (`#...`).
        name: name of the file.
        digest: required hex SHA-256; None if the address has none.
    """

    url: str
    name: str
    digest: str | None


def cache_folder() -> Path:
    """The folder of downloaded files: `PICOQUANT_CACHE`, or `picoquant` in the user's cache folder."""
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
    """The cached file of an address, which is downloaded if it is not in the cache.

    The file's SHA-256 is recorded beside it; a cached file with another SHA-256 is downloaded again. An
    interrupted download is resumed if the server confirms that its file has not changed.

    Args:
        address: `https://…`, optionally followed by `#sha256=<64 hex digits>`, the required digest.
        key: the configuration's key of this address, for messages.
        allow_http: accept `http://…` and redirections to it too.
        check: called with the path of the downloaded file; if it raises, the file is removed.
        max_bytes: a larger file is rejected.

    Raises: `UserError` when the address is not https, cannot be reached, or returns a file that is too large,
        has another digest or fails `check`; or when the disk cannot be written.
    """
    source = parse_address(address, key, allow_http)
    folder = cache_folder() / "weights" / hashlib.sha256(source.url.encode()).hexdigest()[:16]
    path = folder / source.name
    with disk_errors(folder), _lock(folder, source.url):
        if not _intact(path, source):
            _fetch(source, path, key, allow_http, check, max_bytes)
    return path


def parse_address(address: str, key: str, allow_http: bool) -> Source:
    """Split and check an address; arguments as in `fetched`.

    Raises: `UserError` for an address that is not accepted, with the reason.
    """
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
    """Within the block this process holds the folder's lock, which the system releases if it is killed."""
    folder.mkdir(parents=True, exist_ok=True)
    with open(folder / ".lock", "w") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            LOG.info("another run is fetching %s; waiting for it", url)
            fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def _record(path: Path) -> Path:
    """The JSON file with the facts about a file, beside it."""
    return path.with_name(f"{path.name}.json")


def _read_record(path: Path) -> dict[str, Any]:
    """The facts recorded about a file; empty where none can be read."""
    try:
        found = json.loads(_record(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _intact(path: Path, source: Source) -> bool:
    """Whether the cached file exists and has both the recorded and the required SHA-256."""
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
                raise  # an error of the disk, not of the network
            if left and _is_temporary(error):
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
    """Download over one connection, from where the last one stopped to the end.

    Raises: `UserError` for too large a file; `ConnectionError` when the connection ends early; what `urllib`
        raises.
    """
    have = part.stat().st_size if part.is_file() else 0
    version = _read_record(part).get("version") if have else None
    headers = {"User-Agent": "picoquant", "Accept-Encoding": "identity"}
    if have and version:
        headers.update({"Range": f"bytes={have}-", "If-Range": version})
    opener = urllib.request.build_opener(_Redirects(allow_http))
    request = urllib.request.Request(source.url, headers=headers)
    with opener.open(request, timeout=_TIMEOUT) as answer:
        begin = _start_offset(answer, have)
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


def _start_offset(answer: Any, have: int) -> int:
    """The position of the response's first byte in the file: `have` if the server resumes, otherwise 0."""
    match = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range") or "")
    return have if answer.status == 206 and match and int(match[1]) == have else 0


def _version(answer: Any) -> str | None:
    """An identifier of this content for If-Range: a strong ETag, or else the time of modification.

    A weak ETag does not guarantee equal bytes.
    """
    tag = answer.headers.get("ETag")
    return tag if tag and not tag.startswith("W/") else answer.headers.get("Last-Modified")


def _too_large(key: str, source: Source, max_bytes: int) -> UserError:
    return UserError(f"{key}: {source.url} is larger than {max_bytes >> 20} MiB, so no PicoDet's weights")


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows redirections to https only, unless http is allowed."""

    def __init__(self, allow_http: bool) -> None:
        self._schemes = ("https", "http") if allow_http else ("https",)

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """Follow a redirection.

        Raises: `URLError` for one to another scheme.
        """
        if urlsplit(newurl).scheme not in self._schemes:
            raise urllib.error.URLError(f"it leads on to {newurl}, which is not https")
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _is_temporary(error: Exception) -> bool:
    """Whether a retry could help: not after a status such as 404, a bad certificate or redirection."""
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
