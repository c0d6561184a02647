"""The spec: what it refuses, when two are equal, and that it survives every way of copying it."""

from __future__ import annotations

import copy
import json
import pickle
import re
from typing import Any

import pytest
from hypothesis import given

from chalkcompute import probes
from chalkcompute.errors import SpecError
from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.spec.images import tag_moves
from chalkcompute.spec.probes import ReadinessProbe
from tests.properties import examples
from tests.unit.manifests.manifests_builders import a_spec, specs

PROPERTY = examples(120)


def test_defaults() -> None:
    spec = ScalingGroupSpec(name="hello", image="python:3.12")
    assert (spec.port, spec.min_replicas, spec.max_replicas, spec.mode) == (8080, 1, 1, "fixed")
    assert (spec.cpu, spec.memory, spec.gpu, spec.entrypoint, dict(spec.env), dict(spec.tags)) == (
        None,
        None,
        None,
        None,
        {},
        {},
    )


@pytest.mark.parametrize(
    ("low", "high", "mode"), [(1, 1, "fixed"), (3, 3, "fixed"), (1, 3, "hpa"), (0, 1, "keda"), (0, 5, "keda")]
)
def test_mode(low: int, high: int, mode: str) -> None:
    assert a_spec(min_replicas=low, max_replicas=high).mode == mode


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", None),
        ("name", 3),
        ("image", None),
        ("image", ["python"]),
        ("port", 0),
        ("port", 65536),
        ("port", True),
        ("port", "8080"),
        ("port", 80.0),
        ("port", None),
        ("min_replicas", -1),
        ("min_replicas", True),
        ("min_replicas", "2"),
        ("min_replicas", 2.0),
        ("min_replicas", None),
        ("max_replicas", float("inf")),
        ("max_replicas", float("nan")),
        ("shutdown_delay_seconds", "30"),
        ("shutdown_delay_seconds", 2.5),
        ("startup_timeout_seconds", True),
        ("idle_timeout_seconds", [300]),
        ("max_replicas", 0),
        ("max_replicas", 2**31),
        ("target_cpu_utilization_percentage", 0),
        ("target_cpu_utilization_percentage", 101),
        ("target_cpu_utilization_percentage", 70.5),
        ("scaling_interval_seconds", 0),
        ("scaling_interval_seconds", 1801),
        ("scaling_interval_seconds", False),
        ("shutdown_delay_seconds", -1),
        ("shutdown_delay_seconds", 3601),
        ("startup_timeout_seconds", 0),
        ("startup_timeout_seconds", 21601),
        ("idle_timeout_seconds", 0),
        ("idle_timeout_seconds", 86401),
        ("cpu", 4),
        ("memory", 8),
        ("gpu", 1),
        ("env", [("A", "b")]),
        ("env", {"A": 1}),
        ("env", {"a-b": "1"}),
        ("tags", {"a": 1}),
        ("tags", {1: "a"}),
        ("tags", "a=1"),
        ("entrypoint", "python"),
        ("entrypoint", []),
        ("entrypoint", ["a", ""]),
        ("entrypoint", ["a", 1]),
        ("entrypoint", {"a"}),
        ("entrypoint", 5),
        ("entrypoint", b"python"),
        ("entrypoint", bytearray(b"python")),
        ("entrypoint", {"a": 1}),
        ("entrypoint", iter(["a"])),
        ("entrypoint", range(3)),
        ("readiness_probe", "/health"),
    ],
)
def test_what_cannot_be_names_its_field(field: str, value: object) -> None:
    with pytest.raises(SpecError) as caught:
        a_spec(**{field: value})
    assert caught.value.field == field
    assert caught.value.exit_code == 2
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize(
    ("field", "value", "hint"),
    [
        ("target_cpu_utilization_percentage", 0.7, "write percent: `70`"),
        ("target_cpu_utilization_percentage", 70.0, "write `70`"),
        ("target_cpu_utilization_percentage", "70", "leave out the quotes: `70`"),
        ("target_cpu_utilization_percentage", 101, "leave `target_cpu_utilization_percentage` out"),
        ("scaling_interval_seconds", 0, "leave `scaling_interval_seconds` out for the cluster's own pace"),
        ("shutdown_delay_seconds", -1, "leave `shutdown_delay_seconds` out for 5"),
        ("startup_timeout_seconds", 0, "leave `startup_timeout_seconds` out for no limit"),
        ("max_replicas", 0, "has `min_replicas=0`"),
        ("min_replicas", -1, "0 lets the group sleep"),
    ],
)
def test_what_cannot_be_says_what_can(field: str, value: object, hint: str) -> None:
    with pytest.raises(SpecError) as caught:
        a_spec(**{field: value})
    assert hint in (caught.value.hint or "")


@pytest.mark.parametrize("low", [1, 2, 7])
def test_an_idle_time_is_for_groups_that_sleep(low: int) -> None:
    with pytest.raises(SpecError, match=f"`min_replicas` is {low}") as caught:
        a_spec(min_replicas=low, max_replicas=9, idle_timeout_seconds=60)
    assert caught.value.field == "idle_timeout_seconds"
    assert caught.value.hint == "set `min_replicas` to 0, or leave `idle_timeout_seconds` out"
    assert a_spec(min_replicas=0, idle_timeout_seconds=60).idle_timeout_seconds == 60


