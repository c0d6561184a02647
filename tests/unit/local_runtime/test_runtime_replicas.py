"""Replicas in every tier that this machine allows."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from chalkcompute.local.ports import Mount, Replica, Runtime, StartError
from chalkcompute.local.runtime import create_runtime
from tests.unit.local_runtime.conftest import RunSandboxed, Sandbox, fetch

SERVER = """
import http.server, socket, sys
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(sys.argv[3].encode())
    def log_message(self, *args): pass
class Server(http.server.HTTPServer):
    address_family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
Server((sys.argv[1], int(sys.argv[2])), Handler).serve_forever()
"""


def server(host: str, port: int, answer: str) -> tuple[str, ...]:
    return ("python", "-c", SERVER, host, str(port), answer)


def alive(marker: str) -> list[int]:
    """Pids whose command line holds a marker."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                if marker.encode() in (entry / "cmdline").read_bytes():
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def gone(marker: str) -> bool:
    """Whether no such process is left, given some time to go."""
    deadline = time.monotonic() + 30
    while alive(marker) and time.monotonic() < deadline:
        time.sleep(0.02)
    return not alive(marker)


def test_the_runtime_is_one(tmp_path: Path) -> None:
    runtime: Runtime = create_runtime(tmp_path, tier="plain")
    assert runtime.tier == "plain"
    assert any("security boundary" in sentence for sentence in runtime.limitations)


def test_an_unknown_tier_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="`quantum` is none of `auto`"):
        create_runtime(tmp_path, tier="quantum")


def test_leftovers_of_a_killed_daemon_are_removed(tmp_path: Path) -> None:
    leftover = tmp_path / "runtime" / "replica-abc"
    leftover.mkdir(parents=True)
    create_runtime(tmp_path, tier="plain")
    assert not leftover.exists()


@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1", "::"])
def test_two_replicas_keep_the_same_port(
    tier: str, host: str, free_port: int, sandboxed: RunSandboxed
) -> None:
    async def scenario(box: Sandbox) -> None:
        for pod in ("one", "two"):
            await box.runtime.start(box.spec(*server(host, free_port, pod), pod=pod))
        assert box.address("one") != box.address("two")
        for pod in ("one", "two"):
            assert (await fetch(box.address(pod), free_port)).endswith(pod.encode())
        # Nothing listens where others would find it.
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", free_port)

    sandboxed(tier, scenario)


def test_a_program_reaches_itself_on_localhost(tier: str, free_port: int, sandboxed: RunSandboxed) -> None:
    script = """
import socket, sys
port = int(sys.argv[1])
listener = socket.create_server(("", port))
socket.create_connection(("127.0.0.1", port), timeout=5)
print(listener.accept()[0].getsockname()[0])
"""

    async def scenario(box: Sandbox) -> None:
        ended, output = await box.run("python", "-c", script, str(free_port))
        assert (ended.exit_code, output.strip()) == (0, box.address())

    sandboxed(tier, scenario)


def test_a_server_on_both_families_comes_up(tier: str, free_port: int, sandboxed: RunSandboxed) -> None:
    """asyncio binds 0.0.0.0 and an IPv6-only `::`; the second cannot have the Pod's address."""
    script = """
import asyncio, sys
async def main():
    async def answer(reader, writer):
        await reader.readuntil(b'\\r\\n\\r\\n'); writer.write(b"both"); writer.close()
    server = await asyncio.start_server(answer, None, int(sys.argv[1]))
    await server.serve_forever()
asyncio.run(main())
"""

    async def scenario(box: Sandbox) -> None:
        await box.runtime.start(box.spec("python", "-c", script, str(free_port)))
        assert await fetch(box.address(), free_port) == b"both"

    sandboxed(tier, scenario)


def test_loopback_servers_are_noted(strongest_tier: str, free_port: int, sandboxed: RunSandboxed) -> None:
    async def scenario(box: Sandbox) -> frozenset[int]:
        replica = await box.runtime.start(box.spec(*server("127.0.0.1", free_port, "x")))
        await fetch(box.address(), free_port)
        return replica.loopback_ports

    wanted = frozenset() if strongest_tier == "plain" else frozenset({free_port})
    assert sandboxed(strongest_tier, scenario) == wanted


