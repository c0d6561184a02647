"""Local files of an `Image`, read: which of a directory there are, and the hash of each."""

from __future__ import annotations

import hashlib
import os
import posixpath
import stat
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from chalkcompute.errors import SpecError
from chalkcompute.image import LocalDirectory, LocalFile

if TYPE_CHECKING:
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

__all__ = ["SourceFile", "SourceSet", "collect"]

_IGNORE_FILES = (".gitignore", ".chalkignore")
# `__pycache__` comes and goes as the code runs here: with it, equal code would be another image.
_NEVER = frozenset({".git", ".chalkignore", "__pycache__"})
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file.

    Attributes:
        source: Where its content is, absolute; of a link, what the link leads to.
        path: Absolute path in the container.
        mode: Permission bits there.
        size: Bytes.
        sha256: Hash of the content, hexadecimal.
    """

    source: Path
    path: str
    mode: int
    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class SourceSet:
    """The files of one `add_local_file` or `add_local_dir`.

    Attributes:
        destination: Absolute path in the container, of the file or the directory.
        is_directory: Whether it is a directory.
        files: In order of their paths; of a directory perhaps none.
    """

    destination: str
    is_directory: bool
    files: tuple[SourceFile, ...]


def collect(item: LocalFile | LocalDirectory) -> SourceSet:
    """The files of `item` as they are now.

    Raises:
        SpecError: Something is missing, cannot be read, is no file (a socket, a device), or is a link that
            leads out of the directory or to what is left out.
    """
    if isinstance(item, LocalFile):
        found = _read(item.source, item.destination, item.mode)
        return SourceSet(item.destination, is_directory=False, files=(found,))
    tree = _Tree(item)
    files = [_read(path, posixpath.join(item.destination, name), None) for name, path in tree.files()]
    return SourceSet(item.destination, is_directory=True, files=tuple(sorted(files, key=lambda f: f.path)))


def _read(source: Path, path: str, mode: int | None) -> SourceFile:
    _check_name(path)
    try:
        facts = source.stat()
        if not stat.S_ISREG(facts.st_mode):
            # Opening a pipe would wait for its writer.
            raise SpecError(f"`{source}` is not a file but {_kind(facts.st_mode)}", field="image")
        digest, size = hashlib.sha256(), 0
        with source.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
    except OSError as error:
        raise _unreadable(source, error) from None
    kept = 0o755 if facts.st_mode & stat.S_IXUSR else 0o644
    return SourceFile(source, path, kept if mode is None else mode, size, digest.hexdigest())


class _Tree:
    """The files below one directory, by the rules of git."""

    def __init__(self, item: LocalDirectory) -> None:
        self._root = item.source
        self._exclude = _Rules("", item.exclude)
        try:
            self._real_root = item.source.resolve(strict=True)
        except OSError as error:
            raise _unreadable(item.source, error) from None

    def files(self) -> Iterator[tuple[str, Path]]:
        """Relative path and source of each, links followed."""
        yield from self._walk("", self._root, (), (self._real_root,))

    def _walk(
        self, name: str, folder: Path, above: tuple[_Rules, ...], entered: tuple[Path, ...]
    ) -> Iterator[tuple[str, Path]]:
        rules = (*above, _Rules(name, _ignore_lines(folder)))
        try:
            entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        except OSError as error:
            raise _unreadable(folder, error) from None
        for entry in entries:
            path, below = Path(entry.path), posixpath.join(name, entry.name)
            # git takes a link for a file, whatever it leads to; here `node_modules/` means a link as well.
            kinds = {entry.is_dir(follow_symlinks=False), _is_folder(path)}
            if any(self._is_out(below, is_folder, rules) for is_folder in kinds):
                continue
            source = self._followed(path, below) if entry.is_symlink() else path
            if not source.is_dir():
                yield below, source
            elif entry.is_symlink():
                if source in entered:
                    raise SpecError(f"the link `{path}` leads to `{source}`, which it is in", field="image")
                yield from self._walk(below, source, rules, (*entered, source))
            else:
                yield from self._walk(below, path, rules, (*entered, path.resolve()))

    def _is_out(self, name: str, is_folder: bool, rules: Sequence[_Rules]) -> bool:
        if posixpath.basename(name) in _NEVER:
            return True
        for rule in (self._exclude, *reversed(rules)):
            verdict = rule.verdict(name, is_folder)
            if verdict is not None:
                return verdict
        return False

    def _followed(self, link: Path, name: str) -> Path:
        """What a link leads to, when that is inside the directory and not left out itself."""
        target = link.readlink()
        try:
            real = link.resolve(strict=True)
        except (OSError, RuntimeError):
            raise SpecError(
                f"the link `{link}` leads to `{target}`, which is not there", field="image"
            ) from None
        if not real.is_relative_to(self._real_root):
            raise SpecError(
                f"the link `{link}` leads to `{target}`, out of `{self._root}`",
                field="image",
                hint="leave it out with `exclude=`, or put what it leads to into the directory",
            )
        if self._is_left_out(real.relative_to(self._real_root).parts, real.is_dir()):
            raise SpecError(
                f"the link `{link}` leads to `{target}`, which is left out",
                field="image",
                hint=f"leave out the link too: `exclude=[{'/' + name!r}]`",
            )
        return real

    def _is_left_out(self, parts: Sequence[str], is_folder: bool) -> bool:
        rules: list[_Rules] = []
        for depth in range(len(parts)):
            above = "/".join(parts[:depth])
            rules.append(_Rules(above, _ignore_lines(self._real_root / above)))
            if self._is_out("/".join(parts[: depth + 1]), is_folder or depth + 1 < len(parts), rules):
                return True
        return False


class _Rules:
    """The patterns of one folder; they speak of what is below it."""

    def __init__(self, folder: str, lines: Iterable[str]) -> None:
        self._skip = len(folder) + 1 if folder else 0
        self._patterns = _patterns(lines)

    def verdict(self, name: str, is_folder: bool) -> bool | None:
        """Whether `name` is left out; None when no pattern speaks of it. The last pattern decides."""
        path = name[self._skip :] + ("/" if is_folder else "")
        for pattern in reversed(self._patterns):
            if pattern.include is not None and _matches(pattern, path):
                return pattern.include
        return None


def _matches(pattern: GitIgnoreSpecPattern, path: str) -> bool:
    """Whether `pattern` speaks of `path` itself.

    `pathspec` matches all below a folder that is matched, which gives a re-included folder's pattern a say
    about its content that git does not give it. The group `ps_d` is where the folder ends.
    """
    found = pattern.match_file(path)
    if found is None:
        return False
    match = found.match
    if "ps_d" in match.re.groupindex and match["ps_d"] is not None:
        return bool(match.end("ps_d") == len(path))
    return not path.endswith("/") or match.end() < len(path)  # `a/**` is all in `a`, not `a` itself


def _patterns(lines: Iterable[str]) -> list[GitIgnoreSpecPattern]:
    from pathspec.patterns.gitignore.base import GitIgnorePatternError
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    found = []
    for line in lines:
        try:
            found.append(GitIgnoreSpecPattern(_plain(line)))
        except GitIgnorePatternError:
            continue  # what cannot match anything, git passes over as well
    return found


def _plain(line: str) -> str:
    """Endings that `pathspec` and git read differently, in a form that both read alike."""
    sign, body = ("!", line[1:]) if line.startswith("!") else ("", line)
    if body in ("*/", "**/"):
        return f"{sign}**/*/"
    if body.endswith("/**/"):
        return f"{sign}{body[:-1]}/*/"
    return line


def _ignore_lines(folder: Path) -> list[str]:
    lines: list[str] = []
    for name in _IGNORE_FILES:
        path = folder / name
        if not path.is_file():
            continue
        try:
            text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")
        except OSError as error:
            raise _unreadable(path, error) from None
        lines += [line.removesuffix("\r") for line in text.split("\n")]
    return lines


def _is_folder(path: Path) -> bool:
    """Whether it is one, links followed; a link in a ring, or to what may not be seen, is none."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _check_name(path: str) -> None:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        shown = path.encode("utf-8", "backslashreplace").decode()
        raise SpecError(f"the file name of `{shown}` is not UTF-8", field="image") from None


def _unreadable(path: Path, error: OSError) -> SpecError:
    missing = isinstance(error, FileNotFoundError)
    reason = "does not exist any more" if missing else f"cannot be read: {error.strerror}"
    return SpecError(f"`{path}` {reason}", field="image")


def _kind(mode: int) -> str:
    for test, word in (
        (stat.S_ISDIR, "a directory"),
        (stat.S_ISFIFO, "a named pipe"),
        (stat.S_ISSOCK, "a socket"),
        (stat.S_ISBLK, "a device"),
        (stat.S_ISCHR, "a device"),
    ):
        if test(mode):
            return word
    return "something else"
