"""What an `Image` becomes when nothing has to be built."""

from __future__ import annotations

from pathlib import Path

from chalkcompute.image import Image
from chalkcompute.prepare import prepare_image
from chalkcompute.session import Session
from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.spec.content import Content


def _warnings(image: Image) -> tuple[str, ...]:
    spec = ScalingGroupSpec(name="web", image=image.placeholder)
    return prepare_image(Session({}), spec, image, Content(), push=False).warnings


def test_a_dotenv_file_that_comes_along_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("TOKEN=hunter2\n")
    (tmp_path / "app.py").write_text("")
    base = Image.debian_slim("3.12")
    (warning,) = _warnings(base.add_local_dir(tmp_path, "/app"))
    assert f"`{tmp_path}/.env` goes along to `/app/.env`" in warning
    assert "hunter2" not in warning
    assert _warnings(base.add_local_dir(tmp_path, "/app", exclude=[".env"])) == ()
    assert _warnings(base.add_local_file(tmp_path / ".env", "/app/.env")) == ()  # that was meant
    (tmp_path / ".gitignore").write_text(".env\n")
    assert _warnings(base.add_local_dir(tmp_path, "/app")) == ()


def test_a_directory_of_which_nothing_comes_along_is_warned_of(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text("")
    base = Image.debian_slim("3.12")
    (warning,) = _warnings(base.add_local_dir(tmp_path, "/app", exclude=["*"]))
    assert warning.startswith("nothing of the directory for `/app` goes along")
    assert _warnings(base.add_local_dir(tmp_path, "/app")) == ()