def test_exit_codes_and_output(tier: str, sandboxed: RunSandboxed) -> None:
    async def scenario(box: Sandbox) -> None:
        ended, output = await box.run("python", "-uc", "import sys; print('out'); sys.exit('err')")
        assert (ended.exit_code, ended.reason, output) == (1, "Error", "out\nerr\n")
        ended, _ = await box.run("true", pod="fine")
        assert (ended.exit_code, ended.reason) == (0, "Completed")
        ended, _ = await box.run("sh", "-c", "kill -SEGV $$", pod="signal")
        assert ended.exit_code == 128 + signal.SIGSEGV

    sandboxed(tier, scenario)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (("nope",), 'exec: "nope": executable file not found in $PATH'),
        (("/no/such/program",), 'exec: "/no/such/program": stat /no/such/program: no such file or directory'),
        (("/etc/passwd",), 'exec: "/etc/passwd": permission denied'),
        (("/etc",), 'exec: "/etc": is a directory'),
    ],
)
def test_start_errors(tier: str, command: tuple[str, ...], message: str, sandboxed: RunSandboxed) -> None:
    async def scenario(box: Sandbox) -> StartError:
        with pytest.raises(StartError) as caught:
            await box.runtime.start(box.spec(*command))
        return caught.value

    error = sandboxed(tier, scenario)
    assert error.exit_code == 128
    assert str(error).endswith(f"unable to start container process: {message}")


def test_the_environment_is_that_of_a_python_image(tier: str, sandboxed: RunSandboxed) -> None:
    script = "import os, sys; print(os.environ['HOSTNAME'], os.environ['LANG'], os.environ['K'], os.getcwd())"

    async def scenario(box: Sandbox) -> None:
        ended, output = await box.run("python3", "-c", script, env={"K": "v w"}, working_dir="/usr")
        assert (ended.exit_code, output) == (0, "web C.UTF-8 v w /usr\n")
        # Neither the daemon's environment nor the packages of its virtual environment.
        _, output = await box.run("python", "-c", "import aiohttp", pod="packages")
        assert "No module named 'aiohttp'" in output
        _, output = await box.run("env", pod="env")
        assert "VIRTUAL_ENV" not in output

    sandboxed(tier, scenario)


def test_the_sandbox_writes_nothing_to_the_host(strongest_tier: str, sandboxed: RunSandboxed) -> None:
    name = f"chalk-test-{os.getpid()}"
    script = (
        f"touch /usr/local/{name} /tmp/{name} /root/{name}; ls -d /usr/local/{name} /tmp/{name} /root/{name}"
    )

    async def scenario(box: Sandbox) -> str:
        _, output = await box.run("sh", "-c", script)
        return output

    output = sandboxed(strongest_tier, scenario)
    if strongest_tier != "plain":
        assert f"/tmp/{name}\n" in output
        assert f"/root/{name}\n" in output
    for folder in ("/usr/local", "/tmp", "/root"):
        assert not os.path.exists(f"{folder}/{name}")  # noqa: PTH110 - /root may not be ours to look into


def test_mounts(strongest_tier: str, tmp_path: Path, sandboxed: RunSandboxed) -> None:
    fixed, shared = tmp_path / "config", tmp_path / "data"
    fixed.mkdir()
    shared.mkdir()
    (fixed / "model.txt").write_text("weights")
    mounts = (
        Mount(fixed, "/etc/model"),
        Mount(shared, "/var/run/data", read_only=False),
        Mount(fixed / "model.txt", "/srv/deep/file.txt"),
    )
    script = (
        "cat /etc/model/model.txt /srv/deep/file.txt; echo back > /var/run/data/answer; "
        "touch /etc/model/x || echo refused"
    )

    async def scenario(box: Sandbox) -> str:
        _, output = await box.run("sh", "-c", script, mounts=mounts)
        return output

    if strongest_tier != "plain":
        output = sandboxed(strongest_tier, scenario)
        assert output.startswith("weightsweights")
        assert output.endswith("refused\n")
        assert (shared / "answer").read_text() == "back\n"


def test_without_mounts_paths_are_rewritten(tmp_path: Path, sandboxed: RunSandboxed) -> None:
    (tmp_path / "app.py").write_text("import os; print(open(os.environ['CONFIG']).read())")
    (tmp_path / "config.txt").write_text("settings")
    mounts = (Mount(tmp_path, "/app"),)

    async def scenario(box: Sandbox) -> str:
        _, output = await box.run(
            "python", "/app/app.py", mounts=mounts, env={"CONFIG": "/app/config.txt"}, working_dir="/app"
        )
        return output

    assert sandboxed("plain", scenario) == "settings\n"


def test_stop_is_gentle_then_firm(tier: str, sandboxed: RunSandboxed) -> None:
    polite = "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done"
    stubborn = "trap '' TERM; echo up; while :; do sleep 0.05; done"

    async def scenario(box: Sandbox) -> None:
        for pod, script, code in (("polite", polite, 0), ("stubborn", stubborn, 137)):
            replica: Replica = await box.runtime.start(box.spec("sh", "-c", script, pod=pod))
            while "up" not in box.output(pod):
                await asyncio.sleep(0.01)
            ended = await replica.stop(20 if code == 0 else 0.2)
            assert ended.exit_code == code
            assert ended == await replica.wait()
        assert box.output("polite") == "up\nbye\n"

    sandboxed(tier, scenario)


