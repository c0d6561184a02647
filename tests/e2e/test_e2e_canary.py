"""Values that nobody may see, through every command and failure; then all that was written is read."""

from __future__ import annotations

import base64
import json
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.contents import EXAMPLES, objects
from tests.e2e.harness import IMAGE, SERVER, SMALL, Chalk, Kubernetes, kubeconfig_copy

FORMATS = ("table", "wide", "json", "yaml", "name", "url")

PROGRAM = """
import contextlib, logging, os, pickle, sys, traceback

logging.basicConfig(level=logging.DEBUG, stream=sys.stderr)
from chalkcompute import ChalkClient, Image, ScalingGroup, ScalingGroupSpec, Secret

client = ChalkClient()
group = None

def kinds(*names):
    return [Secret.from_env(name) for name in names]

def deploy(said=print, **options):
    global group
    group = ScalingGroup(client=client, port=8000, **{
        "image": os.environ["IMAGE"], "name": "by-python", "entrypoint": SERVER, **SMALL, **options
    })
    print(repr(group))
    with contextlib.suppress(Exception):  # connected, it cannot be pickled at all
        print(pickle.dumps(group))
    group.deploy(timeout=5, on_progress=lambda step: print(repr(step)))
    print(repr(group.info), group.info.to_dict(), repr(group.refresh()))

ways = [
    dict(secrets=[*kinds("CANARY_A"), Secret.from_dotenv("values.env"), Secret.from_kubernetes("theirs")]),
    dict(env={"A": Secret.from_env("CANARY_A"), "B": Secret.from_kubernetes("theirs", "THEIR_KEY")}),
    dict(secrets=kinds("CANARY_A"), env={"CANARY_A": "plain"}),
    dict(secrets=kinds("CANARY_A", "UNSET_VARIABLE")),
    dict(secrets=[os.environ["CANARY_A"]]),
    dict(secrets=os.environ["CANARY_A"]),
    dict(secrets=[*kinds("CANARY_A"), Secret.from_env("CANARY_B", alias="CANARY_A")]),
    dict(secrets=[Secret.from_dotenv("broken.env")]),
    dict(secrets=kinds("CANARY_A"), volumes=[("no-such-volume", "/data")]),
    dict(secrets=kinds("CANARY_A"), image="registry.invalid/none:v1", name="never-pulled"),
    dict(secrets=kinds("CANARY_A"), image=Image.base("registry.invalid/none:v1").pip_install(["flask"])),
    dict(secrets=kinds("CANARY_A"), entrypoint=["python", "-c", "raise SystemExit('no')"], name="crashes"),
]
for way in ways:
    try:
        deploy(**way)
    except Exception as error:
        traceback.print_exc()
        print(repr(error), vars(error))
print(client.list_scaling_groups(include_deleted=True), client)
content = client.read_secrets(kinds("CANARY_A"))
print(content, client.render_manifests(ScalingGroupSpec(name="x", image="a:1"), content=content))
for name in ("by-python", "never-pulled", "crashes"):
    with contextlib.suppress(Exception):
        print(client.delete_scaling_group(name))
"""


class Watch:
    """Command lines of every process of this machine, looked at all the time."""

    def __init__(self) -> None:
        self.seen: set[bytes] = set()
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._end.wait(0.1):
            for path in Path("/proc").glob("[0-9]*/cmdline"):
                try:
                    self.seen.add(path.read_bytes())
                except OSError:
                    continue


class Canaries:
    """Random values, and every form in which they could be seen."""

    def __init__(self) -> None:
        self.values = {name: f"canary{secrets.token_hex(12)}" for name in ("A", "B", "DOT", "FILE", "THEIRS")}

    def __getitem__(self, name: str) -> str:
        return self.values[name]

    def traces(self) -> list[bytes]:
        found = []
        for value in self.values.values():
            plain = value.encode()
            # The middle of it in base64, wherever in a text it begins.
            shifted = [base64.b64encode(b"x" * shift + plain)[4:-4] for shift in range(3)]
            found += [plain, plain.hex().encode(), plain[::-1], *shifted]
        return found

    def in_(self, data: bytes | str) -> str | None:
        """Where in it one is, or None."""
        raw = data.encode() if isinstance(data, str) else data
        for trace in self.traces():
            at = raw.find(trace)
            if at >= 0:
                return repr(raw[max(0, at - 200) : at] + b"<here>")
        return None


