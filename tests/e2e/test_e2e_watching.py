"""What people see of scaling: `get`, `top`, `list --watch`, verdicts on GPUs and slow starts."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import selectors
import signal
import socket
import struct
import subprocess
import termios
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.e2e.harness import CHALK, Chalk, Kubernetes, eventually, kubeconfig_copy

CPU = "cpu_utilization_percentage"
RANGE = ("--min-replicas=1", "--max-replicas=3", "--target-cpu=100")
LINE = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ (\S+) (\w+) ready=(\d+)/(\d+) range=(\d+)-(\d+) cpu=\S+ ")


def measures(kubernetes: Kubernetes) -> bool:
    return kubernetes.serves("metrics.k8s.io/v1beta1", "pods")


def test_get_shows_the_autoscaler_at_work(chalk: Chalk, kubernetes: Kubernetes) -> None:
    chalk.serve("range", *RANGE)

    def looked() -> Any:
        found = chalk.sg("get", "range", "-o", "json").json()["autoscaler"]
        return found if found["current"].get(CPU) is not None or found["blind"] else None

    found = eventually(looked, "the autoscaler has measured, or says why it cannot", timeout=300)
    assert (found["kind"], found["target"]) == ("HorizontalPodAutoscaler", {CPU: 100.0})
    if not measures(kubernetes):
        assert "metrics-server" in found["blind"]
        return
    assert found["blind"] is None
    assert found["desired_replicas"] >= 1
    assert {"AbleToScale", "ScalingActive"} <= {c["type"] for c in found["conditions"]}
    table = chalk.sg("get", "range").out
    assert re.search(r"^Autoscaler: +HorizontalPodAutoscaler, has \d, wants \d$", table, re.MULTILINE)
    assert re.search(r"^Load: +CPU \d+% of the request, target 100%$", table, re.MULTILINE)
    status = chalk.sg("get", "range", "-o", "json").json()["status"]
    assert status == "Available"


def test_a_fixed_count_has_no_autoscaler(chalk: Chalk) -> None:
    chalk.serve("fixed")
    assert chalk.sg("get", "fixed", "-o", "json").json()["autoscaler"] is None
    assert "Autoscaler" not in chalk.sg("get", "fixed").out


def test_top_in_a_pipe(chalk: Chalk, kubernetes: Kubernetes, client: Any) -> None:
    chalk.serve("busy", *RANGE)
    looked = chalk.sg("top", "--count=2", "--interval=1s")
    lines = [match for line in looked.out.splitlines() if (match := LINE.match(line))]
    assert [match[1] for match in lines] == ["busy", "busy"]
    assert (lines[0][5], lines[0][6]) == ("1", "3")
    looked = chalk.sg("top", "busy", "--count=2", "--interval=1s", "-o", "json")
    reports = [json.loads(line) for line in looked.out.splitlines()]
    assert [len(report["scaling_groups"]) for report in reports] == [1, 1]
    (group,) = reports[1]["scaling_groups"]
    assert [replica["state"] for replica in group["replica_usage"]][:1] == ["Running"]
    if not measures(kubernetes):
        assert any("metrics.k8s.io" in text for text in reports[0]["missing"])
        return

    def measured() -> Any:
        (group,) = client.scaling_group_usage("busy").groups
        return group if group.replica_usage[0].cpu_cores is not None else None

    group = eventually(measured, "the replica is measured", timeout=300)
    assert group.memory_bytes > 0
    assert group.cpu_utilization_percentage is not None


def test_top_counts_requests_where_the_gateway_does(chalk: Chalk, client: Any, real: bool) -> None:
    if real:
        pytest.skip("other clusters count requests by HTTPRoute only with an adapter of their own")
    chalk.serve("asked")

    def counted() -> Any:
        client.call("asked", "/", method="GET")
        traffic = client.scaling_group_usage("asked").groups[0].traffic
        return traffic if traffic is not None and traffic.p99_seconds is not None else None

    traffic = eventually(counted, "requests are counted")
    assert traffic.requests_per_second > 0
    assert 0 < traffic.p50_seconds <= traffic.p99_seconds
    assert "rps=-" not in chalk.sg("top", "asked", "--count=1").out


def test_top_of_nobody(chalk: Chalk) -> None:
    assert "no scaling groups here" in chalk.sg("top", "--count=1").err
    assert "there is no scaling group `ghost`" in chalk.sg("top", "ghost", "--count=1", code=3).err


def test_a_reader_that_goes_away_ends_it(chalk: Chalk) -> None:
    chalk.serve("read")
    process = chalk.start("scaling-group", "top", "--interval=1s")
    assert process.stdout is not None
    assert LINE.match(process.stdout.readline())
    process.stdout.close()
    process.stdout = None
    outcome = chalk.end(process, "scaling-group", "top", code=141)
    assert "Traceback" not in outcome.err


def lines_of(process: subprocess.Popen[str]) -> Iterator[str]:
    assert process.stdout is not None
    yield from process.stdout


def test_list_watch_tells_each_change(chalk: Chalk) -> None:
    chalk.serve("watched", "--replicas=1")
    process = chalk.start("scaling-group", "list", "--watch", "-o", "json")
    try:
        seen = (json.loads(line) for line in lines_of(process))
        assert (first := next(seen))["name"] == "watched"
        assert first["replicas"]["desired"] == 1
        chalk.serve("watched", "--replicas=2")
        grown = next(g for g in seen if g["replicas"]["ready"] == 2 and g["status"] == "Available")
        assert grown["id"] == first["id"]
        chalk.sg("delete", "watched")
        gone = next(g for g in seen if g["status"] == "Deleted")
        assert (gone["id"], gone["deleted_at"] is None) == (first["id"], False)
    finally:
        process.send_signal(signal.SIGINT)
        process.stdout = None
        outcome = chalk.end(process, "scaling-group", "list", "--watch", code=0)
    assert outcome.err == ""


class Terminal:
    """`chalk` on a terminal of its own; the whole of what it drew is kept."""

    def __init__(self, chalk: Chalk, *args: str, columns: int, env: dict[str, str]) -> None:
        self.main, side = pty.openpty()
        fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.process = subprocess.Popen(
            [str(CHALK), *args],
            stdin=side,
            stdout=side,
            stderr=side,
            cwd=chalk.home,
            env={**chalk.environment(env), "TERM": "xterm-256color", "COLUMNS": "", "LINES": ""},
            start_new_session=True,
        )
        os.close(side)
        self.text = ""

    def read_until(self, wanted: str, timeout: float = 60.0) -> None:
        deadline = time.monotonic() + timeout
        with selectors.DefaultSelector() as selector:
            selector.register(self.main, selectors.EVENT_READ)
            while wanted not in self.text and time.monotonic() < deadline:
                if selector.select(0.5):
                    self.text += os.read(self.main, 65536).decode("utf-8", "replace")
        assert wanted in self.text, self.text

    def end(self) -> int:
        """Ctrl-C, and all that is still said."""
        self.process.send_signal(signal.SIGINT)
        patience = threading.Timer(60, self.process.kill)
        patience.start()
        with contextlib.suppress(OSError):  # EIO: nobody has the other side any more
            while chunk := os.read(self.main, 65536):
                self.text += chunk.decode("utf-8", "replace")
        os.close(self.main)
        code = self.process.wait(60)
        patience.cancel()
        return code


ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


@pytest.mark.parametrize(("columns", "colour"), [(80, False), (120, True)])
def test_a_terminal_is_kept_current_and_the_last_picture_stays(
    chalk: Chalk, columns: int, colour: bool
) -> None:
    chalk.serve("shown", *RANGE)
    quiet = {"CI": "", "NO_COLOR": "" if colour else "1"}
    for args in (("top", "--interval=1s"), ("top", "shown", "--interval=1s"), ("list", "--watch")):
        terminal = Terminal(chalk, "scaling-group", *args, columns=columns, env=quiet)
        try:
            terminal.read_until("Available")
        finally:
            code = terminal.end()
        assert code == 0, terminal.text
        assert "\x1b[?1049h" in terminal.text, "the screen was switched"
        picture = terminal.text.rpartition("\x1b[?1049l")[2]
        assert "shown" in picture, "and what was there last stands on the usual one"
        lines = ESCAPE.sub("", picture).replace("\r", "").splitlines()
        assert max(map(len, lines)) <= columns
        coloured = re.search(r"\x1b\[[0-9;]*3[0-7]m", terminal.text)
        assert (coloured is not None) == (colour and args[0] == "top")


class Forwarder:
    """A TCP port that leads to the API server, while it is open."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.open = True
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.pairs: list[socket.socket] = []
        self.lock = threading.Lock()
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self.listener.accept()
                with self.lock:  # whom `cut` does not see finds it closed
                    if not self.open:
                        client.close()
                        continue
                    server = socket.create_connection(self.target)
                    self.pairs += [client, server]
                for source, sink in ((client, server), (server, client)):
                    threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def cut(self) -> None:
        with self.lock:
            self.open = False
            for end in self.pairs:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self.cut()
        self.listener.close()
        for end in self.pairs:
            end.close()