@pytest.mark.parametrize(("field", "value"), [("cpu", 4), ("gpu", 1), ("cpu", 0.5)])
def test_a_number_for_a_text_is_to_be_quoted(field: str, value: float) -> None:
    with pytest.raises(SpecError) as caught:
        a_spec(**{field: value})
    assert caught.value.hint == f'write it in quotes: `"{value}"`'


@pytest.mark.parametrize(
    ("field", "value"),
    [
        (field, value)
        for field in ("cpu", "memory", "gpu", "image")
        for value in (0, 1, 0.5, 512, -1, 5e9, 1 << 40)
    ]
    + [("memory", 4 << 30), ("memory", 1e-7), ("memory", float("nan")), ("cpu", float("inf"))],
)
def test_what_the_hint_for_a_number_proposes_can_be_written(field: str, value: float) -> None:
    with pytest.raises(SpecError) as caught:
        a_spec(**{field: value})
    proposed = re.search(r'`"([^"]+)"`', caught.value.hint or "")
    if proposed is None:
        assert (caught.value.hint or "").startswith("write "), "the rule, where nobody knows what was meant"
    else:
        a_spec(**{field: proposed[1]})


@pytest.mark.parametrize(
    ("memory", "meant"), [(4, "4Gi"), (0.5, "512Mi"), (512, "512Mi"), (4 << 30, "4Gi"), (5_000_000_000, "5G")]
)
def test_memory_without_a_unit(memory: float, meant: str) -> None:
    for value, hint in ((memory, f'did you mean `"{meant}"`?'), (str(memory), f"did you mean `{meant}`?")):
        with pytest.raises(SpecError) as caught:
            a_spec(memory=value)
        assert caught.value.hint == hint


@pytest.mark.parametrize(
    ("field", "value", "hint"),
    [
        ("port", "8080", "leave out the quotes: `8080`"),
        ("min_replicas", 1.0, "write `1`"),
        ("min_replicas", 1.5, None),
        ("max_replicas", True, None),
        ("name", 3, "use lower-case letters"),
        ("env", {"A": None}, "`os.getenv` gives None"),
        ("env", {"A": 1}, "make a text of it"),
        ("env", {1: "a"}, "use letters, digits and `_`"),
        ("entrypoint", "python -m app", '`["python", "-m", "app"]`'),
        ("entrypoint", 5, '`["python", "-m", "http.server"]`'),
        ("readiness_probe", 5, "ReadinessProbe.http"),
    ],
)
def test_the_hint_says_a_form_that_can_be_written(field: str, value: object, hint: str | None) -> None:
    with pytest.raises(SpecError) as caught:
        a_spec(**{field: value})
    assert (hint is None) == (caught.value.hint is None)
    assert (hint or "") in (caught.value.hint or "")


def test_a_value_of_the_environment_that_is_no_text_is_named_and_not_shown() -> None:
    for value in (31337, None, b"31337", True):
        with pytest.raises(SpecError, match="environment variable `TOKEN` must be text") as caught:
            a_spec(env={"TOKEN": value})
        assert "31337" not in f"{caught.value} {caught.value.hint}"


def test_a_value_without_a_repr() -> None:
    with pytest.raises(SpecError, match="`port` must be 1 to 65535"):
        a_spec(port=10**5000)


def test_more_at_least_than_at_most() -> None:
    with pytest.raises(SpecError, match="`min_replicas` 3 is more than `max_replicas` 2") as caught:
        a_spec(min_replicas=3, max_replicas=2)
    assert caught.value.field == "min_replicas"


def test_equal_wishes_are_equal() -> None:
    one = a_spec(cpu="1", memory="1Gi", env={"A": "1", "B": "2"}, tags={"x": "1", "y": "2"}, entrypoint=["a"])
    other = a_spec(
        cpu="1000m", memory="1024Mi", env={"B": "2", "A": "1"}, tags={"y": "2", "x": "1"}, entrypoint=("a",)
    )
    assert one == other
    assert hash(one) == hash(other)
    assert one.changes(other) == ()
    assert json.dumps(one.to_dict()) == json.dumps(other.to_dict())


def test_changes_are_in_the_order_of_the_fields() -> None:
    assert a_spec().changes(a_spec(tags={"a": "b"}, image="other", cpu="2")) == ("image", "cpu", "tags")


def test_it_cannot_be_changed() -> None:
    spec = a_spec(env={"A": "1"})
    with pytest.raises(AttributeError):
        spec.port = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        spec.env["A"] = "2"  # type: ignore[index]


def test_what_was_passed_in_may_change_afterwards() -> None:
    env = {"A": "1"}
    spec = a_spec(env=env)
    env["A"] = "2"
    assert spec.env["A"] == "1"


