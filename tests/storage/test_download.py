"""Fetching, from servers that stall, lie, break off and lead elsewhere."""

from __future__ import annotations

import hashlib
import http.server
import json
import logging
import os
import pickle
import ssl
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from picoquant.errors import UserError
from picoquant.storage import download
from picoquant.weight_files.files import read_weights

CONTENT = pickle.dumps({"a": np.arange(50_000, dtype=np.float32)})
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Server(http.server.ThreadingHTTPServer):
    """Serves `CONTENT` at any path; the path says how badly. Remembers the requests."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.ranges: list[str | None] = []
        self.tag = '"one"'
        self.leads_to = ""

    def handle_error(self, request, client_address) -> None:
        """Clients that hang up are part of the tests."""


class _Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_) -> None:
        pass

    def do_GET(self) -> None:  # noqa: N802  the base class calls it so
        server, wanted = self.server, self.headers.get("Range")
        server.ranges.append(wanted)
        path = self.path.split("/")[1]
        if path == "missing":
            return self.send_error(404)
        if path == "busy" and len(server.ranges) < 3:
            return self.send_error(503)
        if path == "leads":
            self.send_response(302)
            self.send_header("Location", server.leads_to)
            return self.end_headers()
        content = b"<html>Please log in</html>" if path == "page" else CONTENT
        begin = 0
        if wanted and path != "norange" and self.headers.get("If-Range") == server.tag:
            begin = int(wanted[len("bytes=") : -1])
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.send_header("ETag", server.tag)
        if path not in ("endless",):
            self.send_header("Content-Length", str(len(content) - begin))
        self.end_headers()
        if path == "endless":
            try:
                while True:
                    self.wfile.write(bytes(1 << 20))
            except OSError:
                return None
        end = len(content)
        if path in ("breaks", "changes", "norange") and len(server.ranges) == 1:
            end = 70_000
            if path == "changes":
                server.tag = '"two"'
        self.wfile.write(content[begin:end])
        return None


@pytest.fixture(scope="session")
def certificate(tmp_path_factory) -> Path:
    """A key and certificate for 127.0.0.1 in one file."""
    folder = tmp_path_factory.mktemp("certificate")
    both = folder / "both.pem"
    subprocess.run(
        [*["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=127.0.0.1"],
         "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", folder / "key.pem", "-out", folder / "cert.pem"],
        check=True, capture_output=True,
    )  # fmt: skip
    both.write_bytes((folder / "key.pem").read_bytes() + (folder / "cert.pem").read_bytes())
    return both


@pytest.fixture
def server(certificate, tmp_path, monkeypatch):
    """An https server that this process trusts, an empty cache."""
    monkeypatch.setenv("PICOQUANT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.with_name("cert.pem")))
    for name in ("https_proxy", "http_proxy", "HTTPS_PROXY", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    found = Server()
    found.socket = context.wrap_socket(found.socket, server_side=True)
    yield from _serving(found, "https")


@pytest.fixture
def plain_server():
    yield from _serving(Server(), "http")


def _serving(server: Server, scheme: str):
    server.address = f"{scheme}://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def fetch(address: str, **options) -> Path:
    return download.fetched(address, "pretrain_weights", **options)


def test_fetched_once_and_recorded(server, caplog):
    with caplog.at_level(logging.INFO, logger="picoquant"):
        path = fetch(f"{server.address}/good/a.pdparams", check=read_weights)
    assert path.name == "a.pdparams" and path.read_bytes() == CONTENT
    assert f"SHA-256 {DIGEST}, recorded" in caplog.text
    assert json.loads(path.with_name("a.pdparams.json").read_text())["sha256"] == DIGEST
    assert fetch(f"{server.address}/good/a.pdparams") == path
    assert len(server.ranges) == 1
    assert fetch(f"{server.address}/other/a.pdparams") != path  # of the same name elsewhere
    left = sorted(entry.name for entry in path.parent.iterdir())
    assert left == [".lock", "a.pdparams", "a.pdparams.json"]


def test_a_known_digest_is_asked_for(server):
    path = fetch(f"{server.address}/good/a.pdparams#sha256={DIGEST.upper()}")
    assert path.read_bytes() == CONTENT
    with pytest.raises(UserError, match=f"has SHA-256 {DIGEST}, not the {'0' * 64} .*nothing was kept"):
        fetch(f"{server.address}/good/b.pdparams#sha256={'0' * 64}")
    with pytest.raises(UserError, match="only sha256=<64 hex digits>"):
        fetch(f"{server.address}/good/b.pdparams#md5=abc")


def test_a_changed_file_in_the_cache_is_fetched_again(server, caplog):
    path = fetch(f"{server.address}/good/a.pdparams")
    path.write_bytes(b"damaged")
    assert fetch(f"{server.address}/good/a.pdparams").read_bytes() == CONTENT
    assert "is not what was fetched" in caplog.text


def test_a_broken_connection_is_taken_up(server):
    assert fetch(f"{server.address}/breaks/a.pdparams").read_bytes() == CONTENT
    assert server.ranges == [None, "bytes=70000-"]


@pytest.mark.parametrize("how", ["changes", "norange"])
def test_begins_anew_where_the_file_changed_or_parts_are_not_given(server, how):
    assert fetch(f"{server.address}/{how}/a.pdparams").read_bytes() == CONTENT
    assert len(server.ranges) == 2


def test_a_killed_runs_part_is_continued(server):
    path = fetch(f"{server.address}/good/a.pdparams")
    path.with_name(".a.pdparams.part").write_bytes(CONTENT[:1000])
    path.with_name(".a.pdparams.part.json").write_text(json.dumps({"version": server.tag}))
    path.unlink()
    assert fetch(f"{server.address}/good/a.pdparams").read_bytes() == CONTENT
    assert server.ranges[-1] == "bytes=1000-"


def test_a_server_out_of_breath_is_asked_again(server):
    assert fetch(f"{server.address}/busy/a.pdparams").read_bytes() == CONTENT
    assert len(server.ranges) == 3


def test_what_is_too_large_is_refused(server):
    for path in ("good", "endless"):
        with pytest.raises(UserError, match="is larger than 0 MiB"):
            fetch(f"{server.address}/{path}/a.pdparams", max_bytes=100_000)
    assert not list(download.cache_folder().rglob("*.part"))


def test_a_page_instead_of_weights_is_not_kept(server):
    with pytest.raises(UserError, match="gave no weights: .*no .pdparams file"):
        fetch(f"{server.address}/page/a.pdparams", check=read_weights)
    assert [entry.name for entry in download.cache_folder().rglob("*a.pdparams")] == []


def test_only_https_unless_allowed(server, plain_server):
    with pytest.raises(UserError, match=r"is not https.*Global\.allow_http=true"):
        fetch(f"{plain_server.address}/good/a.pdparams")
    assert plain_server.ranges == []
    assert fetch(f"{plain_server.address}/good/a.pdparams", allow_http=True).read_bytes() == CONTENT
    server.leads_to = f"{plain_server.address}/good/a.pdparams"
    with pytest.raises(UserError, match="leads on to http:.* not https"):
        fetch(f"{server.address}/leads/a.pdparams")
    server.leads_to = "file:///etc/passwd"
    with pytest.raises(UserError, match="file:.* is not allowed"):
        fetch(f"{server.address}/leads/b.pdparams", allow_http=True)
    server.leads_to = f"{server.address}/good/a.pdparams"
    assert fetch(f"{server.address}/leads/c.pdparams").read_bytes() == CONTENT


def test_clear_words_without_network_or_file(server, monkeypatch):
    with pytest.raises(UserError, match="the server answers 404"):
        fetch(f"{server.address}/missing/a.pdparams")
    with pytest.raises(UserError, match="cannot be fetched .no network, or no such host"):
        fetch("https://no-such-host.invalid/a.pdparams")
    with pytest.raises(UserError, match="cannot be fetched .*Connection refused"):
        fetch("https://127.0.0.1:9/a.pdparams")
    monkeypatch.delenv("SSL_CERT_FILE")
    with pytest.raises(UserError, match="cannot be fetched .*CERTIFICATE_VERIFY_FAILED"):
        fetch(f"{server.address}/good/z.pdparams")
    assert len(server.ranges) == 1


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("ftp://a/b.pdparams", "no https address"),
        ("file:///etc/passwd", "no https address"),
        ("https://host", "no https address of a file"),
        ("https://host/a/..", "no https address of a file"),
        ("https:///a.pdparams", "no https address of a file"),
        ("https://[a/b", "is no address"),
        ("https://host/weights.tar", "is an archive"),
        ("https://host/weights.ZIP", "is an archive"),
    ],
)
def test_addresses_that_are_not_taken(address, message):
    with pytest.raises(UserError, match=message):
        fetch(address)


def test_two_runs_share_one_fetch(server):
    code = "import sys; from picoquant.storage.download import fetched; print(fetched(sys.argv[1], 'pretrain_weights'))"
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", code, f"{server.address}/good/a.pdparams"],
            stdout=subprocess.PIPE, text=True, env=dict(os.environ),
        )
        for _ in range(4)
    ]  # fmt: skip
    paths = {run.communicate(timeout=60)[0].strip() for run in runs}
    assert [run.returncode for run in runs] == [0] * 4 and len(paths) == 1
    assert Path(paths.pop()).read_bytes() == CONTENT
    assert len(server.ranges) == 1
