"""Where the files of wheels go in the image."""

from __future__ import annotations

from pathlib import Path

from chalkcompute.build.pythons import ImagePython
from chalkcompute.build.wheels import installed_entries

PYTHON = ImagePython("3.12", "/usr/local/lib/python3.12/site-packages", "/usr/local")


def _paths(folder: Path, *names: str) -> set[str]:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("")
    return {entry.path for entry in installed_entries(folder, PYTHON)}


def test_libraries_of_c_go_where_the_loader_is_told_to_look(tmp_path: Path) -> None:
    # As `uv --target` leaves `mkl.data/data/lib`; its wheels find it by `sys.prefix` and by `$ORIGIN/../..`.
    assert _paths(tmp_path, "lib/libmkl.so.2", "mkl.py") == {
        "/usr/local/lib/libmkl.so.2",
        f"{PYTHON.site}/mkl.py",
    }


def test_a_package_called_lib_is_a_package(tmp_path: Path) -> None:
    assert _paths(tmp_path, "lib/part/a.py", "share/a", "share/b.py") == {
        f"{PYTHON.site}/lib/part/a.py",
        "/usr/local/share/a",
        "/usr/local/share/b.py",
    }
