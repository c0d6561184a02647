"""`top` and `list --watch`: lines in a pipe, pictures on a terminal, trouble in between."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from click.testing import CliRunner, Result
from rich.console import Console

from chalk_cli.columns import fitting_columns
from chalk_cli.context import CliContext
from chalk_cli.looking import repeatedly
from chalk_cli.main import cli
from chalk_cli.signals import Terminated
from chalk_cli.usage_screen import usage_picture
from chalk_cli.usage_views import age, bytes_text, cores_text, rate_text, seconds_text
from chalk_cli.watching import DISPENSABLE
from chalkcompute import (
    AutoscalerInfo,
    Cause,
    ReplicaCounts,
    ReplicaUsage,
    ScaleEvent,
    ScalingGroupUsage,
    Status,
    Traffic,
    UsageReport,
    Verdict,
)
from chalkcompute.autoscaler import CPU, IN_FLIGHT
from chalkcompute.errors import ForbiddenError, ServerBusyError, UnreachableError
from tests.cli.memory_client import NOW, MemoryClient, a_group
from tests.conftest import Golden

WHY = "cpu resource utilization (percentage of request) above target"
SCALED = ScaleEvent(NOW - timedelta(seconds=90), 3, 2, WHY)
EARLIER = ScaleEvent(NOW - timedelta(minutes=30), 2, None, "All metrics below target")
NO_REQUESTS = "requests: the cluster counts none by HTTPRoute (`custom.metrics.k8s.io`)"


def usage(name: str = "inference", **changes: Any) -> ScalingGroupUsage:
    group = ScalingGroupUsage(
        id=name,
        name=name,
        status=Status.AVAILABLE,
        replicas=ReplicaCounts(3, 2, 2, 1, 5),
        cpu_cores=1.72,
        cpu_utilization_percentage=86.4,
        memory_bytes=251658240,
        traffic=Traffic(12.43, 3.0, 0.0184, 0.34),
        autoscaler=AutoscalerInfo(
            "HorizontalPodAutoscaler",
            target={CPU: 70.0},
            current={CPU: 80.0},
            current_replicas=2,
            desired_replicas=3,
            last_scale_at=SCALED.at,
        ),
        scale_events=(EARLIER, SCALED),
    )
    return dataclasses.replace(group, **changes)


FIXED = usage("agents", autoscaler=None, scale_events=(), traffic=None, cpu_cores=None, memory_bytes=None)
FIXED = dataclasses.replace(FIXED, cpu_utilization_percentage=None, replicas=ReplicaCounts(1, 1, 1, 1, 1))
ASLEEP = usage(
    "a-group-with-quite-a-long-name-that-sleeps",
    status=Status.SCALED_TO_ZERO,
    replicas=ReplicaCounts(0, 0, 0, 0, 12),
    cpu_cores=None,
    cpu_utilization_percentage=None,
    memory_bytes=None,
    traffic=Traffic(0.0, 0.0),
    autoscaler=AutoscalerInfo(
        "ScaledObject", target={IN_FLIGHT: 100.0}, current={IN_FLIGHT: None}, state="asleep"
    ),
    scale_events=(ScaleEvent(NOW - timedelta(hours=3), 0, 1, "it was idle"),),
)
BLIND = usage(
    "blind",
    status=Status.FAILED,
    verdict=Verdict(Cause.CRASH_LOOP, "the container crashes with exit code 1, restarted 5 times"),
)
REPLICAS = (
    ReplicaUsage(
        "inference-7c9f4-abcde",
        "Running",
        ready=True,
        started_at=NOW - timedelta(minutes=11),
        cpu_cores=0.43,
        memory_bytes=125829120,
        cpu_request_cores=1,
        memory_limit_bytes=2**30,
        created_at=NOW - timedelta(minutes=12),
    ),
    ReplicaUsage(
        "inference-7c9f4-fghij",
        "CrashLoopBackOff",
        restarts=4,
        cpu_request_cores=1.0,
        memory_limit_bytes=2**30,
        created_at=NOW - timedelta(minutes=3),
    ),
)
ALL = UsageReport(NOW, "abc123", (ASLEEP, FIXED, BLIND, usage()), (NO_REQUESTS,))
ONE = UsageReport(NOW, "abc123", (usage(replica_usage=REPLICAS),))

Run = Callable[..., Result]


@pytest.fixture
def run(client: MemoryClient, tmp_path: object, monkeypatch: pytest.MonkeyPatch) -> Run:
    """`chalk ARGS` whose pauses take no time; `pauses` is how many of them end in Ctrl-C."""
    monkeypatch.chdir(str(tmp_path))

    def run(*args: str, code: int = 0, pauses: int = 50, end: BaseException | None = None) -> Result:
        left = iter(range(pauses))

        def pause(seconds: float) -> None:
            if next(left, None) is None:
                raise end or KeyboardInterrupt

        context = CliContext(client.connect, {"CI": "1"}, clock=lambda: 0.0, pause=pause)
        result = CliRunner().invoke(cli, list(args), obj=context)
        assert result.exit_code == code, (result.stdout, result.stderr)
        return result

    return run


# --- lines


def test_one_line_a_group_and_look(run: Run, client: MemoryClient, golden: Golden) -> None:
    client.reports = [ALL, dataclasses.replace(ALL, at=NOW + timedelta(seconds=5))]
    result = run("sg", "top", "--count", "2")
    golden("cli/top.lines.txt", f"--- stdout\n{result.stdout}--- stderr\n{result.stderr}")
    assert result.stderr.count("not shown:") == 1


def test_a_change_of_the_count_is_a_line_when_it_happens(run: Run, client: MemoryClient) -> None:
    before = dataclasses.replace(ONE, groups=(usage(scale_events=(EARLIER,)),))
    client.reports = [before, ONE, ONE]
    lines = run("sg", "top", "inference", "--count=3").stdout.splitlines()
    assert [line for line in lines if " scaled " in line] == [
        f"2026-11-23T09:58:30Z inference scaled 2 -> 3: {WHY}"
    ]
    assert len(lines) == 4
    assert client.calls == [("usage", {"name": "inference"})] * 3


def test_one_object_a_look(run: Run, client: MemoryClient) -> None:
    client.reports = [ALL]
    result = run("sg", "top", "-o", "json", "--count=2")
    assert [json.loads(line) for line in result.stdout.splitlines()] == [ALL.to_dict()] * 2
    assert result.stderr == ""


def test_nothing_to_look_at_is_said_once(run: Run) -> None:
    result = run("sg", "top", "--count=3")
    assert (result.stdout, result.stderr) == ("", "no scaling groups here\n")


@pytest.mark.parametrize("given", ["0", "0.9s", "-1", "abc", "1e9", "86401", "25h", "9" * 400, "nan", ""])
def test_intervals_that_cannot_be(run: Run, client: MemoryClient, given: str) -> None:
    said = run("sg", "top", "--interval", given, code=2).stderr
    assert "Invalid value for '--interval'" in said
    assert client.calls == []


@pytest.mark.parametrize("option", ["--count", "--events"])
@pytest.mark.parametrize("given", ["-1", "abc", "1e9", "1.5", ""])
def test_counts_that_cannot_be(run: Run, client: MemoryClient, option: str, given: str) -> None:
    assert f"Invalid value for '{option}'" in run("sg", "top", option, given, code=2).stderr
    assert "Invalid value for '--count'" in run("sg", "top", "--count=0", code=2).stderr
    assert client.calls == []


def test_the_longest_interval_is_a_day(run: Run, client: MemoryClient) -> None:
    client.reports = [ONE]
    assert len(run("sg", "top", "--interval=24h", "--count=2").stdout.splitlines()) == 2


def test_notes_name_flags(run: Run, client: MemoryClient) -> None:
    full = AutoscalerInfo("HorizontalPodAutoscaler", message="more than `max_replicas` (5) allows")
    client.reports = [dataclasses.replace(ONE, groups=(usage(autoscaler=full),))]
    assert run("sg", "top", "--count=1").stderr == "inference: more than `--max-replicas` (5) allows\n"


def test_ctrl_c_is_how_it_ends_and_a_signal_is_not(run: Run, client: MemoryClient) -> None:
    client.reports = [ONE]
    assert len(run("sg", "top", pauses=2).stdout.splitlines()) == 3
    assert "terminated" in run("sg", "top", pauses=1, end=Terminated(15), code=143).stderr


class Flaky:
    """Reads 1, 2, 3 …, but for what is in `errors` instead."""

    def __init__(self, **errors: Exception) -> None:
        self.errors = {int(name[1:]): error for name, error in errors.items()}
        self.looks = 0

    def __call__(self) -> int:
        self.looks += 1
        if self.looks in self.errors:
            raise self.errors[self.looks]
        return self.looks


def look(read: Flaky, count: int, took: float = 0.0) -> tuple[list[Any], list[float]]:
    pauses: list[float] = []
    times: Iterator[float] = (took * (n % 2) + 100.0 * (n // 2) for n in range(100))
    found = repeatedly(read, interval=5, count=count, clock=lambda: next(times), pause=pauses.append)
    return list(found), pauses


AWAY = UnreachableError("no route to host")
BUSY = ServerBusyError("etcd", status=503, reason="ServiceUnavailable")


def test_a_moments_trouble_is_survived() -> None:
    assert look(Flaky(_2=AWAY, _3=BUSY), 4) == ([1, AWAY, BUSY, 4], [5.0] * 3)


def test_the_next_look_begins_an_interval_after_the_last() -> None:
    assert look(Flaky(), 3, took=2.0)[1] == [3.0, 3.0]
    assert look(Flaky(), 3, took=60.0)[1] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("read", "count"),
    [
        (Flaky(_1=AWAY), 3),
        (Flaky(_3=AWAY), 3),
        (Flaky(_2=ForbiddenError("no", status=403, reason="Forbidden")), 3),
    ],
)
def test_what_will_not_pass_and_the_first_and_last_look_are_errors(read: Flaky, count: int) -> None:
    with pytest.raises((UnreachableError, ForbiddenError)):
        look(read, count)


def test_trouble_is_told(run: Run, client: MemoryClient) -> None:
    client.reports = [ONE]

    def trouble() -> None:
        client.fail["usage"] = AWAY

    usual = client.scaling_group_usage
    looks = iter((None, trouble, client.fail.clear))

    def read(name: str | None = None) -> UsageReport:
        if change := next(looks, None):
            change()
        return usual(name)

    client.scaling_group_usage = read  # type: ignore[method-assign]
    result = run("sg", "top", "--count=3")
    assert "no answer for the moment, trying again: no route to host" in result.stderr
    assert len(result.stdout.splitlines()) == 2
    looks = iter((None, trouble, client.fail.clear))
    documents = [json.loads(line) for line in run("sg", "top", "--count=3", "-o", "json").stdout.splitlines()]
    assert documents[1] == {"schema": 1, "error": {"type": "UnreachableError", "message": "no route to host"}}


# --- pictures


def drawn(report: UsageReport, width: int, height: int = 24, **more: Any) -> str:
    console = Console(file=io.StringIO(), width=width, color_system=None, highlight=False)
    usual = {"interval": 5.0, "events": 5, "detailed": False, **more}
    console.print(usage_picture(report, width=width, height=height, **usual))
    assert isinstance(console.file, io.StringIO)
    text = "\n".join(line.rstrip() for line in console.file.getvalue().splitlines()) + "\n"
    assert max(map(len, text.splitlines())) <= width
    return text


@pytest.mark.parametrize("width", [80, 120])
def test_all_groups_on_a_terminal(golden: Golden, width: int) -> None:
    golden(f"cli/top.all-{width}.txt", drawn(ALL, width))


@pytest.mark.parametrize("width", [80, 120])
def test_one_group_on_a_terminal(golden: Golden, width: int) -> None:
    golden(f"cli/top.one-{width}.txt", drawn(ONE, width, detailed=True))


def test_a_picture_is_no_higher_than_the_terminal() -> None:
    many = UsageReport(NOW, "abc123", tuple(usage(f"g{n:02d}", scale_events=()) for n in range(50)))
    text = drawn(many, 100, 20)
    assert len(text.splitlines()) <= 20
    assert "and 35 more" in text
    replicas = tuple(dataclasses.replace(REPLICAS[0], name=f"r{n}") for n in range(50))
    one = UsageReport(NOW, "abc123", (usage(replica_usage=replicas),))
    assert len(drawn(one, 100, 24, detailed=True).splitlines()) <= 24


def test_what_many_groups_have_in_common_is_said_once_and_leaves_room_for_them() -> None:
    lost = AutoscalerInfo("HorizontalPodAutoscaler", blind="the cluster serves no `metrics.k8s.io`")
    groups = [usage(f"group-{n}", autoscaler=lost, scale_events=()) for n in range(300)]
    odd = [usage(f"odd-{n}", verdict=Verdict(Cause.CRASH_LOOP, f"reason {n}")) for n in range(40)]
    shown = drawn(UsageReport(NOW, "abc123", (*groups, *odd)), 100, 40)
    assert shown.count("metrics.k8s.io") == 1
    assert "group-0 and 299 more: its autoscaler cannot scale" in shown
    assert "more that `chalk scaling-group list` tells" in shown
    assert "group-9 " in shown, "there is room for the groups"
    assert len(shown.splitlines()) <= 40


@pytest.mark.parametrize("width", [30, 40, 60])
def test_a_narrow_terminal_shows_names_rather_than_all_columns(width: int) -> None:
    shown = drawn(ALL, width, 60)
    assert "inference" in shown
    assert "NAME" in shown
    assert ("REQ/S" in shown) == (width == 60)


def test_a_picture_that_is_not_of_now_says_so() -> None:
    assert "as of then; trying again: no route" in drawn(ALL, 100, trouble="no route to host")
    assert "no scaling groups here" in drawn(UsageReport(NOW, "abc123"), 80)


def test_what_strangers_wrote_is_printable() -> None:
    nasty = usage(scale_events=(ScaleEvent(NOW, 1, 2, "a\x1b[2Jb"),))
    assert "a\\x1b[2Jb" in drawn(UsageReport(NOW, "n", (nasty,)), 100)


def test_amounts_for_people() -> None:
    assert [seconds_text(v) for v in (None, 0.0184, 0.9996, 1.25, 240.2)] == [
        "-",
        "18ms",
        "1s",
        "1.2s",
        "240s",
    ]
    assert [rate_text(v) for v in (None, 0, 12.43, 130.4, 4200, 12345)] == [
        "-",
        "0",
        "12.4",
        "130",
        "4200",
        "12.3k",
    ]
    assert [cores_text(v) for v in (None, 0.0, 0.43, 1.25, 2.0)] == ["-", "0", "430m", "1.25", "2"]
    assert [bytes_text(v) for v in (None, 12, 125829120, 1288490188)] == ["-", "12", "120Mi", "1.2Gi"]
    ages = (0, 119, 120, 7199, 7200, 172800)
    assert [age(NOW - timedelta(seconds=s), NOW) for s in ages] == ["0s", "119s", "2m", "119m", "2h", "2d"]


# --- list --watch


class Changing(MemoryClient):
    """What happens before each look."""

    def __init__(self) -> None:
        super().__init__()
        self.before: list[Callable[[], None]] = []

    def list_scaling_groups(self, **arguments: Any) -> Any:
        if self.before:
            self.before.pop(0)()
        return super().list_scaling_groups(**arguments)

    def get_scaling_group(self, name: str | None = None, *, id: str | None = None) -> Any:  # noqa: A002
        for group in self.deleted:
            if group.id == id:
                return group
        return super().get_scaling_group(name, id=id)

    def remove(self, name: str) -> None:
        self.delete_scaling_group(name)


@pytest.fixture
def client() -> Changing:
    """In place of the usual one."""
    return Changing()


def changing(client: Changing) -> None:
    ready = ReplicaCounts(3, 2, 2, 3, 3)
    client.groups = {"inference": a_group()}
    client.before = [
        lambda: None,
        lambda: None,
        lambda: client.groups.update(inference=a_group(replicas=ready, status=Status.RUNNING)),
        lambda: client.groups.update(agents=a_group("agents", image="a:1")),
        lambda: client.remove("inference"),
    ]


def test_a_row_whenever_a_group_changes(run: Run, client: Changing, golden: Golden) -> None:
    changing(client)
    result = run("sg", "list", "--watch", pauses=6)
    golden("cli/list.watch.txt", f"--- stdout\n{result.stdout}--- stderr\n{result.stderr}")


def test_an_object_whenever_a_group_changes(run: Run, client: Changing) -> None:
    changing(client)
    result = run("sg", "list", "-w", "-o", "json", pauses=6)
    found = [json.loads(line) for line in result.stdout.splitlines()]
    assert [(group["name"], group["status"]) for group in found] == [
        ("inference", "Available"),
        ("inference", "Running"),
        ("agents", "Available"),
        ("inference", "Deleted"),
    ]
    assert found[-1]["deleted_at"] == "2026-11-23T10:00:00Z"
    assert result.stderr == ""


def test_names_and_what_was_deleted(run: Run, client: Changing) -> None:
    changing(client)
    result = run("sg", "list", "-w", "-o", "name", pauses=6)
    assert result.stdout.split() == ["inference", "agents"]
    assert result.stderr == "`inference` was deleted\n"


def test_deleted_ones_from_the_beginning(run: Run, client: Changing) -> None:
    changing(client)
    client.deleted = [a_group("old", status=Status.DELETED, deleted_at=NOW)]
    lines = run("sg", "list", "-w", "--all", pauses=6).stdout.splitlines()
    assert [line.split()[1] for line in lines[1:] if "Deleted" in line] == ["old", "inference"]


def test_a_group_that_only_loses_its_tag_is_not_deleted(run: Run, client: Changing) -> None:
    client.groups = {"inference": a_group()}
    client.before = [lambda: None, lambda: client.groups.update(inference=a_group(tags={}))]
    result = run("sg", "list", "-w", "-l", "team=ml", pauses=4)
    assert "Deleted" not in result.stdout
    assert result.stderr == "`inference` no longer has these tags\n"


def test_watching_survives_a_moments_trouble(run: Run, client: Changing) -> None:
    changing(client)
    client.before[1] = lambda: client.fail.update(list=AWAY)
    client.before[2] = client.fail.clear
    result = run("sg", "list", "-w", pauses=6)
    assert "trying again: no route to host" in result.stderr
    assert len(result.stdout.splitlines()) == 4
    client.before = [lambda: None, lambda: client.remove("agents"), lambda: None]
    lost = ServerBusyError("x", status=503, reason="")

    def get(name: str | None = None, *, id: str | None = None) -> Any:  # noqa: A002
        raise lost

    client.get_scaling_group = get  # type: ignore[method-assign]
    client.groups = {"agents": a_group("agents")}
    client.remove = client.groups.pop  # type: ignore[method-assign,assignment]
    assert "Deleted" not in run("sg", "list", "-w", pauses=4).stdout


def test_nothing_to_watch_is_said_once(run: Run) -> None:
    result = run("sg", "list", "-w", pauses=4)
    assert (result.stdout, result.stderr) == ("", "no scaling groups here so far\n")


def test_columns_that_have_no_room_go() -> None:
    headers = ("ID", "NAME", "IMAGE", "STATUS", "REPLICAS", "WEB URL", "CREATED")
    row = ("i" * 36, "inference", "m" * 30, "Available", "3/3 (3–3)", "u" * 40, "2026-11-23T10:00:00Z")
    shown = [
        [headers[index] for index in fitting_columns(headers, [row], width, DISPENSABLE)]
        for width in (300, 120, 80, 40)
    ]
    assert shown == [
        list(headers),
        ["NAME", "IMAGE", "STATUS", "REPLICAS", "WEB URL"],
        ["NAME", "STATUS", "REPLICAS", "WEB URL"],
        ["NAME", "STATUS", "REPLICAS"],
    ]


def test_columns_that_have_room_again_without_a_very_wide_one_come_back() -> None:
    headers = ("NAME", "IMAGE", "REVISION", "WEB URL", "PORT")
    row = ("web", "m" * 200, "3", "u" * 40, "8080")
    kept = fitting_columns(headers, [row], 100, ("REVISION", "PORT", "WEB URL", "IMAGE"))
    assert [headers[index] for index in kept] == ["NAME", "REVISION", "WEB URL", "PORT"]
    assert fitting_columns(headers, [row], 50, ("REVISION", "PORT", "WEB URL", "IMAGE")) == [0, 3]