@PROPERTY
@given(spec=specs())
def test_it_survives_json_pickle_and_deep_copy(spec: ScalingGroupSpec) -> None:
    assert ScalingGroupSpec.from_dict(json.loads(json.dumps(spec.to_dict()))) == spec
    assert pickle.loads(pickle.dumps(spec)) == spec
    assert copy.deepcopy(spec) == spec


def test_a_record_of_version_0_2_can_be_read() -> None:
    newer = {"args", "working_dir", "secrets", "volumes", "files"}
    spec = a_spec(env={"A": "1"}, entrypoint=["x"])
    older = {key: value for key, value in spec.to_dict().items() if key not in newer}
    assert ScalingGroupSpec.from_dict(older) == spec
    assert spec.changes(ScalingGroupSpec.from_dict(older)) == ()


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("args", "serve"),
        ("args", [1]),
        ("working_dir", "app"),
        ("working_dir", "/a/../b"),
        ("secrets", "A"),
        ("secrets", ["A"]),
        ("secrets", [{"env": "A", "secret": "s"}]),
        ("secrets", [{"env": "A", "secret": "s", "key": "k"}] * 2),
        ("volumes", [{"name": "a"}]),
        ("volumes", [{"name": "a", "path": "/a", "read_only": "yes"}]),
        ("files", [{"path": "/a"}]),
        ("files", 5),
    ],
)
def test_what_is_mounted_and_injected_is_checked(field: str, value: object) -> None:
    with pytest.raises(SpecError) as caught:
        a_spec(**{field: value})
    assert caught.value.field == field


def test_a_newer_record_can_be_read() -> None:
    data = {**a_spec().to_dict(), "newer": [["a", "/a"]]}
    data["readiness_probe"] = {**ReadinessProbe.http("/up").to_dict(), "newer": 1}
    assert ScalingGroupSpec.from_dict(data) == a_spec(readiness_probe=ReadinessProbe.http("/up"))


@pytest.mark.parametrize("data", [{}, {"name": "a"}, {"image": "a"}, [], None, {"name": "a", "image": 1}])
def test_a_dict_that_describes_no_group(data: Any) -> None:
    with pytest.raises(SpecError):
        ScalingGroupSpec.from_dict(data)


@pytest.mark.parametrize(
    "probe",
    [
        ReadinessProbe.http(),
        ReadinessProbe.http("/health?deep=1", period_seconds=1, timeout_seconds=1, failure_threshold=1),
        ReadinessProbe.tcp(period_seconds=30),
        ReadinessProbe.grpc(),
        ReadinessProbe.grpc("my.Service", failure_threshold=10),
    ],
)
def test_probes_round_trip(probe: ReadinessProbe) -> None:
    assert ReadinessProbe.from_dict(json.loads(json.dumps(probe.to_dict()))) == probe


def test_the_public_probe_is_that_of_the_spec() -> None:
    assert probes.ReadinessProbe is ReadinessProbe


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: ReadinessProbe.http("health"), "does not start with `/`"),
        (lambda: ReadinessProbe.http("/a b"), "white space"),
        (lambda: ReadinessProbe.http(""), "does not start"),
        (lambda: ReadinessProbe.http(None), "path"),  # type: ignore[arg-type]
        (lambda: ReadinessProbe.tcp(period_seconds=0), "`period_seconds` must be 1 to 3600"),
        (lambda: ReadinessProbe.tcp(timeout_seconds=True), "whole number"),
        (lambda: ReadinessProbe.tcp(failure_threshold=1001), "failure_threshold"),
        (lambda: ReadinessProbe.tcp(success_threshold=0), "`success_threshold` must be 1 to 1000"),
        (lambda: ReadinessProbe.grpc(1), "text"),  # type: ignore[arg-type]
        (lambda: ReadinessProbe(kind="exec"), "`exec`"),  # type: ignore[arg-type]
        (lambda: ReadinessProbe(kind="tcp", path="/"), "path"),
        (lambda: ReadinessProbe(kind="http", path="/", service=""), "service"),
    ],
)
def test_probes_that_cannot_be(make: Any, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        make()
    assert said in caught.value.message
    assert caught.value.field == "readiness_probe"


@pytest.mark.parametrize(
    ("image", "moves"),
    [
        ("python", True),
        ("python:latest", True),
        ("localhost:5000/app", True),
        ("python:3.12", False),
        ("localhost:5000/app:v1", False),
        ("python@sha256:" + "a" * 64, False),
        ("python:latest@sha256:" + "a" * 64, False),
    ],
)
def test_which_tags_move(image: str, moves: bool) -> None:
    assert tag_moves(image) is moves


@pytest.mark.parametrize(("value", "is_hinted"), [(0, True), (2**31, False), (-1, False)])
def test_only_a_wish_for_zero_is_told_how_to_get_it(value: int, is_hinted: bool) -> None:
    with pytest.raises(SpecError, match="`max_replicas` must be 1 to 2147483647") as caught:
        a_spec(min_replicas=0, max_replicas=value)
    assert ("`min_replicas=0`" in (caught.value.hint or "")) == is_hinted
