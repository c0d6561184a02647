"""The public names, what importing them costs, and the object that users hold."""

from __future__ import annotations

import contextlib
import importlib
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

import chalkcompute
from chalkcompute import (
    Action,
    ChalkClient,
    DeleteResult,
    DeployResult,
    Image,
    Progress,
    ReadinessProbe,
    ReplicaCounts,
    ScalingGroup,
    ScalingGroupInfo,
    ScalingGroupSpec,
    Status,
)
from chalkcompute.errors import (
    ConflictError,
    DeployFailedError,
    NotFoundError,
    SpecError,
    UnreachableError,
    WaitTimeoutError,
)
from chalkcompute.settings import Settings
from chalkcompute.types import Cause, Verdict

ROOT = Path(__file__).parents[3]


def python(code: str, *, path: str = "", **environ: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={"PYTHONPATH": f"{path}:{ROOT}" if path else str(ROOT), "HOME": "/nonexistent", **environ},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_public_list_is_sorted_and_whole() -> None:
    assert list(chalkcompute.__all__) == sorted(chalkcompute.__all__)
    for name in chalkcompute.__all__:
        assert getattr(chalkcompute, name) is not None
    assert set(chalkcompute.__all__) <= set(dir(chalkcompute))
    with pytest.raises(AttributeError, match="nonsense"):
        importlib.import_module("chalkcompute").nonsense  # noqa: B018


def test_every_error_that_users_can_catch_is_public() -> None:
    errors = importlib.import_module("chalkcompute.errors")
    inner = {"ObjectConflictError", "ObjectExistsError", "ObjectNotFoundError", "ServerBusyError"}
    assert set(errors.__all__) - inner <= set(chalkcompute.__all__)


@pytest.mark.parametrize(
    "code",
    [
        "import chalkcompute",
        "from chalkcompute import ChalkClient; ChalkClient(); ChalkClient(context='x')",
        "from chalk.client import ChalkClient; ChalkClient()",
        "from chalkcompute import ScalingGroup; ScalingGroup(image='x')",
        "from chalkcompute.service import create, read, delete, wait, call",
    ],
)
def test_nothing_heavy_is_imported(code: str) -> None:
    found = python(f"{code}\nimport sys\nprint(*sorted({{m.split('.')[0] for m in sys.modules}}))").split()
    assert {"kubernetes", "httpx", "urllib3", "yaml", "aiohttp"}.isdisjoint(found)


def test_chalk_shadows_no_other_package_of_that_name(tmp_path: Path) -> None:
    other = tmp_path / "chalk"
    other.mkdir()
    (other / "colours.py").write_text("RED = 1\n")
    code = "import chalk.colours, chalk.client; print(chalk.colours.RED, chalk.client.ChalkClient.__name__)"
    assert python(code, path=str(tmp_path)).split() == ["1", "ChalkClient"]
    (other / "__init__.py").write_text("OWN = 2\n")
    for path in (str(tmp_path), f"{ROOT}:{tmp_path}"):
        assert python("import chalk; print(chalk.OWN)", path=path).split() == ["2"]
    assert not (ROOT / "chalk" / "__init__.py").exists()


def test_both_names_are_one_class() -> None:
    assert importlib.import_module("chalk.client").ChalkClient is ChalkClient


INFO = ScalingGroupInfo(
    id="id-1",
    name="web",
    environment="e",
    namespace="default",
    status=Status.RUNNING,
    status_message=None,
    revision=1,
    image="i",
    port=8080,
    replicas=ReplicaCounts(),
    web_url="https://e-web.gw.test",
    tags={},
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    updated_at=datetime(2026, 1, 1, tzinfo=UTC),
    spec=ScalingGroupSpec(name="web", image="i", env={"A": "canary"}).to_dict(),
)


class Client(ChalkClient):
    """Remembers what it is asked, and answers from a script."""

    def __init__(self, wait: Callable[[], ScalingGroupInfo] = lambda: INFO) -> None:
        super().__init__()
        self.asked: list[Any] = []
        self.images: list[Image | None] = []
        self.waiting = wait
        self.there = True

    def create_scaling_group(self, spec: ScalingGroupSpec, **options: Any) -> DeployResult:
        self.asked.append(("create", spec))
        self.images.append(options["image"])
        if options.get("on_progress"):
            options["on_progress"](Progress("applying", "applied", elapsed=5.0))
        return DeployResult(Action.CREATED, replace(INFO, name=spec.name))

    def wait_scaling_group(self, name: str, **options: Any) -> ScalingGroupInfo:
        self.asked.append(("wait", name, options["until"], options["timeout"]))
        if options.get("on_progress"):
            options["on_progress"](Progress("done", "1 of 1", elapsed=0.1))
        return replace(self.waiting(), name=name)

    def get_scaling_group(self, name: str | None = None, *, id: str | None = None) -> ScalingGroupInfo:  # noqa: A002
        if not self.there or (name or "web") != "web":
            raise NotFoundError(f"no `{name or id}`")
        return INFO

    def delete_scaling_group(
        self,
        name: str | None = None,
        *,
        id: str | None = None,  # noqa: A002
        **_: Any,
    ) -> DeleteResult:
        self.asked.append(("delete", name, id))
        if not self.there:
            raise NotFoundError("gone")
        return DeleteResult(id or "", name or "")

    def call(self, name: str, path: str = "/", **options: Any) -> Any:
        assert options["id"] == INFO.id
        self.asked.append(("call", name, path, options["method"], options["json"], options["timeout"]))
        return "response"


def test_the_clock_of_a_deploy_only_goes_forward() -> None:
    steps: list[Progress] = []
    ScalingGroup(image="i", name="web", client=Client()).deploy(on_progress=steps.append)
    assert [step.phase for step in steps] == ["applying", "done"]
    assert 0 <= steps[0].elapsed <= steps[1].elapsed


def test_deploy_wait_call_delete() -> None:
    client = Client()
    group = ScalingGroup(image="i", name="web", client=client)
    assert (group.id, group.web_url, group.status, group.info, group.revision) == (None,) * 5
    assert repr(group) == "ScalingGroup(name='web', status='not deployed')"
    assert group.deploy().wait_ready(timeout=9) is group
    assert (group.id, group.status, group.web_url) == ("id-1", Status.RUNNING, "https://e-web.gw.test")
    answer: Any = group.call("/predict", json={"a": 1}, timeout=60.0)
    assert answer == "response"
    assert group.refresh().ready_replicas == 0
    group.delete()
    assert (group.id, group.web_url) == (None, None)
    group.delete()
    assert client.asked[1:] == [
        ("wait", "web", "running", 300),
        ("wait", "web", "ready", 9),
        ("call", "web", "/predict", "POST", {"a": 1}, 60.0),
        ("delete", None, "id-1"),
    ]


def test_warnings_of_a_deploy_are_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    class Outspoken(Client):
        def create_scaling_group(self, spec: ScalingGroupSpec, **options: Any) -> DeployResult:
            made = super().create_scaling_group(spec, **options)
            return replace(made, warnings=("stood in for", "may not fit"))

    info = replace(INFO, warnings=("stood in for",))
    ScalingGroup(image="i", name="web", client=Outspoken(lambda: info)).deploy()
    assert [(r.levelname, r.getMessage()) for r in caplog.records if r.name == "chalkcompute"] == [
        ("WARNING", "scaling group `web`: stood in for"),
        ("WARNING", "scaling group `web`: may not fit"),
    ]


def test_a_handle_whose_constructor_raised_can_be_shown() -> None:
    broken = ScalingGroup.__new__(ScalingGroup)  # what a debugger sees of it
    assert repr(broken) == "ScalingGroup(name=None, status='not deployed')"


def test_an_image_stands_in_the_spec_by_its_base_until_it_is_built() -> None:
    client = Client()
    image = Image.debian_slim("3.12").pip_install(["flask"])
    ScalingGroup(image=image, name="web", client=client).deploy()
    assert client.asked[0][1].image == "python:3.12-slim-trixie"
    assert client.images == [image]


def test_a_generated_name_stays_the_same_for_one_handle() -> None:
    client = Client()
    group = ScalingGroup(image="i", client=client)
    assert group.name.startswith("sg-")
    assert len(group.name) == 11
    group.deploy()
    group.deploy()
    assert {asked[1].name for asked in client.asked if asked[0] == "create"} == {group.name}
    assert ScalingGroup(image="i", client=client).name != group.name


@pytest.mark.parametrize("by", ["name", "id"])
def test_an_attached_handle_deploys_what_is_recorded(by: str) -> None:
    client = Client()
    group = (
        ScalingGroup.from_name("web", client=client)
        if by == "name"
        else ScalingGroup.from_id("id-1", client=client)
    )
    assert (group.name, group.id) == ("web", "id-1")
    group.deploy()
    assert client.asked[0][1] == ScalingGroupSpec(name="web", image="i", env={"A": "canary"})


def test_an_attached_handle_of_nothing() -> None:
    with pytest.raises(NotFoundError):
        ScalingGroup.from_name("ghost", client=Client())


def test_after_delete_an_attached_handle_has_nothing_to_work_on() -> None:
    group = ScalingGroup.from_name("web", client=Client())
    group.delete()
    for verb in (group.deploy, group.wait_ready, group.call):
        with pytest.raises(NotFoundError, match="not deployed"):
            verb()


def test_a_delete_that_fails_can_be_tried_again() -> None:
    client = Client()
    group = ScalingGroup.from_name("web", client=client)
    fail = ConflictError("objects are left")
    refused = [fail, UnreachableError("no answer")]
    delete = client.delete_scaling_group

    def flaky(name: str | None = None, **options: Any) -> DeleteResult:
        if refused:
            raise refused.pop(0)
        return delete(name, **options)

    client.delete_scaling_group = flaky  # type: ignore[method-assign]
    for _ in range(2):
        with pytest.raises((ConflictError, UnreachableError)):
            group.delete()
        assert (group.id, group.status, group.web_url) == (INFO.id, INFO.status, INFO.web_url)
    group.delete()
    assert group.id is None
    assert client.asked == [("delete", None, INFO.id)]


def test_someone_else_deleted_it_first() -> None:
    client = Client()
    group = ScalingGroup.from_name("web", client=client)
    client.there = False
    group.delete()
    assert group.id is None


@pytest.mark.parametrize("kind", [DeployFailedError, WaitTimeoutError])
def test_a_failure_leaves_the_handle_with_what_was_last_seen(kind: type[DeployFailedError]) -> None:
    failed = replace(INFO, status=Status.FAILED)

    def fail() -> ScalingGroupInfo:
        raise kind("no", verdict=Verdict(Cause.CRASH_LOOP, "it crashes"), info=failed)

    group = ScalingGroup(image="i", name="web", client=Client(fail))
    with pytest.raises(kind):
        group.deploy()
    assert group.status is Status.FAILED
    assert group.id == "id-1"


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"image": None}, "image"),
        ({"image": ""}, "image"),
        ({"entrypoint": "python -m x"}, "entrypoint"),
        ({"entrypoint": 5}, "entrypoint"),
        ({"entrypoint": {"a"}}, "entrypoint"),
        ({"entrypoint": b"a"}, "entrypoint"),
        ({"entrypoint": []}, "entrypoint"),
        ({"env": {"A": None}}, "env"),
        ({"env": 5}, "env"),
        ({"tags": ["a"]}, "tags"),
        ({"cpu": 4}, "cpu"),
        ({"port": "8080"}, "port"),
        ({"port": True}, "port"),
        ({"min_replicas": 1.5}, "min_replicas"),
        ({"readiness_probe": "/"}, "readiness_probe"),
        ({"client": "x"}, "client"),
        ({"secrets": ["OPENAI_API_KEY"]}, "secrets"),
        ({"volumes": [("a", "b")]}, "volumes"),
        ({"port": 0}, "port"),
        ({"name": "Web"}, "name"),
        ({"min_replicas": 3}, "min_replicas"),
        ({"memory": "8gb"}, "memory"),
        ({"gpu": "l4:x"}, "gpu"),
    ],
)
def test_a_description_that_cannot_be(arguments: dict[str, Any], field: str) -> None:
    with pytest.raises(SpecError) as caught:
        ScalingGroup(**{"image": "i", **arguments})
    assert caught.value.field == field
    assert isinstance(caught.value, ValueError)


