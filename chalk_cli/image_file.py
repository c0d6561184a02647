"""`--image=file.py:name`: an `Image` that a Python file describes."""

from __future__ import annotations

import contextlib
import importlib.util
import re
import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from types import ModuleType

    from chalkcompute import Image

__all__ = ["load_image"]

_FORM = re.compile(r"(?P<file>.*\.py):(?P<name>[^\W\d]\w*)")  # no reference: a repository ends in no `.py:`
_MODULE = "chalk_image_file"


def load_image(text: str) -> Image | None:
    """The `Image` that `--image` names in a Python file, or None when it names a reference.

    The file is run as when it is imported: what stands under `if __name__ == "__main__":` is not. Its folder
    is on the import path meanwhile, as with `python file.py`.

    Raises:
        click.UsageError: There is no such file or name, it cannot be run, or what it names is no `Image`.
    """
    match = _FORM.fullmatch(text)
    if match is None and text.endswith(".py") and Path(text).is_file():
        raise click.UsageError(f"`--image`: which `Image` of `{text}`? Write `--image={text}:NAME`")
    if match is None or not (Path(match["file"]).is_file() or _is_path(match["file"])):
        return None
    path, name = Path(match["file"]), match["name"]
    if not path.is_file():
        raise click.UsageError(f"`--image`: there is no file `{path}`")
    module = _run(path)
    if not hasattr(module, name):
        raise click.UsageError(f"`--image`: `{path}` has no `{name}`{_offered(module)}")

    from chalkcompute import Image

    found = getattr(module, name)
    if not isinstance(found, Image):
        raise click.UsageError(
            f"`--image`: `{name}` of `{path}` is no `Image` but {type(found).__name__}{_offered(module)}"
        )
    return found


def _is_path(text: str) -> bool:
    """Whether a reference could not look like this: `./app.py`, `/srv/app.py`, `App.py`, `app.py`."""
    return text.startswith((".", "/", "~")) or "/" not in text


def _run(path: Path) -> ModuleType:
    from chalkcompute.errors import ChalkError, SpecError

    spec = importlib.util.spec_from_file_location(_MODULE, path)
    if spec is None or spec.loader is None:
        raise click.UsageError(f"`--image`: `{path}` cannot be loaded as Python")
    module = importlib.util.module_from_spec(spec)
    real = path.resolve()  # while the working folder is ours: the file may go to another
    sys.path.insert(0, str(real.parent))
    sys.modules[_MODULE] = module  # dataclasses and pickles of the file look for it
    try:
        # What it prints is no result of ours: `-o name` must stay a name.
        with contextlib.redirect_stdout(sys.stderr):
            spec.loader.exec_module(module)
    except SpecError as error:
        raise SpecError(
            f"`{path}` {_line(error, real)}{error.message}", field=error.field, hint=error.hint
        ) from error
    except ChalkError:
        raise  # what it does with a cluster says so itself
    except (Exception, SystemExit) as error:
        # Who ends the program in there would have deployed nothing and seen no error.
        raise click.UsageError(f"`--image`: `{path}` cannot be run: {_what(error, real)}") from error
    finally:
        with contextlib.suppress(ValueError):  # the file may have taken it out itself
            sys.path.remove(str(real.parent))
    return module


def _what(error: Exception | SystemExit, path: Path) -> str:
    """The exception and the last line of the file that led to it."""
    if isinstance(error, SyntaxError):
        return f"line {error.lineno}: {error.msg}"
    return f"{_line(error, path)}{type(error).__name__}: {error}"


def _line(error: BaseException, path: Path) -> str:
    lines = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if _same(frame.filename, path)
    ]
    return f"line {lines[-1]}: " if lines else ""


def _same(filename: str, path: Path) -> bool:
    return Path(filename).resolve() == path


def _offered(module: Any) -> str:
    from chalkcompute import Image

    names = sorted(name for name, value in vars(module).items() if isinstance(value, Image))
    return f"; there is {', '.join(f'`{name}`' for name in names)}" if names else ""