def test_nothing_outlives_the_program(tier: str, sandboxed: RunSandboxed) -> None:
    """A child in a session of its own goes with the replica."""
    marker = f"chalk-orphan-{os.getpid()}-{tier}"
    script = f"setsid sh -c 'sleep 300; : {marker}' & echo started; exit 4"

    async def scenario(box: Sandbox) -> int:
        ended, _ = await box.run("sh", "-c", script)
        return int(ended.exit_code)

    assert sandboxed(tier, scenario) == 4
    assert alive(marker) == []


def test_usage_counts_the_tree(tier: str, sandboxed: RunSandboxed) -> None:
    script = "python -c 'x = bytearray(60_000_000); print(1, flush=True)\nwhile True: x[0] = 1' & wait"

    async def scenario(box: Sandbox) -> None:
        replica = await box.runtime.start(box.spec("sh", "-c", script))
        while not box.output():
            await asyncio.sleep(0.01)
        before = replica.usage()
        while replica.usage()[0] <= before[0]:
            await asyncio.sleep(0.01)
        assert replica.usage()[1] > 60_000_000

    sandboxed(tier, scenario)


def test_memory_limit(tier: str, sandboxed: RunSandboxed) -> None:
    script = "x = bytearray(100_000_000); import time; time.sleep(300)"

    async def scenario(box: Sandbox) -> tuple[int, str]:
        ended, _ = await box.run("python", "-c", script, memory_limit=64 * 1024 * 1024)
        return ended.exit_code, ended.reason

    assert sandboxed(tier, scenario) == (137, "OOMKilled")


def test_memory_that_workers_share_counts_once(strongest_tier: str, sandboxed: RunSandboxed) -> None:
    script = """
import os, sys, time
shared = b"x" * 50_000_000
for _ in range(4):
    if os.fork() == 0:
        time.sleep(1.5); os._exit(0)
while True:
    try: os.wait()
    except ChildProcessError: break
"""

    async def scenario(box: Sandbox) -> tuple[int, str]:
        ended, _ = await box.run("python", "-c", script, memory_limit=100_000_000)
        return ended.exit_code, ended.reason

    assert sandboxed(strongest_tier, scenario) == (0, "Completed")


PARENT = """
import asyncio, sys
from pathlib import Path
from chalkcompute.local.ports import ReplicaSpec
from chalkcompute.local.runtime import create_runtime

async def main():
    folder, tier, marker = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    runtime = create_runtime(folder, tier=tier)
    script = f"setsid sh -c 'sleep 300; : {marker}' & sleep 300; : {marker}"
    await runtime.start(ReplicaSpec("default", "p", "u" + marker, "app", "python:3",
                                    ("sh", "-c", script), log_path=folder / "0.log"))
    print("up", flush=True)
    await asyncio.sleep(300)

asyncio.run(main())
"""


def test_a_killed_daemon_leaves_no_replica(tier: str, tmp_path: Path) -> None:
    marker = f"chalk-leash-{os.getpid()}-{tier}"
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path), tier, marker],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[3],
    )
    assert parent.stdout is not None
    with parent.stdout:
        assert parent.stdout.readline() == b"up\n"
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    assert gone(marker)
    assert gone(str(tmp_path))


def test_the_default_command_is_the_images(tier: str, sandboxed: RunSandboxed) -> None:
    async def scenario(box: Sandbox) -> int:
        ended, _ = await box.run()  # an interactive Python whose input is at its end
        return int(ended.exit_code)

    assert sandboxed(tier, scenario) == 0


def descriptors(apart_from: Path) -> list[str]:
    """What this process has open, apart from folders that are just being removed, by a thread behind."""
    found = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # that of the listing itself
            found.append(str(entry.readlink()))
    return sorted(name for name in found if not name.startswith(f"{apart_from}/"))


def test_descriptors_do_not_pile_up(strongest_tier: str, sandboxed: RunSandboxed) -> None:
    async def scenario(box: Sandbox) -> tuple[list[str], list[str]]:
        await box.run("true", pod="warm")
        before = descriptors(box.folder)
        for number in range(5):
            await box.run("python", "-c", "pass", pod=f"pod{number}")
            box.runtime.release_address(f"uid-{box.folder}-pod{number}")
        deadline = time.monotonic() + 30  # the last are closed a moment after the replica has ended
        while len(descriptors(box.folder)) > len(before) and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        return before, descriptors(box.folder)

    before, after = sandboxed(strongest_tier, scenario)
    assert len(after) <= len(before), (before, after)
