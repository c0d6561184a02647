"""The root command: global options, errors, exit codes, pipes, what start-up imports."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from chalk_cli.main import wants_json
from chalk_cli.text import printable
from chalkcompute import errors
from tests.cli.conftest import Invoke
from tests.cli.memory_client import MemoryClient, a_group

CHALK = Path(sys.executable).parent / "chalk"


@pytest.mark.parametrize(
    ("args", "env", "expected"),
    [
        (("-n", "a", "sg", "list"), {}, {"namespace": "a"}),
        (("sg", "list", "-n", "a"), {}, {"namespace": "a"}),
        (("-n", "a", "sg", "list", "-n", "b"), {}, {"namespace": "b"}),
        (("sg", "list", "-n", "b"), {"CHALK_NAMESPACE": "env"}, {"namespace": "b"}),
        (("-n", "a", "sg", "list"), {"CHALK_NAMESPACE": "env"}, {"namespace": "a"}),
        (("sg", "list"), {"CHALK_NAMESPACE": "env"}, {"namespace": "env"}),
        (
            ("sg", "list", "--context=c", "--kubeconfig=k", "--environment=e", "--env-file=f"),
            {},
            {"context": "c", "kubeconfig": "k", "environment": "e", "env_file": "f"},
        ),
    ],
)
def test_global_options_before_and_after_the_verb(
    invoke: Invoke,
    client: MemoryClient,
    args: tuple[str, ...],
    env: dict[str, str],
    expected: dict[str, str],
) -> None:
    invoke(*args, env=env)
    assert client.settings == [expected]


def test_every_option_has_an_environment_variable(invoke: Invoke, client: MemoryClient) -> None:
    env = {
        "CHALK_SCALING_GROUP_CREATE_IMAGE": "a:b",
        "CHALK_SCALING_GROUP_CREATE_ENV": "A=one two\nB=3",
        "CHALK_SCALING_GROUP_CREATE_WAIT": "false",
        "CHALK_OUTPUT": "name",
        "CHALK_QUIET": "1",
    }
    result = invoke("sg", "create", "x", env=env)
    assert (result.stdout, result.stderr) == ("x\n", "")
    assert dict(client.specs[0].env) == {"A": "one two", "B": "3"}
    assert "wait" not in [verb for verb, _ in client.calls]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.SpecError("no such port", field="port"), 2),
        (errors.ConfigError("x"), 2),
        (errors.CapabilityError("x"), 2),
        (errors.NotFoundError("x"), 3),
        (errors.ConflictError("x"), 4),
        (errors.NotOwnedError("x", kind="Service", name="a", namespace="b"), 4),
        (errors.ConnectionConfigError("x"), 5),
        (errors.UnreachableError("x"), 5),
        (errors.ForbiddenError("x", status=403, reason="Forbidden"), 5),
        (errors.LocalClusterError("x"), 5),
        (errors.ChalkError("x"), 1),
        (ValueError("x"), 1),
    ],
)
def test_exit_codes_in_text_and_json(
    invoke: Invoke, client: MemoryClient, error: Exception, code: int
) -> None:
    client.fail["list"] = error
    text = invoke("sg", "list", code=code)
    assert text.stdout == ""
    assert text.stderr.startswith("Error: ")
    answer = invoke("sg", "list", "-o", "json", code=code)
    assert answer.stdout == ""
    document = json.loads(answer.stderr)
    assert document["schema"] == 1
    assert document["error"]["exit_code"] == code


def test_a_hint_follows_a_blank_line(invoke: Invoke) -> None:
    assert invoke("sg", "get", "ghost", code=3).stderr == (
        "Error: scaling group `ghost` not found in namespace `abc123`\n"
        "\n"
        "hint: list what exists with `chalk scaling-group list`\n"
    )


def test_what_an_error_knows_is_in_its_json(invoke: Invoke, client: MemoryClient) -> None:
    client.fail["list"] = errors.NotOwnedError("x", kind="Service", name="a", namespace="b", hint="y")
    assert json.loads(invoke("sg", "list", "-ojson", code=4).stderr)["error"] == {
        "type": "NotOwnedError",
        "message": "x",
        "hint": "y",
        "exit_code": 4,
        "kind": "Service",
        "name": "a",
        "namespace": "b",
    }


def test_usage_errors_in_json_name_the_field(invoke: Invoke) -> None:
    error = json.loads(invoke("sg", "create", "x", "--output=json", code=2).stderr)["error"]
    assert (error["type"], error["field"], error["exit_code"]) == ("MissingParameter", "image", 2)


def test_verbose_shows_causes(invoke: Invoke, client: MemoryClient) -> None:
    error = errors.UnreachableError("cannot reach it")
    error.__cause__ = OSError("connection refused")
    client.fail["list"] = error
    assert "caused by: OSError: connection refused" in invoke("sg", "list", "-v", code=5).stderr
    assert "caused by" not in invoke("sg", "list", code=5).stderr


def test_an_unexpected_exception_is_one_message_and_a_hint(invoke: Invoke, client: MemoryClient) -> None:
    client.fail["list"] = RuntimeError("boom")
    said = invoke("sg", "list", code=1).stderr
    assert "unexpected RuntimeError: boom" in said
    assert "CHALK_TRACEBACK=1" in said


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (("scaling-gruop", "list"), "did you mean `scaling-group`?"),
        (("sg", "lst"), "did you mean `list`?"),
        (("sg", "zzz"), "one of: create, list, get, top, delete, manifests"),
        (("sg", "list", "--nope"), "--nope"),
        (("--nope",), "--nope"),
    ],
)
def test_typing_mistakes(invoke: Invoke, args: tuple[str, ...], said: str) -> None:
    assert said in invoke(*args, code=2).stderr


@pytest.mark.parametrize(
    ("args", "env", "expected"),
    [
        (["sg", "list", "-o", "json"], {}, True),
        (["sg", "list", "-ojson"], {}, True),
        (["sg", "list", "-qojson"], {}, True),
        (["sg", "list", "-qo", "json"], {}, True),
        (["sg", "list", "--output=json"], {}, True),
        (["sg", "list", "--output", "json"], {}, True),
        (["sg", "list"], {"CHALK_OUTPUT": "json"}, True),
        (["sg", "list", "-o", "yaml"], {"CHALK_OUTPUT": "json"}, False),
        (["sg", "create", "--", "x", "-o", "json"], {}, False),
        (["sg", "list", "-n", "json"], {}, False),
        (["sg", "list", "-o"], {}, False),
        (["sg", "manifests"], {"CHALK_SCALING_GROUP_MANIFESTS_OUTPUT": "json"}, True),
        (["scaling-group", "manifests"], {"CHALK_SCALING_GROUP_MANIFESTS_OUTPUT": "json"}, True),
        (["sg", "manifests", "-oyaml"], {"CHALK_SCALING_GROUP_MANIFESTS_OUTPUT": "json"}, False),
        (["sg", "list"], {"CHALK_SCALING_GROUP_MANIFESTS_OUTPUT": "json"}, False),
        (["sg", "list"], {"CHALK_SCALING_GROUP_LIST_OUTPUT": "json"}, True),
        (["-n", "x", "-qn", "y", "--context", "z", "sg", "get", "a"], {"CHALK_OUTPUT": "json"}, True),
        (["-n", "local", "-vn", "up", "sg", "list"], {"CHALK_SCALING_GROUP_LIST_OUTPUT": "json"}, True),
        (["local", "up"], {"CHALK_LOCAL_UP_OUTPUT": "json"}, True),
        (["local", "status"], {"CHALK_LOCAL_STATUS_OUTPUT": "json"}, True),
        (["local", "status"], {"CHALK_OUTPUT": "json"}, False),  # its output is not JSON then either
        (["sg", "manifests"], {"CHALK_OUTPUT": "json"}, False),
        (["local", "down"], {"CHALK_OUTPUT": "json"}, True),
        (["sg", "lst"], {"CHALK_OUTPUT": "json"}, True),
        ([], {"CHALK_OUTPUT": "json"}, True),
    ],
)
def test_json_is_noticed_before_parsing(args: list[str], env: dict[str, str], expected: bool) -> None:
    assert wants_json(args, env) is expected


@pytest.mark.parametrize(
    ("variable", "args"),
    [
        ("CHALK_SCALING_GROUP_MANIFESTS_OUTPUT", ("sg", "manifests", "x", "--image=a:b")),
        ("CHALK_SCALING_GROUP_LIST_OUTPUT", ("sg", "list")),
        ("CHALK_OUTPUT", ("sg", "list")),
    ],
)
def test_json_that_a_variable_asks_for_is_that_of_errors_too(
    invoke: Invoke, client: MemoryClient, variable: str, args: tuple[str, ...]
) -> None:
    assert json.loads(invoke(*args, env={variable: "json"}).stdout) is not None
    client.fail = dict.fromkeys(("list", "manifests"), errors.NotFoundError("x"))
    assert json.loads(invoke(*args, env={variable: "json"}, code=3).stderr)["error"]["exit_code"] == 3


def test_a_name_of_the_environment_gives_way_to_one_that_is_typed(
    invoke: Invoke, client: MemoryClient
) -> None:
    client.groups = {name: a_group(name) for name in ("a", "b")}
    name, group_id = "CHALK_SCALING_GROUP_GET_NAME", "CHALK_SCALING_GROUP_GET_ID"
    ids = {key: group.id for key, group in client.groups.items()}

    def got(*args: str, **env: str) -> str:
        return invoke("sg", "get", *args, "-o", "name", env=env).stdout.strip()

    assert got(**{name: "a"}) == "a"
    assert got(**{group_id: ids["b"]}) == "b"
    assert got("b", **{name: "a"}) == "b"
    assert got("--name=b", **{name: "a"}) == "b"
    assert got("b", **{group_id: ids["a"]}) == "b"
    assert got(f"--id={ids['b']}", **{name: "a"}) == "b"
    invoke("sg", "get", env={name: "a", group_id: ids["b"]}, code=2)
    image = {"CHALK_SCALING_GROUP_CREATE_NAME": "c", "CHALK_SCALING_GROUP_CREATE_IMAGE": "a:b"}
    assert invoke("sg", "create", "-o", "name", env=image).stdout == "c\n"
    client.deleted = [a_group("gone")]
    assert "gone" in invoke("sg", "list", env={"CHALK_SCALING_GROUP_LIST_ALL": "1"}).stdout


def test_control_characters_do_not_reach_the_terminal() -> None:
    assert printable("a\x1b[31mb\r\n\tc\x00\x9b") == "a\\x1b[31mb\n\tc\\x00\\x9b"


def test_defaults_in_help_are_in_brackets_alone(invoke: Invoke) -> None:
    for args, default in ((("sg", "create"), "5m"), (("sg", "delete"), "2m"), (("local", "up"), "1m")):
        shown = invoke(*args, "--help").stdout
        assert f"[default: {default}]" in shown
        assert "[default: (" not in shown


def test_quiet_says_what_it_leaves_out(invoke: Invoke) -> None:
    for args in (("sg", "create"), ("sg", "delete"), ("local", "up")):
        assert "Errors only; data only with `-o`." in " ".join(invoke(*args, "--help").stdout.split())


def test_version(invoke: Invoke) -> None:
    assert invoke("--version").stdout.startswith("chalk 0.")


@pytest.mark.parametrize("args", [["--help"], ["scaling-group", "create", "--help"]])
def test_a_reader_that_goes_away_is_silent(args: list[str]) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as pipe:
        done = subprocess.run([str(CHALK), *args], stdout=pipe, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (141, b"")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="Linux has it")
@pytest.mark.parametrize("args", [["--help"], ["scaling-group", "create", "--help"]])
def test_a_disk_that_is_full_is_said_in_one_line(args: list[str]) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123 - a device
        done = subprocess.run([str(CHALK), *args], stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 1
    assert done.stderr.decode() == "Error: cannot write to stdout: No space left on device\n"


def test_no_stdout_at_all() -> None:
    done = subprocess.run(["sh", "-c", f"'{CHALK}' --version >&-"], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


HEAVY = ("kubernetes", "httpx", "rich", "yaml", "tabulate", "aiohttp", "cryptography", "chalkcompute.client")


@pytest.mark.parametrize(
    "args", [["--help"], ["scaling-group", "--help"], ["scaling-group", "create", "--help"], ["--version"]]
)
def test_help_imports_nothing_heavy(args: list[str]) -> None:
    program = (
        "import sys\n"
        "from chalk_cli.main import cli\n"
        "try:\n"
        f"    cli({args!r})\n"
        "except SystemExit as stop:\n"
        "    assert stop.code == 0, stop.code\n"
        f"print(*[name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == ""


def test_a_row_is_the_same_however_wide_the_terminal(invoke: Invoke, client: MemoryClient) -> None:
    client.groups["inference"] = a_group(image="r/" + "long" * 40)
    assert "long" * 40 in invoke("sg", "list", env={"COLUMNS": "20"}).stdout