ANYTHING: tuple[Any, ...] = (
    5,
    -1,
    0.5,
    "x",
    b"x",
    None,
    True,
    [],
    ["x"],
    {},
    {"x": None},
    {5},
    object(),
    float("nan"),
    10**5000,
)


OF_IMAGES = {"args", "working_dir", "files"}


@pytest.mark.parametrize(
    "field", [f.name for f in fields(ScalingGroupSpec) if f.name not in OF_IMAGES] + ["client"]
)
def test_nothing_that_is_given_ends_in_a_raw_error(field: str) -> None:
    for value in ANYTHING:
        arguments: dict[str, Any] = {"image": "i", field: value}
        with contextlib.suppress(SpecError):
            ScalingGroup(**arguments)


@pytest.mark.parametrize(
    ("verb", "said"),
    [
        (lambda client: ScalingGroup.from_name(5, client=client), "`name` must be text, not int `5`"),  # type: ignore[arg-type]
        (lambda client: ScalingGroup.from_name(None, client=client), "exactly one of"),  # type: ignore[arg-type]
        (lambda client: ScalingGroup.from_id(b"x", client=client), "`id` must be text"),  # type: ignore[arg-type]
        (lambda client: ScalingGroup.from_name("web", client="x"), "`client` must be a ChalkClient"),  # type: ignore[arg-type]
        (lambda client: client.get_scaling_group(5), "`name` must be text"),
        (lambda client: client.delete_scaling_group(5), "`name` must be text"),
        (lambda client: client.delete_scaling_group(id=5), "`id` must be text"),
        (lambda client: client.call(5), "`name` must be text"),
        (lambda client: client.wait_scaling_group(5), "`name` must be text"),
        (lambda client: client.wait_scaling_group("web", until="bogus"), "`running`, `ready`, `available`"),
        (lambda client: client.wait_scaling_group("web", until=[]), "`until` must be one of"),
        (lambda client: client.create_scaling_group({}), "must be a ScalingGroupSpec, not dict"),
        (lambda client: client.create_scaling_group(None), "must be a ScalingGroupSpec, not NoneType"),
        (lambda client: client.render_manifests("web"), "must be a ScalingGroupSpec, not str"),
        (lambda client: client.list_scaling_groups(tags={"a b": "c"}), "the tag key `a b`"),
        (lambda client: client.list_scaling_groups(tags={"a": 1}), "the value of tag `a`"),
        (lambda client: client.list_scaling_groups(tags="a=b"), "`tags` must be a mapping"),
    ],
)
def test_arguments_that_cannot_be_are_told_before_anyone_is_asked(
    verb: Callable[[ChalkClient], object], said: str
) -> None:
    class Unasked:
        server = "https://nobody"

    with pytest.raises(SpecError, match=re.escape(said)):
        verb(ChalkClient.over(Unasked(), Settings()))  # type: ignore[arg-type]


