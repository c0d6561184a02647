from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from chalkcompute.errors import LocalClusterError
from chalkcompute.local import lifecycle
from chalkcompute.local.ports_in_use import PREFERRED, choose_ports, is_free
from chalkcompute.local.state import (
    ProcessIdentity,
    StateFolder,
    identify,
    read_json,
    write_atomically,
)
from tests.unit.reserved_port import reserved_port

ROOT = Path(__file__).parents[3]


@pytest.fixture
def folder(tmp_path: Path) -> StateFolder:
    made = StateFolder(tmp_path / "state")
    made.prepare()
    return made


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"HOME": "/home/a"}, "/home/a/.chalk/local"),
        ({"HOME": "/home/a", "CHALK_LOCAL_HOME": ""}, "/home/a/.chalk/local"),
        ({"HOME": "/home/a", "CHALK_LOCAL_HOME": "~/x"}, "/home/a/x"),
        ({"HOME": "/home/a", "CHALK_LOCAL_HOME": "/srv/x/../y"}, "/srv/y"),
    ],
)
def test_which_folder(environ: dict[str, str], expected: str) -> None:
    assert lifecycle.state_folder(environ=environ) == Path(expected)
    assert lifecycle.kubeconfig_path(environ=environ) == Path(expected) / "kubeconfig"
    assert lifecycle.daemon_log_path(environ=environ) == Path(expected) / "logs" / "daemon.log"


def test_a_relative_folder_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert lifecycle.state_folder(Path("x")) == tmp_path / "x"


def test_only_its_owner_can_read_it(folder: StateFolder) -> None:
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700
    folder.path.chmod(0o755)
    folder.prepare()
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o700


def test_a_read_only_folder_stays_so(folder: StateFolder) -> None:
    folder.path.chmod(0o500)
    if os.geteuid() == 0:  # root may write all the same, but the mode is not ours to change
        folder.prepare()
    else:
        with pytest.raises(LocalClusterError, match="cannot be used"):
            folder.prepare()
    assert stat.S_IMODE(folder.path.stat().st_mode) == 0o500
    folder.path.chmod(0o700)


def test_made_by_several_at_once(tmp_path: Path) -> None:
    for number in range(40):
        folder = StateFolder(tmp_path / str(number))
        with ThreadPoolExecutor(4) as pool:
            for made in [pool.submit(folder.prepare) for _ in range(4)]:
                made.result()
        assert folder.exists()


def test_a_reset_between_making_and_locking_is_noticed(folder: StateFolder) -> None:
    with folder.starting(1) as there:
        assert there
        folder.remove()
    with folder.starting(1) as there:
        assert not there


def test_a_file_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.write_text("mine")
    with pytest.raises(LocalClusterError, match=str(path)):
        StateFolder(path).prepare()
    assert path.read_text() == "mine"


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    documents = tmp_path / "documents"
    documents.mkdir(mode=0o755)
    (documents / "thesis.tex").write_text("…")
    mode = documents.stat().st_mode
    with pytest.raises(LocalClusterError, match="not of a local cluster"):
        StateFolder(documents).prepare()
    assert documents.stat().st_mode == mode
    assert [path.name for path in documents.iterdir()] == ["thesis.tex"]