@pytest.fixture
def canaries() -> Canaries:
    return Canaries()


@pytest.fixture
def folder(tmp_path: Path, canaries: Canaries) -> Path:
    """A working folder with settings, a dotenv file, one that is broken, and an image that needs a build."""
    (tmp_path / ".env").write_text(f"CANARY_FILE={canaries['FILE']}\n")
    (tmp_path / "values.env").write_text(f"CANARY_DOT={canaries['DOT']}\n")
    (tmp_path / "broken.env").write_text(f"GOOD=1\n{canaries['DOT']}\n")
    settings = f"SERVER = {SERVER!r}\nSMALL = {SMALL!r}\n"
    (tmp_path / "program.py").write_text(settings + PROGRAM)
    return tmp_path


def walk(home: Path) -> Iterator[Path]:
    """Every file that was written, but for the store, what volumes hold, and the replicas' own insides."""
    local = home / "local"
    aside = {local / name for name in ("store.db", "store.db-wal", "store.db-shm", "volumes", "pods")}
    todo = [home]
    while todo:
        try:
            paths = list(todo.pop().iterdir())
        except FileNotFoundError:  # of a replica of the test before, which goes meanwhile
            continue
        for path in paths:
            if path in aside or path.is_symlink():
                continue
            if path.is_dir():
                todo.append(path)
            elif path.is_file():
                yield path


class Deployer:
    """Runs commands with the canaries in their environment and in the files of their working folder."""

    def __init__(self, chalk: Chalk, folder: Path, canaries: Canaries, look: Callable[[], None]) -> None:
        self.chalk = chalk
        self.look = look
        self.folder = folder
        self.env = {
            "CANARY_A": canaries["A"],
            "CANARY_B": canaries["B"],
            "CHALK_LOCAL_HOME": str(chalk.home / "local"),
            "IMAGE": IMAGE,
        }
        self.flags = ["--secret=CANARY_A", "--secret=OTHER=CANARY_B", "--secret=CANARY_FILE"]

    def run(self, *args: str, code: int | None = 0, **more: str) -> None:
        self.chalk(*args, code=code, env={**self.env, **more}, cwd=self.folder)

    def create(self, *args: str, name: str = "web", code: int | None = 0, **more: str) -> None:
        small = [f"--{key}={SMALL[key]}" for key in ("cpu", "memory")] + ["--shutdown-delay=1"]
        common = [f"--name={name}", f"--image={IMAGE}", "--port=8000", f"--entrypoint={json.dumps(SERVER)}"]
        self.run("scaling-group", "create", *common, *small, *self.flags, *args, code=code, **more)


def every_format(deployer: Deployer, real: bool) -> None:
    deployer.create("--dry-run", "-v")
    deployer.create("-v")
    for number, form in enumerate(FORMATS):
        deployer.create("-o", form, "-v", f"--env=NUMBER={number}", "--no-wait")
    deployer.create("--dry-run", "-o", "json", "--secret=MORE=CANARY_A")
    deployer.create("--secret=MORE=CANARY_A", "-q")
    for form in ("yaml", "json"):
        image = f"--image={IMAGE}"
        deployer.run("scaling-group", "manifests", "web", image, *deployer.flags, "-v", "-o", form)
    for form in FORMATS:
        deployer.run("scaling-group", "get", "web", "-o", form, "-v")
    deployer.look()
    deployer.run("scaling-group", "delete", "web", "-v", "-o", "json")
    for form in FORMATS:
        deployer.run("scaling-group", "list", "--all", "-o", form, "-v")


def failures(deployer: Deployer, real: bool) -> None:
    away = kubeconfig_copy(
        deployer.chalk.kubeconfig,
        deployer.folder,
        lambda config: config["clusters"][0]["cluster"].update(server="https://127.0.0.1:9"),
    )
    deployer.create("--no-wait")
    for traced in ("", "1"):
        for flags in (
            ["--env=CANARY_A=plain"],
            ["--secret=UNSET_VARIABLE"],
            ["--secret=CANARY_A=CANARY_B"],
            ["--volume=none:/data"],
            ["--gateway=nowhere/none"],
            ["--no-update"],
            ["--image=none.py:image"],
            [f"--kubeconfig={away}"],
        ):
            deployer.create("-v", *flags, code=None, CHALK_TRACEBACK=traced)
    for form in ("table", "json"):
        crash = "--entrypoint=python,-c,raise SystemExit(3)"
        deployer.create("-v", "-o", form, crash, "--timeout=4", name="ends", code=None)
        none = "--image=registry.invalid/none:v1"
        deployer.create("-v", "-o", form, none, "--timeout=2", name="no-image", code=None)
    deployer.run("scaling-group", "list", "-o", "json")
    deployer.look()
    for name in ("no-image", "ends"):
        deployer.run("scaling-group", "delete", name, "-v")


