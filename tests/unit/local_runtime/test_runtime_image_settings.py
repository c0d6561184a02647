"""What images say of themselves: users, commands, platforms, and paths with links."""

from __future__ import annotations

import platform
import posixpath
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalkcompute.local.ports import ReplicaSpec, StartError
from chalkcompute.local.runtime.identity import Identity, identify
from chalkcompute.local.runtime.imageconfig import ImageConfig, foreign_platform
from chalkcompute.local.runtime.scoped import resolve
from tests.properties import examples


@pytest.fixture
def accounts(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "passwd").write_text(
        "# a comment\nroot:x:0:0:root:/root:/bin/sh\nweb:x:33:44::/srv:/bin/sh\nhomeless:x:5:6:::\n"
        "bad:x:one:two::/:\nshort:x:9\n"
    )
    (tmp_path / "group").write_text("root:x:0:\nstaff:x:50:web,homeless\nwww:x:44:web\nbad:x:y:web\n")
    return {"passwd": str(tmp_path / "passwd"), "group": str(tmp_path / "group")}


@pytest.mark.parametrize(
    ("user", "wanted"),
    [
        ("", Identity(0, 0, (), "/root")),
        ("root", Identity(0, 0, (), "/root")),
        ("web", Identity(33, 44, (50, 44), "/srv")),
        ("33", Identity(33, 44, (50, 44), "/srv")),
        ("web:staff", Identity(33, 50, (), "/srv")),
        ("web:7", Identity(33, 7, (), "/srv")),
        (":staff", Identity(0, 50, (), "/root")),
        ("homeless", Identity(5, 6, (50,), "/")),
        ("1000", Identity(1000, 0, (), "/")),
        ("1000:1001", Identity(1000, 1001, (), "/")),
    ],
)
def test_users(accounts: dict[str, str], user: str, wanted: Identity) -> None:
    assert identify(user, **accounts) == wanted


@pytest.mark.parametrize("user", ["nobody", "bad", "short", "-1", "web:nobody", "web:bad", "root,web"])
def test_users_that_are_none(accounts: dict[str, str], user: str) -> None:
    with pytest.raises(LookupError, match=r"no matching entries in (passwd|group) file"):
        identify(user, **accounts)


def test_images_without_accounts(tmp_path: Path) -> None:
    absent = str(tmp_path / "absent")
    assert identify("", passwd=absent, group=absent) == Identity(0, 0, (), "/")
    assert identify("12:13", passwd=absent, group=absent) == Identity(12, 13, (), "/")


def spec(**changes: Any) -> ReplicaSpec:
    return ReplicaSpec("default", "web", "uid", "app", "localhost/x:1", **changes)


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "command", "args", "wanted"),
    [
        # The table of the Kubernetes documentation.
        (["/ep-1"], ["foo", "bar"], (), (), ["/ep-1", "foo", "bar"]),
        (["/ep-1"], ["foo", "bar"], ("/ep-2",), (), ["/ep-2"]),
        (["/ep-1"], ["foo", "bar"], (), ("zoo", "boo"), ["/ep-1", "zoo", "boo"]),
        (["/ep-1"], ["foo", "bar"], ("/ep-2",), ("zoo", "boo"), ["/ep-2", "zoo", "boo"]),
        (None, ["foo"], (), (), ["foo"]),
        (["/ep-1"], None, (), (), ["/ep-1"]),
    ],
)
def test_command_lines(
    entrypoint: Any, cmd: Any, command: tuple[str, ...], args: tuple[str, ...], wanted: list[str]
) -> None:
    config = ImageConfig.parse({"config": {"Entrypoint": entrypoint, "Cmd": cmd}})
    assert config.command_line(spec(command=command, args=args)) == wanted


@pytest.mark.parametrize("document", [{}, {"config": None}, {"config": {"Entrypoint": [], "Cmd": []}}])
def test_no_command_at_all(document: dict[str, Any]) -> None:
    with pytest.raises(StartError, match=r"no command specified: image \"localhost/x:1\" has neither"):
        ImageConfig.parse(document).command_line(spec())


def test_what_else_an_image_says() -> None:
    config = ImageConfig.parse(
        {"config": {"Env": ["A=b=c", "EMPTY=", "=x", "ALONE"], "WorkingDir": "srv", "User": "web"}}
    )
    assert config.env == {"A": "b=c", "EMPTY": "", "ALONE": ""}
    assert (config.working_dir, config.user) == ("/srv", "web")
    assert ImageConfig.parse({"config": {"Env": 5, "Cmd": "words", "User": None}}) == ImageConfig()


@pytest.mark.parametrize(
    ("machine", "document", "wanted"),
    [
        ("x86_64", {"architecture": "amd64", "os": "linux"}, None),
        ("aarch64", {"architecture": "arm64", "os": "linux"}, None),
        ("arm64", {"architecture": "arm64"}, None),
        ("x86_64", {}, None),
        ("x86_64", {"architecture": "arm64", "os": "linux"}, "linux/arm64"),
        ("x86_64", {"architecture": "amd64", "os": "windows"}, "windows/amd64"),
    ],
)
def test_platforms(
    monkeypatch: pytest.MonkeyPatch, machine: str, document: dict[str, str], wanted: str | None
) -> None:
    monkeypatch.setattr(platform, "machine", lambda: machine)
    assert foreign_platform(document) == wanted


def test_links_in_a_circle() -> None:
    with pytest.raises(OSError, match="symbolic links"):
        resolve("/a/x", {"/a": "b", "/b": "/a"}.get)


PARTS = st.sampled_from(["a", "b", "c", "..", ".", "", "/"])
PATHS = st.lists(PARTS, max_size=5).map("/".join)


@examples(300)
@given(PATHS, st.dictionaries(st.sampled_from(["/a", "/b", "/a/b", "/c", "/c/a"]), PATHS, max_size=4))
def test_no_link_leads_out(path: str, links: dict[str, str]) -> None:
    try:
        found = resolve(path, links.get)
    except OSError:  # links in a circle
        return
    assert found.startswith("/")
    assert ".." not in found.split("/")
    assert posixpath.normpath(found) == found
    # Free of links: each part of it is itself.
    parts = found.split("/")
    assert not any("/".join(parts[:end]) in links for end in range(2, len(parts) + 1))


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/lib/x", "/usr/lib/x"),
        ("/var/run/y", "/run/y"),
        ("/deep/up", "/"),
        ("/none/there", "/none/there"),
        ("/../../etc", "/etc"),
        ("/lib/../x", "/usr/x"),
    ],
)
def test_links_are_followed(path: str, wanted: str) -> None:
    links = {"/lib": "usr/lib", "/var/run": "/run", "/deep/up": "../../.."}
    assert resolve(path, links.get) == wanted