def test_a_moment_without_the_api_server_is_survived(chalk: Chalk, tmp_path: Path, real: bool) -> None:
    if real:
        pytest.skip("its certificate is for another address than that of a forwarder")
    chalk.serve("steady")
    found: list[str] = []
    forwarders: list[Forwarder] = []

    def through(config: dict[str, Any]) -> None:
        for entry in config["clusters"]:
            url = urlsplit(entry["cluster"]["server"])
            forwarders.append(Forwarder(url.hostname or "127.0.0.1", url.port or 443))
            entry["cluster"]["server"] = f"https://127.0.0.1:{forwarders[-1].port}"

    path = kubeconfig_copy(chalk.kubeconfig, tmp_path, through)
    process = chalk.start(
        "scaling-group", "top", "--interval=1s", "-o", "json", env={"KUBECONFIG": str(path)}
    )
    try:
        seen = (json.loads(line) for line in lines_of(process))
        assert "scaling_groups" in next(seen)
        for forwarder in forwarders:
            forwarder.cut()
        error = next(report for report in seen if "error" in report)["error"]
        assert error["type"] in ("UnreachableError", "ServerBusyError")
        for forwarder in forwarders:
            forwarder.open = True
        found += [g["name"] for g in next(r for r in seen if "scaling_groups" in r)["scaling_groups"]]
    finally:
        process.send_signal(signal.SIGINT)
        process.stdout = None
        chalk.end(process, "scaling-group", "top", code=0)
        for forwarder in forwarders:
            forwarder.close()
    assert found == ["steady"]


