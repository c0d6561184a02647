"""Which files of a directory there are: git itself is the judge."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalkcompute.errors import SpecError
from chalkcompute.image import Image
from chalkcompute.sources import SourceSet, collect
from tests.properties import examples


def _write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def _collected(root: Path, exclude: tuple[str, ...] = ()) -> SourceSet:
    return collect(Image.base("a").add_local_dir(root, "/x", exclude=exclude).files[0])


def _names(root: Path, exclude: tuple[str, ...] = ()) -> list[str]:
    return [file.path.removeprefix("/x/") for file in _collected(root, exclude).files]


_PART = st.sampled_from(["a", "b", "ab", "a.c", "build", ".env", "#x", "!y", "z z"])
_PATHS = st.lists(_PART, min_size=1, max_size=4).map("/".join)
_GLOB = st.sampled_from(
    ["a", "b", "*", "**", "a*", "?", "[ab]", "[!a]", "*.c", "build", ".env", "\\#x", "z z"]
)
_PATTERN = st.tuples(
    st.sampled_from(["", "", "!", "!", "/", "!/", "#", "\\"]),
    st.lists(_GLOB, min_size=1, max_size=3).map("/".join),
    st.sampled_from(["", "", "/", " ", "\\ ", "/**", "/*"]),
).map("".join)
_IGNORE = st.lists(_PATTERN, max_size=5).map("\n".join)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is the judge")
@examples(150)
@given(
    paths=st.lists(_PATHS, min_size=1, max_size=14),
    ignores=st.dictionaries(st.sampled_from(["", "a/", "b/", "a/b/", "build/"]), _IGNORE, max_size=4),
)
def test_gitignore_means_what_git_means(paths: list[str], ignores: dict[str, str]) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        for path in paths:
            target = root / path
            if any(above.is_file() for above in target.parents) or target.exists():
                continue
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text("")
        for folder, text in ignores.items():
            if (root / folder).is_dir():
                (root / folder / ".gitignore").write_text(text)
        subprocess.run(["git", "init", "-q", name], check=True)
        listed = subprocess.run(
            ["git", "-C", name, "ls-files", "-o", "-z", "--exclude-per-directory=.gitignore"],
            check=True,
            capture_output=True,
        ).stdout.decode()
        assert _names(root) == sorted(filter(None, listed.split("\0")))


def test_the_patterns_that_people_write(tmp_path: Path) -> None:
    kept = {"app.py": "", "src/main.py": "", "src/secret.env": "", "keep.log": "", "src/data/keep.csv": ""}
    out = {
        "secret.env": "",
        "node_modules/x/index.js": "",
        "src/node_modules/y.js": "",
        ".venv/bin/python": "",
        "src/__pycache__/main.pyc": "",
        "noise.log": "",
        "src/data/big.csv": "",
        ".git/config": "",
        "notes.txt": "",
    }
    _write(tmp_path, kept | out)
    _write(
        tmp_path,
        {
            ".gitignore": "/secret.env\nnode_modules/\n.venv/\n__pycache__/\n*.log\n!keep.log\n!notes.txt\n",
            ".chalkignore": "notes.txt\r\n",
            "src/.chalkignore": "/data/*\n!/data/keep.csv\n",
        },
    )
    assert _names(tmp_path) == sorted([*kept, ".gitignore"])


def test_exclude_has_the_last_word(tmp_path: Path) -> None:
    _write(
        tmp_path,
        {"a.txt": "", "b.txt": "", "d/c.txt": "", "d/.gitignore": "!c.txt\n", ".gitignore": "b.txt\n"},
    )
    assert _names(tmp_path, ("/d/c.txt", "a.txt", "!b.txt", ".gitignore")) == ["b.txt"]


def test_what_python_leaves_behind_changes_nothing(tmp_path: Path) -> None:
    _write(tmp_path, {"pkg/a.py": "a"})
    before = _collected(tmp_path)
    _write(tmp_path, {"pkg/__pycache__/a.cpython-312.pyc": "compiled", "__pycache__/b.pyc": ""})
    assert _collected(tmp_path) == before


def test_a_file_is_what_it_is_and_can_be_executed(tmp_path: Path) -> None:
    _write(tmp_path, {"run": "hello", "plain": ""})
    (tmp_path / "run").chmod(0o750)
    plain, run = _collected(tmp_path).files
    assert (run.path, run.mode, run.size) == ("/x/run", 0o755, 5)
    assert run.sha256 == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    assert plain.mode == 0o644
    one = collect(Image.base("a").add_local_file(tmp_path / "run", "/bin/", mode=0o700).files[0])
    assert [(one.destination, file.path, file.mode) for file in one.files] == [
        ("/bin/run", "/bin/run", 0o700)
    ]


def test_links_inside_are_followed_and_no_others(tmp_path: Path) -> None:
    _write(tmp_path, {"lib/a.py": "a", "secret": "s", ".gitignore": "secret\nout\n.venv/\n"})
    (tmp_path / "link").symlink_to("lib")
    (tmp_path / "one.py").symlink_to("lib/a.py")
    (tmp_path / "out").symlink_to("/etc")  # left out, so nobody minds
    (tmp_path / ".venv").symlink_to("/usr")
    assert _names(tmp_path) == [".gitignore", "lib/a.py", "link/a.py", "one.py"]

    (tmp_path / "lib/up").symlink_to("..")
    with pytest.raises(SpecError, match="which it is in"):
        _collected(tmp_path)
    (tmp_path / "lib/up").unlink()

    (tmp_path / "bad").symlink_to("secret")
    with pytest.raises(SpecError, match="`secret`, which is left out"):
        _collected(tmp_path)
    (tmp_path / "bad").unlink()

    (tmp_path / "bad").symlink_to("nowhere")
    with pytest.raises(SpecError, match="`nowhere`, which is not there"):
        _collected(tmp_path)
    (tmp_path / "bad").unlink()

    (tmp_path / "bad").symlink_to("bad")
    with pytest.raises(SpecError, match="bad` leads to `bad`"):
        _collected(tmp_path)
    assert "bad" not in _names(tmp_path, exclude=("bad",))
    (tmp_path / "bad").unlink()

    (tmp_path / "bad").symlink_to("/etc")
    with pytest.raises(SpecError, match=r"bad` leads to `/etc`, out of") as caught:
        _collected(tmp_path)
    assert caught.value.field == "image"


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(SpecError, match="pipe` is not a file but a named pipe"):
        _collected(tmp_path)
    (tmp_path / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s"))
        with pytest.raises(SpecError, match="not a file but a socket"):
            _collected(tmp_path)


def test_what_goes_away_after_the_description(tmp_path: Path) -> None:
    _write(tmp_path, {"a": ""})
    item = Image.base("a").add_local_file(tmp_path / "a", "/a").files[0]
    (tmp_path / "a").unlink()
    with pytest.raises(SpecError, match="does not exist any more"):
        collect(item)
