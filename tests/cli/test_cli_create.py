"""`chalk scaling-group create`: flags become a spec; what is said where; exit codes."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from chalk_cli.signals import Terminated
from chalk_cli.text import with_flags
from chalkcompute import ScalingGroupSpec
from chalkcompute.errors import DeployFailedError, SpecError, WaitTimeoutError
from chalkcompute.spec.advice import advise, advise_wait
from chalkcompute.types import Cause, Evidence, Status, Verdict
from tests.cli.conftest import Invoke
from tests.cli.memory_client import MemoryClient, a_group
from tests.conftest import Golden

IMAGE = "--image=my-registry/my-inference-server:v1"
CREATE = ("scaling-group", "create", IMAGE, "--name=inference")


def test_the_first_example_of_the_specification(invoke: Invoke, client: MemoryClient, golden: Golden) -> None:
    result = invoke(*CREATE, "--port=8080")
    golden("cli/create.txt", f"--- stdout\n{result.stdout}--- stderr\n{result.stderr}")
    (spec,) = client.specs
    assert (spec.name, spec.port, spec.min_replicas, spec.max_replicas) == ("inference", 8080, 1, 1)
    assert (spec.cpu, spec.memory, spec.entrypoint) == (None, None, None)


def test_every_flag_reaches_the_spec(invoke: Invoke, client: MemoryClient, tmp_path: Path) -> None:
    env_file = tmp_path / "vars"
    env_file.write_text("A=from file\nB=${HOME}\n# comment\nexport C='quoted value'\n")
    invoke(
        *CREATE,
        "--min-replicas=2",
        "--max-replicas=20",
        "--target-cpu=70%",
        "--cpu=8",
        "--memory=32Gi",
        "--gpu=nvidia-l4:1",
        '--tags=team=ml,"note=a"',
        "--tag=version=2.1",
        "--entrypoint=python,-m,vllm",
        "--env=A=1,2 and = more",
        "-e",
        "D=",
        f"--env-from-file={env_file}",
        "--readiness-path=/health",
        "--shutdown-delay=30",
        "--scaling-interval=15",
        "--startup-timeout=10m",
    )
    (spec,) = client.specs
    assert (spec.min_replicas, spec.max_replicas, spec.target_cpu_utilization_percentage) == (2, 20, 70)
    assert (spec.cpu, spec.memory, spec.gpu) == ("8", "32Gi", "nvidia-l4:1")
    assert dict(spec.tags) == {"team": "ml", "note": "a", "version": "2.1"}
    assert spec.entrypoint == ("python", "-m", "vllm")
    assert dict(spec.env) == {"A": "1,2 and = more", "B": "${HOME}", "C": "quoted value", "D": ""}
    assert spec.readiness_probe is not None
    assert (spec.shutdown_delay_seconds, spec.scaling_interval_seconds) == (30, 15)
    assert (spec.startup_timeout_seconds, spec.idle_timeout_seconds) == (600, None)


@pytest.mark.parametrize(("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("1h", 3600)])
def test_whole_seconds_have_units_too(invoke: Invoke, client: MemoryClient, text: str, seconds: int) -> None:
    flags = [f"--{flag}={text}" for flag in ("shutdown-delay", "idle-timeout", "startup-timeout")]
    invoke(*CREATE, "--min-replicas=0", *flags)
    spec = client.specs[0]
    got = (spec.shutdown_delay_seconds, spec.idle_timeout_seconds, spec.startup_timeout_seconds)
    assert got == (seconds, seconds, seconds)


@pytest.mark.parametrize(
    ("flags", "seconds"),
    [((), 300), (("--timeout=20m",), 1200), (("--no-wait",), None), (("--dry-run",), None)],
)
def test_a_deploy_is_told_how_long_it_is_waited_for(
    invoke: Invoke, client: MemoryClient, flags: tuple[str, ...], seconds: float | None
) -> None:
    invoke(*CREATE, *flags)
    (asked,) = (arguments for verb, arguments in client.calls if verb == "create")
    assert asked["wait_timeout"] == seconds


@pytest.mark.parametrize(
    ("flags", "low", "high"),
    [
        ((), 1, 1),
        (("--replicas=3",), 3, 3),
        (("--max-replicas=4",), 1, 4),
        (("--min-replicas=0", "--max-replicas=4"), 0, 4),
    ],
)
def test_replicas(invoke: Invoke, client: MemoryClient, flags: tuple[str, ...], low: int, high: int) -> None:
    invoke(*CREATE, *flags)
    assert (client.specs[0].min_replicas, client.specs[0].max_replicas) == (low, high)


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        (('--entrypoint=["python","-c","a,b"]',), ("python", "-c", "a,b")),
        (('--entrypoint=python,-c,"a,b"',), ("python", "-c", "a,b")),
        (("--", "python", "-c", "a,b", "--name=x"), ("python", "-c", "a,b", "--name=x")),
    ],
)
def test_entrypoint_forms(
    invoke: Invoke, client: MemoryClient, flags: tuple[str, ...], expected: tuple[str, ...]
) -> None:
    invoke(*CREATE, *flags)
    assert client.specs[0].entrypoint == expected


def test_name_may_be_positional_with_a_command_behind(invoke: Invoke, client: MemoryClient) -> None:
    invoke("sg", "create", "inference", IMAGE, "--", "serve", "--", "x")
    assert (client.specs[0].name, client.specs[0].entrypoint) == ("inference", ("serve", "--", "x"))


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("--replicas=0",), "`--replicas` must be 1 or more, not 0"),
        (("--replicas=2147483648",), "`--replicas` must be at most 2147483647"),
        (("--min-replicas=3",), "`--min-replicas=3` needs `--max-replicas` of 3 or more"),
        (("--min-replicas=3", "--max-replicas=2"), "`--min-replicas` 3 is more than `--max-replicas` 2"),
        (("--min-replicas=3", "--max-replicas=2"), "hint: raise `--max-replicas` to 3 or more"),
        (("--max-replicas=0",), "`--max-replicas` must be 1 to"),
        (("--min-replicas=-1",), "`--min-replicas` must be 0 to"),
        (("--shutdown-delay=-1",), "`--shutdown-delay` must be 0 to 3600"),
        (("--scaling-interval=0",), "`--scaling-interval` must be 1 to 1800"),
        (("--scaling-interval=30m1s",), "`30m1s` is not a duration"),
        (("--shutdown-delay=1.5",), "`1.5` is not a whole number of seconds"),
        (("--shutdown-delay=-0.5m",), "`--shutdown-delay` must be 0 to 3600 (seconds), not `-30`"),
        (("--startup-timeout=0",), "`--startup-timeout` must be 1 to 21600"),
        (("--startup-timeout=7h",), "`--startup-timeout` must be 1 to 21600"),
        (("--idle-timeout=0", "--min-replicas=0"), "`--idle-timeout` must be 1 to 86400"),
        (
            ("--idle-timeout=60",),
            "`--idle-timeout` 60 is for groups that scale to zero, and `--min-replicas`",
        ),
        (("--idle-timeout=60",), "hint: set `--min-replicas` to 0, or leave `--idle-timeout` out"),
        (("--readiness-path=health",), "--readiness-path: the path `health`"),
        (("--memory=4",), "hint: did you mean `4Gi`"),
        (("--memory=memory",), "`--memory` cannot be `memory`"),
        (("--tags=a b=c",), "--tags: the tag key"),
        (("--replicas=-1",), "`--replicas` must be 1 or more, not -1"),
        (("--replicas=2", "--min-replicas=1"), "--replicas"),
        (("--replicas=2", "--max-replicas=3"), "--replicas"),
        (("other",), "two names"),
        (("--tags=a=1", "--tag=a=2"), "`a` is given twice"),
        (("--env=A=1", "--env=A=2"), "`A` is given twice"),
        (("--entrypoint=a", "--", "b"), "both `--entrypoint`"),
        (("--",), "needs a command"),
        (("--timeout=soon",), "not a duration"),
        (("--port=http",), "--port"),
        (("--env-from-file=absent",), "absent"),
        (("--table-format=cuneiform",), "cuneiform"),
        (("--cpu=abc",), "Error: `--cpu` cannot be `abc`"),
        (("--target-cpu=0",), "Error: `--target-cpu` must be 1 to 100"),
        (("--target-cpu=0.7",), "'--target-cpu': `0.7` is not a whole number; write percent: `70`"),
        (("--target-cpu=70%%",), "'--target-cpu': `70%` is not a whole number"),
        (("--min-replicas=1.5",), "Invalid value for '--min-replicas': `1.5` is not a whole number"),
        (("--replicas=three",), "Invalid value for '--replicas': `three` is not a whole number"),
        (("--replicas=",), "Invalid value for '--replicas': `` is not a whole number"),
        (("--max-replicas=" + "9" * 30,), "is not a whole number"),
        (("--replicas=0",), "a group that sleeps while nobody asks has `--min-replicas=0`"),
    ],
)
def test_contradictions_are_usage_errors(
    invoke: Invoke, client: MemoryClient, args: tuple[str, ...], said: str
) -> None:
    result = invoke(*CREATE, *args, code=2)
    assert said in result.stderr
    assert result.stdout == ""
    assert client.calls == []


@pytest.mark.parametrize(
    ("field", "flag", "value"),
    [
        ("port", "port", 0),
        ("min_replicas", "min-replicas", -1),
        ("max_replicas", "max-replicas", 0),
        ("target_cpu_utilization_percentage", "target-cpu", 0),
        ("target_cpu_utilization_percentage", "target-cpu", 101),
        ("scaling_interval_seconds", "scaling-interval", 0),
        ("scaling_interval_seconds", "scaling-interval", 1801),
        ("shutdown_delay_seconds", "shutdown-delay", -1),
        ("shutdown_delay_seconds", "shutdown-delay", 10**9),
        ("startup_timeout_seconds", "startup-timeout", 0),
        ("startup_timeout_seconds", "startup-timeout", 21601),
        ("idle_timeout_seconds", "idle-timeout", 86401),
        ("idle_timeout_seconds", "idle-timeout", 60),
        ("cpu", "cpu", "none"),
        ("gpu", "gpu", "nvidia-l4"),
    ],
)
def test_what_cannot_be_is_said_in_the_words_of_the_sdk(
    invoke: Invoke, client: MemoryClient, field: str, flag: str, value: object
) -> None:
    with pytest.raises(SpecError) as caught:
        ScalingGroupSpec(name="inference", image="i:1", **{field: value})  # type: ignore[arg-type]
    assert caught.value.field == field
    assert f"`{field}`" in caught.value.message
    said = invoke(*CREATE, f"--{flag}={value}", code=2).stderr
    assert said.splitlines()[0] == "Error: " + with_flags(caught.value.message, field)
    assert f"`--{flag}`" in said
    if caught.value.hint:
        assert said.splitlines()[-1] == "hint: " + with_flags(caught.value.hint)
    assert client.calls == []


def test_a_line_of_an_env_file_that_is_no_variable_is_named_but_not_shown(
    invoke: Invoke, tmp_path: Path
) -> None:
    env_file = tmp_path / "vars"
    for text in ("A=1\n\n\ntop-secret-token\n", "A=1\n\n\ntop-secret token\nB=2"):
        env_file.write_text(text)
        result = invoke(*CREATE, f"--env-from-file={env_file}", code=2)
        assert f"`{env_file}` line 4 is not" in result.stderr
        assert "top-secret" not in result.stderr


def test_again_is_unchanged_and_a_change_names_its_fields(invoke: Invoke, client: MemoryClient) -> None:
    invoke(*CREATE)
    assert "scaling group `inference` unchanged" in invoke(*CREATE).stdout
    updated = invoke("sg", "create", "--image=other:v2", "inference", "--cpu=2")
    assert "scaling group `inference` updated (revision 1 → 2: image, cpu)" in updated.stdout


def test_no_update_refuses_an_existing_name(invoke: Invoke) -> None:
    invoke(*CREATE)
    assert "exists" in invoke(*CREATE, "--no-update", code=4).stderr


def test_dry_run_writes_nothing_and_does_not_wait(invoke: Invoke, client: MemoryClient) -> None:
    result = invoke(*CREATE, "--dry-run")
    assert "dry run" in result.stdout
    assert [verb for verb, _ in client.calls] == ["target", "create"]
    assert client.calls[1][1]["dry_run"] is True


def test_no_wait_does_not_wait(invoke: Invoke, client: MemoryClient) -> None:
    assert "Pending" in invoke(*CREATE, "--no-wait").stdout
    assert "wait" not in [verb for verb, _ in client.calls]


def test_timeout_takes_units(invoke: Invoke, client: MemoryClient) -> None:
    invoke(*CREATE, "--timeout=5m")
    assert client.calls[-1] == ("wait", {"name": "inference", "timeout": 300.0})


def test_the_target_is_said_before_the_write(invoke: Invoke, client: MemoryClient) -> None:
    result = invoke(*CREATE)
    assert result.stderr.splitlines()[0] == (
        "→ context `kind-dev` (https://10.0.0.1:6443), namespace `abc123`"
    )
    assert [verb for verb, _ in client.calls][:2] == ["target", "create"]


def test_quiet_leaves_stderr_empty(invoke: Invoke) -> None:
    assert invoke(*CREATE, "-q").stderr == ""


@pytest.mark.parametrize("wait", ["--wait", "--no-wait", "--dry-run"])
@pytest.mark.parametrize("output", [(), ("-o", "table"), ("-o", "wide")])
def test_quiet_without_an_output_that_programs_read_prints_nothing(
    invoke: Invoke, client: MemoryClient, wait: str, output: tuple[str, ...]
) -> None:
    result = invoke(*CREATE, wait, "-q", *output)
    assert (result.stdout, result.stderr) == ("", "")
    assert ("wait" in [verb for verb, _ in client.calls]) == (wait == "--wait")


@pytest.mark.parametrize("output", ["json", "yaml", "name", "url"])
def test_quiet_with_such_an_output_prints_it(invoke: Invoke, output: str) -> None:
    for asked in ({"CHALK_OUTPUT": output}, {}):
        args = () if asked else ("-o", output)
        result = invoke(*CREATE, "-q", *args, env=asked)
        assert "inference" in result.stdout
        assert result.stderr == ""


def test_warnings_are_said(invoke: Invoke) -> None:
    assert "warning: 10 % CPU target" in invoke(*CREATE, "--target-cpu=10").stderr


def test_warnings_name_flags(invoke: Invoke, client: MemoryClient, monkeypatch: pytest.MonkeyPatch) -> None:
    made = client.create_scaling_group
    said = "`target_cpu_utilization_percentage` has no effect"
    monkeypatch.setattr(
        client,
        "create_scaling_group",
        lambda spec, **options: dataclasses.replace(made(spec, **options), warnings=(said,)),
    )
    assert "warning: `--target-cpu` has no effect" in invoke(*CREATE).stderr


@pytest.mark.parametrize(
    "changes",
    [
        {"target_cpu_utilization_percentage": 50},
        {"target_cpu_utilization_percentage": 50, "max_replicas": 3},
        {"target_cpu_utilization_percentage": 99, "max_replicas": 3, "cpu": "1", "gpu": "1"},
        {"scaling_interval_seconds": 5},
        {"scaling_interval_seconds": 5, "max_replicas": 3, "shutdown_delay_seconds": 3600},
        {"startup_timeout_seconds": 600},
    ],
)
def test_advice_names_flags_and_no_field_of_the_sdk(changes: dict[str, Any]) -> None:
    spec = ScalingGroupSpec(name="web", image="registry.example/web:v1", **changes)
    said = [with_flags(text) for text in (*advise(spec), *advise_wait(spec, 10))]
    assert said
    fields = {field.name for field in dataclasses.fields(spec)}
    for text in said:
        assert not fields & set(re.findall(r"`(\w+)[=`]", text)), text


def test_advice_is_told_from_names_that_are_the_same_word() -> None:
    assert with_flags("set `cpu` to what a replica needs") == "set `--cpu` to what a replica needs"
    assert with_flags("scaling group `cpu` exists already") == "scaling group `cpu` exists already"


def test_what_runs_in_the_place_of_the_image_is_said(
    invoke: Invoke, client: MemoryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "Python 3.11 is used instead"
    waited = client.wait_scaling_group
    monkeypatch.setattr(
        client,
        "wait_scaling_group",
        lambda name, **options: dataclasses.replace(waited(name, **options), warnings=(said,)),
    )
    assert f"warning: {said}" in invoke(*CREATE).stderr.splitlines()
    assert json.loads(invoke(*CREATE, "-o", "json").stdout)["warnings"] == [said]


@pytest.mark.parametrize(
    ("output", "stdout"),
    [("name", "inference\n"), ("url", "https://abc123-inference.gw.chalk.ai\n")],
)
def test_short_outputs_are_nothing_but_data(invoke: Invoke, output: str, stdout: str) -> None:
    result = invoke(*CREATE, "-o", output)
    assert result.stdout == stdout
    assert "created" in result.stderr


def test_json_is_the_group_with_what_was_done(invoke: Invoke) -> None:
    result = invoke(*CREATE, "-o", "json")
    group = json.loads(result.stdout)
    assert (group["schema"], group["action"], group["status"], group["dry_run"]) == (
        1,
        "created",
        "Available",
        False,
    )
    assert group["target"]["context"] == "kind-dev"
    assert result.stderr == ""


CRASH = Verdict(
    cause=Cause.CRASH_LOOP,
    message="the container exits with code 3 soon after it starts",
    evidence=(
        Evidence("container", ("Error",), pod="inference-1", reason="CrashLoopBackOff", exit_code=3),
        Evidence("log", ("loading", "no model at \x1b[31m/models\x1b[0m"), pod="inference-1"),
    ),
    next="fix the program",
    terminal=True,
)


def failed() -> DeployFailedError:
    info = a_group(status=Status.FAILED, verdict=CRASH)
    return DeployFailedError("scaling group `inference` failed", verdict=CRASH, info=info)


def test_a_failed_deploy_shows_cause_evidence_and_next_step(
    invoke: Invoke, client: MemoryClient, golden: Golden
) -> None:
    client.fail["wait"] = failed()
    result = invoke(*CREATE, "-q", code=6)
    assert "\x1b" not in result.stderr
    golden("cli/create-failed.txt", result.stderr)


def test_a_warning_comes_once_and_before_the_error(
    invoke: Invoke, client: MemoryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = "Python 3.11 is used instead"
    made = client.create_scaling_group
    monkeypatch.setattr(
        client,
        "create_scaling_group",
        lambda spec, **options: dataclasses.replace(made(spec, **options), warnings=(said,)),
    )
    nothing_logged = dataclasses.replace(
        CRASH, evidence=(Evidence("log", (), pod="inference-1", exit_code=0),)
    )
    info = a_group(status=Status.FAILED, verdict=nothing_logged, warnings=(said,))
    client.fail["wait"] = DeployFailedError("it failed", verdict=nothing_logged, info=info)
    lines = invoke(*CREATE, code=6).stderr.splitlines()
    assert lines.count(f"warning: {said}") == 1
    assert lines.index(f"warning: {said}") < lines.index("Error: it failed")
    assert "  log of pod `inference-1` (exit code 0) (empty)" in lines


def test_a_failed_deploy_in_json_is_one_object_on_stderr(invoke: Invoke, client: MemoryClient) -> None:
    client.fail["wait"] = failed()
    result = invoke(*CREATE, "-o", "json", code=6)
    error = json.loads(result.stderr)["error"]
    assert (error["type"], error["exit_code"], error["hint"]) == ("DeployFailedError", 6, "fix the program")
    assert error["verdict"]["cause"] == "CrashLoop"
    assert error["scaling_group"]["status"] == "Failed"


def test_not_in_time_is_seven_even_without_a_verdict(invoke: Invoke, client: MemoryClient) -> None:
    info = dataclasses.replace(a_group(), status=Status.PENDING)
    client.fail["wait"] = WaitTimeoutError("not ready within 300 s", verdict=None, info=info)
    assert "not ready within 300 s" in invoke(*CREATE, code=7).stderr


def test_ctrl_c_between_two_writes_says_how_to_finish(invoke: Invoke, client: MemoryClient) -> None:
    client.fail["create"] = KeyboardInterrupt()
    assert "run it again" in invoke(*CREATE, code=130).stderr
    assert "run it again" not in invoke(*CREATE, "--dry-run", code=130).stderr


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [(KeyboardInterrupt(), "Interrupted", 130), (Terminated(15), "Terminated", 143)],
)
def test_an_interrupted_create_is_json_too(
    invoke: Invoke, client: MemoryClient, error: BaseException, kind: str, code: int
) -> None:
    client.fail["wait"] = error
    said = json.loads(invoke(*CREATE, "-o", "json", code=code).stderr.strip().splitlines()[-1])["error"]
    assert (said["type"], said["exit_code"]) == (kind, code)


def test_ctrl_c_says_that_the_group_goes_on(invoke: Invoke, client: MemoryClient) -> None:
    client.fail["wait"] = KeyboardInterrupt()
    result = invoke(*CREATE, code=130)
    assert "`inference` goes on by itself" in result.stderr
    assert "chalk scaling-group get inference" in result.stderr


def test_secrets_and_volumes(invoke: Invoke, client: MemoryClient) -> None:
    client.environ = {"OPENAI_API_KEY": "hunter2", "PROD_TOKEN": "hunter3"}
    flags = (
        "--secret=OPENAI_API_KEY",
        "--secret=TOKEN=PROD_TOKEN",
        "--volume=data:/data",
        "--volume=m:/m:ro",
    )
    result = invoke(*CREATE, *flags)
    assert result.exit_code == 0
    assert "hunter" not in result.output + result.stderr
    (content,) = client.contents
    assert content is not None
    assert dict(content.secret_values) == {"OPENAI_API_KEY": "hunter2", "TOKEN": "hunter3"}
    assert [(m.name, m.path, m.read_only) for m in client.specs[0].volumes] == [
        ("data", "/data", False),
        ("m", "/m", True),
    ]
    assert "data:/data, m:/m:ro" in result.output


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--secret=NOWHERE", "`NOWHERE` has no value here"),
        ("--secret=TOKEN=hunter2", "what is given is the name of a variable and never a value"),
        ("--secret=A B", "`A B` cannot be the name of an environment variable"),
        ("--secret=sk-1", "must be the name of an environment variable, and never a value"),
        ("--secret=TOKEN=", "must be the name of an environment variable, and never a value"),
        ("--volume=data", "is not `NAME:/path`"),
        ("--volume=data:/data:x", "is not `NAME:/path`"),
        ("--volume=data:data", "is not absolute"),
    ],
)
def test_secrets_and_volumes_that_cannot_be(
    invoke: Invoke, client: MemoryClient, flag: str, said: str
) -> None:
    result = invoke(*CREATE, flag, code=2)
    assert client.specs == []
    assert said in result.stderr


def test_manifests_need_no_values(invoke: Invoke, client: MemoryClient) -> None:
    assert invoke("sg", "manifests", "x", "--image=a:b", "--secret=NOWHERE").exit_code == 0
    assert client.contents[0] is not None
    assert dict(client.contents[0].secret_values) == {"NOWHERE": ""}
