"""What is written twice agrees: public names, documentation, change log, layout."""

from __future__ import annotations

import ast
import dataclasses
import importlib.metadata
import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import click
import pytest

import chalkcompute
import chalkcompute.errors
import chalkcompute.types
from chalk_cli.commands.local import local
from chalk_cli.commands.scaling_group import scaling_group
from chalk_cli.main import cli
from chalkcompute import ChalkClient, Image, ReadinessProbe, ScalingGroup, Secret, Volume
from chalkcompute.errors import ChalkError
from chalkcompute.manifests import labels
from chalkcompute.reads import Reads
from chalkcompute.service.wait import Until
from chalkcompute.types import Cause, ReplicaCounts, ScalingGroupInfo, Status

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PACKAGES = ("chalk_cli", "chalkcompute", "chalk", "scripts")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
PAGES = sorted([ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS.rglob("*.md")])


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


@pytest.mark.parametrize("module", [chalkcompute, chalkcompute.errors, chalkcompute.types])
def test_the_public_list_is_sorted_and_complete(module: object) -> None:
    names = module.__all__  # type: ignore[attr-defined]
    assert names == sorted(set(names))
    for name in names:
        assert getattr(module, name) is not None


def test_every_error_and_result_is_public() -> None:
    for module in (chalkcompute.errors, chalkcompute.types):
        own = {
            name
            for name, value in vars(module).items()
            if inspect.isclass(value) and value.__module__ == module.__name__ and not name.startswith("_")
        }
        assert own <= set(module.__all__)


def test_an_unknown_public_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        chalkcompute.no_such_name  # noqa: B018