def test_a_folder_of_someone_else(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        os.chown(tmp_path, 65534, 65534)
        path = tmp_path
    else:
        path = Path("/")
    with pytest.raises(LocalClusterError, match="belongs to user id"):
        StateFolder(path).prepare()


def test_a_disk_that_takes_nothing_more(tmp_path: Path) -> None:
    """A limit on the size of files stands in for a full disk: the same write fails."""
    program = """
import resource, signal, sys
from pathlib import Path
from chalkcompute.errors import LocalClusterError
from chalkcompute.local.state import StateFolder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    StateFolder(Path(sys.argv[1])).prepare()
except LocalClusterError as error:
    print(error.message)
"""
    path = tmp_path / "state"
    shown = subprocess.run(
        [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
    ).stdout
    assert str(path) in shown
    assert "cannot be used" in shown
    assert not (path / "run" / "probe").exists()


def test_atomic_write_leaves_nothing_half_done(tmp_path: Path) -> None:
    target = tmp_path / "a" / "x"
    target.parent.mkdir()
    write_atomically(target, "one")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    target.unlink()
    target.mkdir()
    with pytest.raises(OSError, match="directory"):
        write_atomically(target, "two")
    assert [p.name for p in target.parent.iterdir()] == ["x"]


@pytest.mark.parametrize("content", ["", "[]", "{", "1"])
def test_a_damaged_file_reads_as_nothing(tmp_path: Path, content: str) -> None:
    (tmp_path / "x").write_text(content)
    assert read_json(tmp_path / "x") == {}


def test_a_process_is_known_by_more_than_its_pid() -> None:
    ours = identify(os.getpid())
    assert ours is not None
    assert ours.alive()
    assert ProcessIdentity.from_mapping(asdict(ours)) == ours
    assert not replace(ours, started="1").alive()
    assert not replace(ours, boot="another boot").alive()
    assert not replace(ours, started="1").signal(signal.SIGKILL)
    assert ProcessIdentity.from_mapping({"pid": "1"}) is None


def test_a_zombie_is_gone() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    identity = identify(child.pid)
    assert identity is not None
    assert identity.signal(signal.SIGKILL)
    assert identity.wait_gone(30)
    child.communicate()
    assert identify(child.pid) is None


def test_a_name_with_spaces_and_parentheses_does_not_confuse(tmp_path: Path) -> None:
    program = tmp_path / "a) S 1 (b"
    program.symlink_to("/bin/sleep")
    child = subprocess.Popen([str(program), "30"])
    try:
        deadline = time.monotonic() + 30
        while b"a) S" not in Path(f"/proc/{child.pid}/comm").read_bytes():
            assert time.monotonic() < deadline
        ours, theirs = identify(os.getpid()), identify(child.pid)
        assert ours is not None
        assert theirs is not None
        assert theirs.boot == ours.boot
        assert int(theirs.started) >= int(ours.started)
    finally:
        child.kill()
        child.wait()


def test_what_a_dead_daemon_said_is_not_believed(folder: StateFolder) -> None:
    ours = identify(os.getpid())
    assert ours is not None
    folder.announce(ours, {"ready": True, "started_at": 0})
    assert folder.running() is not None
    folder.announce(replace(ours, started="1"), {"ready": True, "started_at": 0})
    assert folder.running() is None
    assert not lifecycle.status(folder.path).running


def test_commands_take_turns(folder: StateFolder) -> None:
    inside: list[int] = []
    most: list[int] = []

    def turn() -> None:
        with folder.starting(20):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.01)
            inside.pop()

    threads = [threading.Thread(target=turn) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 8


def test_waiting_for_a_turn_ends(folder: StateFolder) -> None:
    with (
        folder.starting(1),
        pytest.raises(LocalClusterError, match="another `chalk local` command"),
        folder.starting(0.05),
    ):
        pytest.fail("both are in")


def test_one_daemon_a_folder(folder: StateFolder) -> None:
    program = """
import sys
from pathlib import Path
from chalkcompute.local.state import StateFolder
StateFolder(Path(sys.argv[1])).claim()
print("claimed", flush=True)
input()
"""
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(folder.path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "claimed\n"
        with pytest.raises(LocalClusterError, match="another daemon"):
            folder.claim(0.05)
    finally:
        holder.communicate("\n")
    os.close(folder.claim(30))


def test_remove_takes_what_is_ours(folder: StateFolder) -> None:
    locked = folder.runtime / "layer" / "work"
    locked.mkdir(parents=True)
    (locked / "file").touch()
    locked.chmod(0)
    (folder.runtime / "link").symlink_to("/etc")
    (folder.path / "notes.txt").write_text("the user's own")
    assert folder.remove() == (folder.path / "notes.txt",)
    (folder.path / "notes.txt").unlink()
    folder.prepare()
    assert folder.remove() == ()
    assert not folder.path.exists()
    assert Path("/etc/passwd").exists()


def test_reset_of_a_folder_that_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("…")
    with pytest.raises(LocalClusterError, match="nothing was removed"):
        lifecycle.reset(tmp_path)
    assert (tmp_path / "thesis.tex").exists()
    assert not lifecycle.reset(tmp_path / "absent")


def test_down_of_what_is_not_there(tmp_path: Path) -> None:
    assert not lifecycle.down(tmp_path / "absent")
    assert not (tmp_path / "absent").exists()


def hold(port: int = 0) -> socket.socket:
    holder = socket.socket()
    holder.bind(("127.0.0.1", port))
    holder.listen()
    return holder


@pytest.fixture
def preferred(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, int]]:
    """Preferred ports that nobody takes meanwhile, as a cluster of another test does with the real ones."""
    with contextlib.ExitStack() as stack:
        ports = {name: stack.enter_context(reserved_port()) for name in PREFERRED}
        monkeypatch.setattr("chalkcompute.local.ports_in_use.PREFERRED", ports)
        yield ports


@pytest.mark.usefixtures("preferred")
def test_ports_stay(folder: StateFolder) -> None:
    first = choose_ports(folder, {})
    assert choose_ports(folder, {}) == first
    assert len({first.api, first.https, first.http, first.registry}) == 4


def test_a_remembered_port_that_was_taken_is_told(folder: StateFolder) -> None:
    with hold() as holder:
        taken = holder.getsockname()[1]
        write_atomically(folder.ports, f'{{"https_port": {taken}}}')
        chosen = choose_ports(folder, {})
    assert chosen.https != taken
    assert str(taken) in chosen.notices[0]


def test_a_port_that_was_asked_for_is_taken(folder: StateFolder) -> None:
    with hold() as holder:
        taken = holder.getsockname()[1]
        assert not is_free(taken)
        with pytest.raises(LocalClusterError, match=f"port {taken} for the gateway") as raised:
            choose_ports(folder, {"https_port": taken})
    assert raised.value.hint is not None
    assert "--https-port" in raised.value.hint


@pytest.mark.parametrize("port", [0, -1, 65536])
def test_what_is_no_port(folder: StateFolder, port: int) -> None:
    with pytest.raises(LocalClusterError, match="not a port"):
        choose_ports(folder, {"api_port": port})


def test_one_port_cannot_be_two(folder: StateFolder) -> None:
    with reserved_port() as free, pytest.raises(LocalClusterError, match="cannot be both"):
        choose_ports(folder, {"https_port": free, "http_port": free})


def test_what_was_asked_for_goes_before_what_is_preferred(
    folder: StateFolder, preferred: dict[str, int]
) -> None:
    wanted = preferred["api_port"]
    chosen = choose_ports(folder, {"http_port": wanted})
    assert chosen.http == wanted
    assert chosen.api != wanted


@pytest.mark.parametrize(
    "content", ['{"api_port": 0}', '{"api_port": 99999}', '{"api_port": "x"}', "nonsense"]
)
def test_a_damaged_memory_of_ports_is_no_harm(folder: StateFolder, content: str) -> None:
    folder.ports.write_text(content)
    assert 1 <= choose_ports(folder, {}).api <= 65535


def test_whatever_the_extra_installs_is_missed_by_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Or a clone that was updated and not installed again gets a daemon that ends at once."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    extra = settings["project"]["optional-dependencies"]["local"]
    packages = {re.split(r"[<>=!~;\[ ]", requirement, maxsplit=1)[0] for requirement in extra}
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(LocalClusterError) as caught:
        lifecycle.up(tmp_path / "state")
    assert set(re.findall(r"`([^`]+)`", caught.value.message)) == packages
    assert not (tmp_path / "state").exists()