def the_sdk(deployer: Deployer, real: bool) -> None:
    env = {**deployer.env, "CHALK_TRACEBACK": "1"}
    deployer.chalk.python(deployer.folder / "program.py", env=env)


def a_build(deployer: Deployer, real: bool) -> None:
    if real:
        pytest.skip("where it can be pushed to, the tests of images say")
    image = f"--image={EXAMPLES / 'hello' / 'service.py'}:image"
    deployer.run("scaling-group", "create", "built", image, *deployer.flags, "-v")
    deployer.run("local", "status", "-o", "json")
    deployer.run("local", "logs", "-v")
    deployer.look()
    deployer.run("scaling-group", "delete", "built", "-v")


@pytest.mark.parametrize("act", [every_format, failures, the_sdk, a_build])
def test_nobody_sees_a_value(
    chalk: Chalk,
    kubernetes: Kubernetes,
    namespace: str,
    canaries: Canaries,
    folder: Path,
    home: Path,
    real: bool,
    act: Callable[[Deployer, bool], None],
) -> None:
    secret = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": "theirs"},
        "data": {"THEIR_KEY": base64.b64encode(canaries["THEIRS"].encode()).decode()},
    }
    status, body = kubernetes.request("post", f"/api/v1/namespaces/{namespace}/secrets", secret)
    assert status == 201, body

    def look() -> None:
        read_the_cluster(kubernetes, namespace, canaries)

    with Watch() as watch:
        act(Deployer(chalk, folder, canaries, look), real)
    look()
    for outcome in chalk.transcript:
        assert canaries.in_(str(outcome)) is None, (outcome.args, canaries.in_(str(outcome)))
    for line in watch.seen:
        assert canaries.in_(line) is None, line
    if not real:
        read_the_machine(home, canaries)
    # The search finds what is there.
    assert canaries.in_(json.dumps(secret))
    assert any(b"chalk" in line or b"program.py" in line for line in watch.seen)


def read_the_cluster(kubernetes: Kubernetes, namespace: str, canaries: Canaries) -> None:
    """All objects, but for the `data` of Secrets, which is where values belong."""
    found = objects(kubernetes, namespace)
    assert any(name.startswith("secrets/") and obj.get("data") for name, obj in found.items())
    extra = ("events", "endpoints", "replicationcontrollers", "serviceaccounts")
    for plural in extra:
        found |= {
            f"{plural}/{o['metadata']['name']}": o
            for o in kubernetes.items(f"/api/v1/namespaces/{namespace}/{plural}")
        }
    for path in (
        f"/apis/events.k8s.io/v1/namespaces/{namespace}/events",
        f"/apis/discovery.k8s.io/v1/namespaces/{namespace}/endpointslices",
        f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases",
        "/api/v1/nodes",
    ):
        found |= {f"{path}/{o['metadata']['name']}": o for o in kubernetes.items(path)}
    found["namespace"] = kubernetes.get(f"/api/v1/namespaces/{namespace}")
    for name, obj in found.items():
        shown = {key: value for key, value in obj.items() if key != "data" or not name.startswith("secrets/")}
        where = canaries.in_(json.dumps(shown, ensure_ascii=False))
        assert where is None, (name, where)


def read_the_machine(home: Path, canaries: Canaries) -> None:
    """Logs, images, caches and all else below the home folder; in the store, only Secrets have values."""
    looked_at = 0
    for path in walk(home):
        looked_at += 1
        try:
            where = canaries.in_(path.read_bytes())
        except FileNotFoundError:  # replaced or removed by the daemon, which goes on
            continue
        assert where is None, (path, where)
    assert looked_at > 10
    assert "daemon.log" in {path.name for path in walk(home)}
    with sqlite3.connect(f"file:{home / 'local' / 'store.db'}?mode=ro", uri=True) as store:
        for kind, name, body in store.execute("select kind, name, body from objects"):
            assert kind == "Secret" or canaries.in_(body) is None, (kind, name)
