"""An API server of which there is only `exec`: it speaks `v4.channel.k8s.io` and really runs the programs."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from aiohttp import WSMsgType, web

from chalkcompute.cluster.kubeconfig import Connection

PROTOCOL = "v4.channel.k8s.io"


class ExecServer:
    """Runs programs on this machine for whoever shows the token.

    Attributes:
        url: Where it is.
        refusal: Status and body to answer with instead, or None.
        cut_after: Bytes of input after which the connection is cut, or None.
        status: What to say on the error channel instead of how the program ended, or None.
        asked: Path, protocols and `Authorization` of each request.
        containers: The container of each request.
    """

    def __init__(self) -> None:
        self.refusal: tuple[int, Any] | None = None
        self.cut_after: int | None = None
        self.status: bytes | None = None
        self.path: str | None = None
        self.asked: list[tuple[str, str, str]] = []
        self.containers: list[str] = []
        self.url = ""
        self._started = threading.Event()
        self._stop: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()))

    def start(self) -> None:
        self._thread.start()
        assert self._started.wait(30)

    def close(self) -> None:
        assert self._loop is not None
        assert self._stop is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    def connection(self, folder: Path) -> Connection:
        """A kubeconfig for it, in a folder."""
        path = folder / "kubeconfig"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "c",
            "clusters": [{"name": "c", "cluster": {"server": self.url}}],
            "users": [{"name": "u", "user": {"token": "t0ken"}}],
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        }
        path.write_text(yaml.safe_dump(config))
        return Connection(server=self.url, context="c", files=(path,), context_name="c")

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        app = web.Application()
        app.router.add_get("/k8s/api/v1/namespaces/{namespace}/pods/{pod}/exec", self._exec)
        runner = web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}/k8s"
        self._started.set()
        await self._stop.wait()
        await runner.cleanup()

    async def _exec(self, request: web.Request) -> web.StreamResponse:
        protocols = request.headers.get("Sec-WebSocket-Protocol", "")
        self.asked.append((request.path, protocols, request.headers.get("Authorization", "")))
        self.containers.append(request.query.get("container", ""))
        if self.refusal is not None:
            return web.json_response(self.refusal[1], status=self.refusal[0])
        if PROTOCOL not in [word.strip() for word in protocols.split(",")]:
            return web.Response(status=403, text="unable to upgrade: no protocol in common")
        socket = web.WebSocketResponse(protocols=(PROTOCOL,))
        await socket.prepare(request)
        process = await asyncio.create_subprocess_exec(
            *request.query.getall("command"),
            stdin=asyncio.subprocess.PIPE if request.query.get("stdin") == "true" else None,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            start_new_session=True,
            env={**os.environ, **({"PATH": self.path} if self.path else {})},
        )
        feeding = asyncio.create_task(self._feed(socket, process))
        try:
            await asyncio.gather(self._pump(process.stdout, socket, 1), self._pump(process.stderr, socket, 2))
            code = await process.wait()
            if not socket.closed:
                await socket.send_bytes(b"\x03" + (self.status or _status(code)))
        except ConnectionError:
            pass
        finally:
            feeding.cancel()
            await asyncio.gather(feeding, return_exceptions=True)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
            await socket.close()
        return socket

    async def _feed(self, socket: web.WebSocketResponse, process: asyncio.subprocess.Process) -> None:
        """Input of the program; its end is the end of the connection, as in a kubelet."""
        received = 0
        async for message in socket:
            assert message.type == WSMsgType.BINARY
            assert message.data[0] == 0
            if process.stdin is None:
                continue
            with contextlib.suppress(ConnectionError):
                process.stdin.write(message.data[1:])
                await process.stdin.drain()
            received += len(message.data) - 1
            if self.cut_after is not None and received > self.cut_after:
                assert socket._req is not None
                assert socket._req.transport is not None
                socket._req.transport.abort()
                break
        if process.stdin is not None:
            process.stdin.close()

    async def _pump(
        self, source: asyncio.StreamReader | None, socket: web.WebSocketResponse, channel: int
    ) -> None:
        assert source is not None
        while data := await source.read(32 << 10):
            if not socket.closed:
                await socket.send_bytes(bytes([channel]) + data)


def _status(code: int) -> bytes:
    if code == 0:
        return json.dumps({"metadata": {}, "status": "Success"}).encode()
    causes = [{"reason": "ExitCode", "message": str(code)}]
    return json.dumps(
        {
            "metadata": {},
            "status": "Failure",
            "message": f"command terminated with non-zero exit code: exit status {code}",
            "reason": "NonZeroExitCode",
            "details": {"causes": causes},
        }
    ).encode()


@contextlib.contextmanager
def exec_server() -> Iterator[ExecServer]:
    server = ExecServer()
    server.start()
    try:
        yield server
    finally:
        server.close()