def test_importing_the_sdk_loads_no_client_library() -> None:
    program = (
        "import sys, chalkcompute\n"
        "from chalkcompute import ChalkClient, ScalingGroup, ScalingGroupSpec\n"
        "ChalkClient()\n"
        "heavy = {'kubernetes', 'httpx', 'rich', 'yaml', 'click', 'aiohttp', 'chalkcompute.local'}\n"
        "print(*(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_the_old_name_of_the_client() -> None:
    from chalk.client import ChalkClient

    assert ChalkClient is chalkcompute.ChalkClient
    assert not (ROOT / "chalk" / "__init__.py").exists(), "it would shadow another installed `chalk`"


USERS_CALL = [
    (kind, name)
    for kind in (ChalkClient, Reads, ReadinessProbe, ScalingGroup)
    for name, value in vars(kind).items()
    if not name.startswith("_") and callable(getattr(kind, name)) and not isinstance(value, property)
]


@pytest.mark.parametrize(("kind", "name"), USERS_CALL, ids=lambda value: getattr(value, "__name__", value))
def test_what_users_call_says_what_each_argument_is(kind: type, name: str) -> None:
    method = getattr(kind, name)
    text = inspect.getdoc(method) or ""
    taken = [parameter for parameter in inspect.signature(method).parameters if parameter != "self"]
    if name in ("to_dict", "from_dict"):
        return  # one mapping, which the summary is about
    for parameter in taken:
        assert re.search(rf"^ +{parameter}: \S", text, re.MULTILINE), f"{kind.__name__}.{name}: {parameter}"
    assert not taken or "Raises:" in text or name == "over"


@pytest.mark.parametrize("kind", [ChalkClient, ScalingGroup])
def test_what_users_make_says_what_each_argument_is(kind: type) -> None:
    text = inspect.getdoc(kind) or ""
    for parameter in inspect.signature(kind).parameters:
        assert re.search(rf"^ +{parameter}: \S", text, re.MULTILINE), f"{kind.__name__}: {parameter}"


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("path", MODULES, ids=relative)
def test_modules_and_functions_stay_short(path: Path) -> None:
    source = path.read_text(encoding="utf-8")
    assert len(source.splitlines()) <= 400, f"{relative(path)} has more than 400 lines"
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            length -= len((ast.get_docstring(node, clean=False) or "").splitlines())  # prose is no branch
            assert length <= 60, f"{relative(path)}:{node.lineno} {node.name} has {length} lines"


def commands(command: click.Command, path: str = "chalk") -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            child = command.get_command(context, name)
            assert child is not None
            yield from commands(child, f"{path} {name}")


COMMANDS = dict(commands(cli))


def test_the_commands_there_are() -> None:
    assert list(scaling_group.list_commands(click.Context(scaling_group))) == [
        "create",
        "list",
        "get",
        "top",
        "delete",
        "manifests",
    ]
    assert set(local.commands) == {"up", "down", "status", "logs", "reset", "kubeconfig"}


def test_environment_variables_are_spelled_as_the_option_is() -> None:
    """What click makes of a parameter's name is what one makes of the option: `--all` is `…_ALL`."""
    for path, command in COMMANDS.items():
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.allow_from_autoenv and not parameter.envvar:
                long = [name for name in parameter.opts if name.startswith("--")]
                assert f"--{parameter.name}".replace("_", "-") in long, f"{path} {parameter.opts}"


@pytest.mark.parametrize("path", COMMANDS)
def test_every_command_and_option_has_help(path: str) -> None:
    command = COMMANDS[path]
    assert command.help
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            assert parameter.help, f"{path} {parameter.opts}"


def test_the_reference_of_the_command_line_is_fresh() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "cli_reference.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    page = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    for path in COMMANDS:
        assert f"\n## {path}\n" in page


def test_the_top_of_the_change_log_is_this_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    top = re.search(r"^## \[([^\]]+)\]", text, re.MULTILINE)
    assert top is not None
    assert top[1] == importlib.metadata.version("chalk-scaling-groups")


def tree(error: type[ChalkError], depth: int = 0) -> Iterator[tuple[int, str]]:
    yield depth, error.__name__
    for child in error.__subclasses__():
        if child.__module__ == chalkcompute.errors.__name__:
            yield from tree(child, depth + 1)


def drawn(text: str) -> list[tuple[int, str]]:
    """Depth and name of each line of a drawn tree."""
    found = []
    for line in text.splitlines():
        match = re.match(r"([│├└─ ]*)([A-Z]\w+Error)\b", line)
        if match:
            found.append((len(match[1]) // 4, match[2]))
    return found


def test_the_error_tree_is_drawn_as_it_is() -> None:
    docstring = inspect.cleandoc(chalkcompute.errors.__doc__ or "")
    indented = "\n".join(line.removeprefix("    ") for line in docstring.splitlines())
    page = (DOCS / "reference" / "errors.md").read_text(encoding="utf-8")
    actual = set(tree(ChalkError))
    assert set(drawn(indented)) == actual
    assert set(drawn(page)) == actual


def test_the_exit_codes_in_the_error_page() -> None:
    page = (DOCS / "reference" / "errors.md").read_text(encoding="utf-8")
    codes = dict(re.findall(r"(\w+Error)\b.*?\bexit (\d)", page))
    for _, name in tree(ChalkError):
        if name in codes:
            assert getattr(chalkcompute.errors, name).exit_code == int(codes[name]), name
    assert {"ChalkError", "SpecError", "NotFoundError", "ConflictError", "ClusterError"} <= set(codes)
    assert {"DeployFailedError", "WaitTimeoutError", "LocalClusterError"} <= set(codes)


@pytest.mark.parametrize(
    ("page", "values"),
    [("concepts/status.md", list(Status)), ("reference/verdicts.md", list(Cause))],
)
def test_closed_lists_are_documented_whole(page: str, values: list[str]) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    assert re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) == [str(value) for value in values]


def test_every_label_annotation_and_field_manager_is_documented() -> None:
    page = (DOCS / "concepts" / "what-we-create.md").read_text(encoding="utf-8")
    in_tables = set(re.findall(r"^\| `([^`]+)` \|", page, re.MULTILINE))
    for name, value in vars(labels).items():
        if name.isupper() and isinstance(value, str):
            if name.startswith("TAG_"):
                assert f"{value}<key>" in in_tables
            elif "/" in value:
                assert value in in_tables, name
            else:
                assert f"`{value}`" in page, name


def test_the_fields_of_a_group_are_documented() -> None:
    page = (DOCS / "reference" / "sdk.md").read_text(encoding="utf-8")
    section = page.split("## ScalingGroupInfo")[1].split("\n## ")[0]
    documented = re.findall(r"^\| `\.(\w+)` \|", section, re.MULTILINE)
    assert documented == [field.name for field in dataclasses.fields(ScalingGroupInfo)]
    properties = [name for name, value in vars(ScalingGroupInfo).items() if isinstance(value, property)]
    assert [name for name in properties if f"`.{name}`" not in section] == []
    for field in dataclasses.fields(ReplicaCounts):
        assert f"`{field.name}`" in section


@pytest.mark.parametrize("kind", [Image, Secret, Volume])
def test_the_methods_of_what_goes_into_a_group_are_documented(kind: type) -> None:
    page = (DOCS / "reference" / "sdk.md").read_text(encoding="utf-8")
    section = page.split(f"\n## {kind.__name__}\n")[1].split("\n## ")[0]
    for name in vars(kind):
        if callable(getattr(kind, name)) and not name.startswith("_") and name != "request":
            shown = re.findall(rf"^\| `[\w.]*\.{name}\((.*)\)` \|", section, re.MULTILINE)
            assert len(shown) == 1, name
            for parameter in inspect.signature(getattr(kind, name)).parameters:
                assert parameter == "self" or re.search(rf"\b{parameter}\b", shown[0]), f"{name}: {parameter}"


def test_what_a_wait_can_be_for_is_documented() -> None:
    page = (DOCS / "reference" / "sdk.md").read_text(encoding="utf-8")
    section = page.split("`until`")[1].split("\n## ")[0]
    assert re.findall(r"^\| `\"(\w+)\"` \|", section, re.MULTILINE) == list(get_args(Until))


def test_every_environment_variable_of_the_settings_is_documented() -> None:
    read = set()
    for path in MODULES:
        if ROOT / "chalkcompute" / "local" not in path.parents:  # what its own processes tell each other
            read |= set(re.findall(r"\"(CHALK_[A-Z_]+[A-Z])\"", path.read_text(encoding="utf-8")))
    page = (DOCS / "reference" / "environment.md").read_text(encoding="utf-8")
    documented = set(re.findall(r"`(CHALK_[A-Z_]+)`", page))
    assert read - documented == set()


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", text):
        assert (page.parent / target).exists(), f"{relative(page)} links to {target}"


def flags(command: click.Command) -> set[str]:
    return {name for parameter in command.params for name in parameter.opts + parameter.secondary_opts}


@pytest.mark.parametrize("page", PAGES, ids=relative)
def test_commands_shown_in_pages_exist(page: Path) -> None:
    """Every `chalk …` in a code block names a command that is there, and only options that it takes."""
    root = flags(cli) | {"--help"}
    for block in re.findall(r"```(?:console|sh|bash)\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
        for line in block.replace("\\\n", " ").splitlines():
            words = line.removeprefix("$ ").split(" # ")[0].split()
            if not words or words[0] not in ("chalk", ".venv/bin/chalk"):
                continue
            names = [word for word in words[1:] if not word.startswith("-")]
            noun = "scaling-group" if names and names[0] == "sg" else "".join(names[:1])
            path = " ".join(["chalk", noun, *names[1:2]])
            command = COMMANDS.get(path) or COMMANDS.get(f"chalk {noun}".strip())
            assert command is not None, f"{relative(page)}: {line}"
            used = set(re.findall(r"(?<!\S)(--[a-z][a-z-]*)", " ".join(words).split(" -- ")[0]))
            assert used <= flags(command) | root, f"{relative(page)}: {line}"