def test_all_arguments_arrive() -> None:
    client = Client()
    probe = ReadinessProbe.http("/health")
    ScalingGroup(
        image="i",
        name="web",
        port=1,
        min_replicas=2,
        max_replicas=3,
        target_cpu_utilization_percentage=70,
        scaling_interval_seconds=30,
        shutdown_delay_seconds=5,
        startup_timeout_seconds=600,
        cpu="1000m",
        memory="1Gi",
        gpu="1",
        env={"A": "b"},
        entrypoint=["x", "y"],
        tags={"t": "u"},
        readiness_probe=probe,
        client=client,
    ).deploy()
    assert client.asked[0][1] == ScalingGroupSpec(
        name="web",
        image="i",
        port=1,
        min_replicas=2,
        max_replicas=3,
        target_cpu_utilization_percentage=70,
        scaling_interval_seconds=30,
        shutdown_delay_seconds=5,
        startup_timeout_seconds=600,
        cpu="1",
        memory="1Gi",
        gpu="1",
        env={"A": "b"},
        entrypoint=("x", "y"),
        tags={"t": "u"},
        readiness_probe=probe,
    )


def test_positional_arguments_are_refused() -> None:
    with pytest.raises(TypeError):
        ScalingGroup("image")  # type: ignore[call-arg]


