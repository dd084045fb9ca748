"""Two hosts on one machine: network namespaces with a cable between them, and no other network."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import picoquant

ROOT = Path(picoquant.__file__).parents[1]


@dataclass(frozen=True)
class Host:
    """One of them.

    Attributes:
        name: of its namespace.
        address: on the cable.
        interface: of the cable's end there.
    """

    name: str
    address: str
    interface: str

    def command(self, *arguments: str) -> list[str]:
        """A command line as it runs on this host."""
        return ["ip", "netns", "exec", self.name, *arguments]

    def unplug(self) -> None:
        """Take the cable out: from now on no packet arrives, and nobody is told."""
        _ip("-n", self.name, "link", "set", self.interface, "down")

    def plug(self) -> None:
        """Put the cable in again."""
        _ip("-n", self.name, "link", "set", self.interface, "up")

    def environment(self) -> dict[str, str]:
        """For Paddle's processes there."""
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        return {**os.environ, "PYTHONPATH": path, "GLOO_SOCKET_IFNAME": self.interface}


def why_not() -> str | None:
    """Why there can be no hosts here; None: they can be."""
    if shutil.which("ip") is None:
        return "there is no `ip` (package iproute2) to make network namespaces with"
    name = f"pqtry{os.getpid()}"
    tried = subprocess.run(["ip", "netns", "add", name], capture_output=True, text=True)
    if tried.returncode:
        return f"network namespaces cannot be made here: {tried.stderr.strip()}"
    subprocess.run(["ip", "netns", "del", name], check=False)
    return None


@contextlib.contextmanager
def two_hosts() -> Iterator[tuple[Host, Host]]:
    """Both, for as long as the block runs."""
    number = os.getpid() % 100000
    hosts = [
        Host(f"pq{number}{end}", f"10.213.7.{place}", f"pq{number}{end}")
        for place, end in ((1, "a"), (2, "b"))
    ]
    first, second = hosts
    try:
        for host in hosts:
            _ip("netns", "add", host.name)
        ends = "type", "veth", "peer", "name", second.interface, "netns", second.name
        _ip("-n", first.name, "link", "add", first.interface, *ends)
        for host in hosts:
            _ip("-n", host.name, "address", "add", f"{host.address}/24", "dev", host.interface)
            _ip("-n", host.name, "link", "set", "lo", "up")
            host.plug()
        yield first, second
    finally:
        for host in hosts:
            subprocess.run(["ip", "netns", "del", host.name], check=False, capture_output=True)


def start(
    hosts: Sequence[Host],
    script: Sequence[str],
    logs: Path,
    each: int = 1,
    changes: Mapping[str, str] | None = None,
    port: int = 45701,
    only: int | None = None,
) -> list[subprocess.Popen]:
    """Start a script on all hosts by Paddle's launcher; gives the launchers, rank 0's first.

    Args:
        hosts: the first has rank 0.
        script: the script and its arguments.
        logs: folder; the launcher writes `a/workerlog.0` and so on.
        each: processes of each host.
        changes: of the environment.
        port: that the launchers meet at.
        only: place of the one host to start it on; None: all.
    """
    started = []
    for place, host in enumerate(hosts):
        if only not in (None, place):
            continue
        launcher = [
            sys.executable,
            "-m",
            "paddle.distributed.launch",
            "--master",
            f"{hosts[0].address}:{port}",
        ]
        launcher += ["--nnodes", str(len(hosts)), "--nproc_per_node", str(each), "--rank", str(place)]
        launcher += ["--host", host.address, "--log_dir", str(logs / "ab"[place])]
        environment = {**host.environment(), **(changes or {})}
        command = host.command(*launcher, *script)
        started.append(
            subprocess.Popen(
                command,
                env=environment,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        )
    return started


def log_of(logs: Path, host: int, process: int = 0) -> str:
    """What a process has written, without Paddle's own lines."""
    text = (logs / "ab"[host] / f"workerlog.{process}").read_text(errors="replace")
    return "\n".join(line for line in text.splitlines() if not line.startswith(("I1", "W1", "I0", "W0")))


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True)