def test_gpus_that_no_node_has(chalk: Chalk, kubernetes: Kubernetes) -> None:
    status, nodes = kubernetes.request("get", "/api/v1/nodes")
    allocatable = [n["status"].get("allocatable", {}) for n in nodes["items"]] if status == 200 else []
    with_gpus = [found for found in allocatable if int(found.get("nvidia.com/gpu", "0"))]
    chalk.serve("gpus", "--gpu=no-such-gpu:99", "--no-wait")

    def verdict() -> Any:
        found = chalk.sg("get", "gpus", "-o", "json").json()["verdict"]
        return found if found and found["cause"] == "Unschedulable" else None

    found = eventually(verdict, "no node takes the replica")
    assert found["terminal"] is False
    if status == 403:
        assert "nodes may not be read" in found["next"]
    elif with_gpus:
        assert "no-such-gpu" in found["message"]
        assert "--gpu=" in found["next"]
    else:
        assert re.search(r"has (no|a) GPU|offers", found["message"])


def test_a_start_that_takes_too_long(chalk: Chalk) -> None:
    never = json.dumps(["python", "-c", "import time; time.sleep(3600)"])
    chalk.serve("slow", f"--entrypoint={never}", "--startup-timeout=5", "--no-wait")

    def verdict() -> Any:
        found = chalk.sg("get", "slow", "-o", "json").json()["verdict"]
        return found if found and "did not start within the 5 s" in found["message"] else None

    found = eventually(verdict, "the verdict names the startup timeout")
    assert found["cause"] == "NotListening"
    assert "`--startup-timeout`" in found["next"]