def test_no_value_of_env_in_a_repr() -> None:
    assert "canary" not in repr(ScalingGroup(image="i", env={"A": "canary"}))
    assert "canary" not in repr(ScalingGroup.from_name("web", client=Client()))
    spec = ScalingGroupSpec(name="web", image="i", env={"TOKEN": "canary"}, tags={"team": "ml"})
    assert "canary" not in repr(spec)
    assert "TOKEN" in repr(spec)
    assert "'team': 'ml'" in repr(spec)
    info = replace(Client().get_scaling_group("web"), spec=spec.to_dict())
    assert "canary" not in repr(DeployResult(Action.CREATED, info))
    assert "TOKEN" in repr(info)


def test_manifests_need_no_cluster_when_all_is_said() -> None:
    spec = ScalingGroupSpec(name="web", image="i")
    client = ChalkClient(environment="abc123", gateway="infra/gw", gateway_domain="gw.chalk.ai")
    kinds = {obj["kind"]: obj for obj in client.render_manifests(spec)}
    assert set(kinds) == {"Service", "Deployment", "HTTPRoute"}
    assert kinds["HTTPRoute"]["spec"]["hostnames"] == ["abc123-web.gw.chalk.ai"]
    assert kinds["Deployment"]["metadata"]["namespace"] == "default"
    assert client.render_manifests(spec) == tuple(kinds[obj["kind"]] for obj in client.render_manifests(spec))
    assert all("ownerReferences" not in obj["metadata"] for obj in kinds.values())
