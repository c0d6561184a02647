"""Replicas of real images, and of images over the host base, in every tier that this machine allows."""

from __future__ import annotations

import asyncio
import os
import platform
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chalkcompute.local.ports import ImagePullError, Mount, StartError
from tests.unit.local_runtime.conftest import TIERS, RunSandboxed, Sandbox
from tests.unit.local_runtime.images import FakeImages, Member, archive, host_programs

IMAGE = "localhost:5000/team/app:1"
VERSION = platform.python_version()
MINOR = ".".join(VERSION.split(".")[:2])
SITE = f"usr/local/lib/python{MINOR}/site-packages"
NAMESPACES = [name for name in TIERS if name.startswith("ns-")]

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="images are for Linux")
needs_namespaces = pytest.mark.skipif(not NAMESPACES, reason="this machine allows no namespaces")


@pytest.fixture(scope="module")
def root() -> bytes:
    """A layer with a shell and a few programs."""
    entries: list[Member] = [
        *host_programs("sh", "cat", "ls", "id", "env", "touch", "stat", "readlink"),
        ("etc/passwd", b"root:x:0:0:r:/root:/bin/sh\nweb:x:1234:2345::/home/web:/bin/sh\nbad\n"),
        ("etc/group", b"root:x:0:\nweb:x:2345:\nextra:x:77:web,x\n"),
        ("tmp", None),
    ]
    return archive(*entries)


@pytest.fixture(params=NAMESPACES)
def namespaces(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def imaged(tmp_path: Path, sandboxed: RunSandboxed) -> Callable[[str, FakeImages, Any], Any]:
    """Runs a scenario in a tier, with images."""

    def run(tier: str, images: FakeImages, scenario: Callable[[Sandbox], Any]) -> Any:
        async def main(box: Sandbox) -> Any:
            await box.use(images)
            return await scenario(box)

        return sandboxed(tier, main)

    return run


@pytest.fixture
def images(tmp_path: Path) -> FakeImages:
    return FakeImages(tmp_path / "blobs")


@needs_namespaces
def test_a_real_image_is_the_root(namespaces: str, root: bytes, images: FakeImages, imaged: Any) -> None:
    images.add(IMAGE, root, archive(("app/data", b"of the image")), config={"WorkingDir": "/app"})
    script = (
        "cat data; touch data new /etc/new; ls -a / /app; cat /etc/hostname /etc/hosts; ls /dev /proc/1/fd"
    )

    async def scenario(box: Sandbox) -> None:
        assert (await box.runtime.pull(IMAGE, policy="Always"))[0].startswith("localhost@sha256:")
        ended, output = await box.run("sh", "-ec", script, image=IMAGE)
        assert ended.exit_code == 0, output
        assert output.startswith("of the image")
        assert "home" not in output
        assert {"data", "new", "web", "null", "shm"} <= set(output.split())
        # Nothing of one replica is seen by the next, nor written to the layers.
        _, output = await box.run("ls", "/app", image=IMAGE, pod="next")
        assert output == "data\n"
        assert images.policies == ["Always"]

    imaged(namespaces, images, scenario)


@needs_namespaces
def test_whose_words_are_run(namespaces: str, root: bytes, images: FakeImages, imaged: Any) -> None:
    show = b'#!/bin/sh\necho "$0 $*"\n'
    config = {"Entrypoint": ["/show", "a"], "Cmd": ["b", "c"], "Env": ["PATH=/bin", "A=image", "B=image=b"]}
    images.add(IMAGE, root, archive(("show", show), ("other", show)), config=config)
    images.add("localhost/none:1", root)

    async def scenario(box: Sandbox) -> None:
        for pod, changes, words in (
            ("neither", {}, "/show a b c"),
            ("args", {"args": ("x",)}, "/show a x"),
            ("command", {"command": ("/other",)}, "/other "),
            ("both", {"command": ("/other", "y"), "args": ("x",)}, "/other y x"),
        ):
            _, output = await box.run(**{"image": IMAGE, "pod": pod, **changes})
            assert output == f"{words}\n", pod
        _, output = await box.run("env", image=IMAGE, pod="env", env={"A": "pod", "C": "pod"})
        found = set(output.splitlines())
        assert {"A=pod", "B=image=b", "C=pod", "PATH=/bin", "HOSTNAME=env", "HOME=/root"} <= found
        with pytest.raises(StartError, match="no command specified"):
            await box.run(image="localhost/none:1", pod="none")

    imaged(namespaces, images, scenario)


@pytest.mark.skipif("ns-root" not in TIERS, reason="takes root")
@pytest.mark.parametrize(
    ("user", "shown", "home"),
    [
        ("", "uid=0(root) gid=0(root) groups=0(root)", "/root"),
        ("web", "uid=1234(web) gid=2345(web) groups=2345(web),77(extra)", "/home/web"),
        ("1234", "uid=1234(web) gid=2345(web) groups=2345(web),77(extra)", "/home/web"),
        ("web:extra", "uid=1234(web) gid=77(extra) groups=77(extra)", "/home/web"),
        ("999:998", "uid=999 gid=998 groups=998", "/"),
        ("999", "uid=999 gid=0(root) groups=0(root)", "/"),
        ("nobody", "unable to find user nobody: no matching entries in passwd file", ""),
        ("web:none", "unable to find group none: no matching entries in group file", ""),
    ],
)
def test_the_images_user(
    root: bytes, images: FakeImages, imaged: Any, user: str, shown: str, home: str
) -> None:
    images.add(IMAGE, root, config={"User": user})
    script = 'id; echo "HOME=$HOME"; echo written > /dev/stdout'

    async def scenario(box: Sandbox) -> None:
        if not home:
            with pytest.raises(StartError, match=shown):
                await box.run("id", image=IMAGE)
            return
        ended, output = await box.run("sh", "-c", script, image=IMAGE)
        assert (ended.exit_code, output) == (0, f"{shown}\nHOME={home}\nwritten\n")

    imaged("ns-root", images, scenario)


@pytest.fixture
def strict() -> Iterator[None]:
    """The daemon keeps what it writes to itself."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.mark.skipif("ns-root" not in TIERS, reason="takes root")
@pytest.mark.usefixtures("strict")
def test_another_user_may_read_and_own(root: bytes, images: FakeImages, imaged: Any) -> None:
    home = tarfile.TarInfo()
    home.type, home.mode, home.uid, home.gid = tarfile.DIRTYPE, 0o700, 1234, 2345
    images.add(IMAGE, root, archive(("home/web", home)), config={"User": "web", "WorkingDir": "/home/web"})
    images.add("localhost/py:1", archive(*PACKAGE), host_base=VERSION, config={"User": "1234"})

    async def scenario(box: Sandbox) -> None:
        script = "touch mine; ls; cat /etc/hosts; touch /bin/x || echo refused"
        ended, output = await box.run("sh", "-c", script, image=IMAGE)
        assert (ended.exit_code, output.split()[0], output.split()[-1]) == (0, "mine", "refused"), output
        ended, output = await box.run("greet", image="localhost/py:1", pod="py")
        assert ended.exit_code == 0, output

    imaged("ns-root", images, scenario)


@needs_namespaces
def test_many_layers(namespaces: str, root: bytes, images: FakeImages, imaged: Any) -> None:
    layers = [archive((f"many/{number}", b"x"), ("many/last", str(number).encode())) for number in range(126)]
    images.add(IMAGE, root, *layers)

    async def scenario(box: Sandbox) -> None:
        _, output = await box.run("sh", "-c", "cat /many/last; set -- /many/*; echo :$#", image=IMAGE)
        assert output == "125:127\n"

    imaged(namespaces, images, scenario)


@needs_namespaces
def test_links_of_an_image_do_not_lead_to_the_host(
    namespaces: str, root: bytes, images: FakeImages, imaged: Any, tmp_path: Path
) -> None:
    """The root is built from outside, where a link of the image would lead elsewhere."""
    victim = tmp_path / "victim"
    victim.mkdir()
    (tmp_path / "source").mkdir()
    (tmp_path / "source/x").write_text("mounted")
    links = [(name, f"->{victim}/{name}") for name in ("proc", "dev", "sys", "data", "work")]
    images.add(
        IMAGE, root, archive(*links, ("etc/hosts", f"->{victim}/hosts"), ("up", "->../../../..")), config={}
    )
    mounts = (Mount(tmp_path / "source", "/data/m"), Mount(tmp_path / "source/x", "/up/file"))

    async def scenario(box: Sandbox) -> None:
        ended, output = await box.run(
            "sh", "-c", "cat /data/m/x /file; ls /etc", image=IMAGE, mounts=mounts, working_dir="/work/new"
        )
        assert ended.exit_code == 0, output
        assert output.startswith("mountedmounted")

    imaged(namespaces, images, scenario)
    assert list(victim.iterdir()) == []


PACKAGE: list[Member] = [
    (f"{SITE}/greeting/__init__.py", b"def main(): print('hello', __file__)\n"),
    (f"{SITE}/greeting-1.0.dist-info/METADATA", b"Metadata-Version: 2.1\nName: greeting\nVersion: 1.0\n"),
    ("usr/local/bin/greet", b"#!/usr/local/bin/python3\nfrom greeting import main\nmain()\n"),
    ("app/run.py", b"import greeting, sys; greeting.main(); print(open('/app/data').read())"),
    ("app/data", b"of the image"),
]


def test_packages_and_scripts_over_the_host_base(tier: str, images: FakeImages, imaged: Any) -> None:
    config = {"Env": ["PATH=/usr/local/bin:/usr/bin:/bin", f"PYTHON_VERSION={VERSION}"], "Cmd": ["python3"]}
    # What is written in a program's code is left as it is without namespaces.
    package = (
        PACKAGE
        if tier.startswith("ns-")
        else [*PACKAGE[:3], ("app/run.py", b"import greeting; greeting.main()")]
    )
    images.add(IMAGE, archive(("etc/base", b"")), archive(*package), config=config, host_base=VERSION)

    async def scenario(box: Sandbox) -> None:
        assert await box.runtime.pull(IMAGE) == (await box.runtime.pull(IMAGE))
        for pod, command in (
            ("script", ("greet",)),
            ("path", ("/usr/local/bin/greet",)),
            ("module", ("python", "-c", "import greeting; greeting.main()")),
            ("shell", ("sh", "-c", "greet")),
            ("app", ("python", "/app/run.py")),
        ):
            ended, output = await box.run(*command, image=IMAGE, pod=pod)
            assert ended.exit_code == 0, output
            assert output.splitlines()[0].endswith(f"/{SITE}/greeting/__init__.py"), pod
        _, output = await box.run("python", "-c", "import sys; print(sys.version.split()[0])", image=IMAGE)
        assert output == f"{VERSION}\n"

    imaged(tier, images, scenario)


@needs_namespaces
def test_the_host_base_looks_like_the_official_image(
    namespaces: str, images: FakeImages, imaged: Any, tmp_path: Path
) -> None:
    images.add(IMAGE, archive(*PACKAGE, ("opt/own/x", b"opt"), ("file", b"top")), host_base=VERSION)
    script = (
        "import sys, site, sysconfig, os; print(sys.prefix, sysconfig.get_path('purelib'), "
        "sysconfig.get_path('scripts'), os.path.exists('/usr/bin'), open('/opt/own/x').read(), "
        "open('/file').read())"
    )
    mounts = (Mount(tmp_path, "/app/mounted"), Mount(tmp_path, "/usr/local/share/mounted"))

    async def scenario(box: Sandbox) -> None:
        _, output = await box.run("python3", "-c", script, image=IMAGE, mounts=mounts)
        assert output == f"/usr/local /{SITE} /usr/local/bin True opt top\n"
        wheel = tmp_path / "extra-1.0-py3-none-any.whl"
        make_wheel(wheel)
        install = (
            "pip install -q --no-index --no-cache-dir --disable-pip-version-check "
            "--root-user-action=ignore /app/mounted/*.whl"
        )
        ended, output = await box.run(
            "sh",
            "-ec",
            f"{install}; extra; python -m pip list; ls /usr/local/share/mounted",
            image=IMAGE,
            mounts=mounts,
            pod="pip",
        )
        assert ended.exit_code == 0, output
        assert output.startswith(f"/{SITE}/extra.py\n")
        assert {"greeting", "extra", "pip"} <= set(output.split())
        assert not (Path("/usr/local") / "bin/extra").exists()

    imaged(namespaces, images, scenario)


MOUNTED = """
import asyncio, sys
from pathlib import Path
from tests.unit.local_runtime.conftest import Sandbox
from tests.unit.local_runtime.images import FakeImages, archive

async def main():
    folder = Path(sys.argv[1])
    images = FakeImages(folder / "blobs")
    own = [(name, b"own") for name in ("usr/share/own/x", "var/own", "etc/own")]
    images.add("x:1", archive(*own), host_base=sys.argv[2])
    box = Sandbox(folder, "ns-user")
    await box.use(images)
    try:
        ended, output = await box.run("sh", "-c", sys.argv[3], image="x:1", working_dir="/var/lib/new")
        print(ended.exit_code, output)
    finally:
        await box.runtime.close()

asyncio.run(main())
"""


@pytest.mark.skipif("ns-user" not in TIERS or os.getuid() != 0, reason="takes root and user namespaces")
def test_mounts_of_the_machine_hide_nothing_of_an_image(tmp_path: Path) -> None:
    """A user namespace refuses an overlay of a folder with mounts in it, as containers make them."""
    mounted = [folder for folder in ("/usr/share/doc", "/var/lib", "/etc/ssl") if Path(folder).is_dir()]
    inside = (
        "cat /usr/share/own/x /var/own /etc/own; pwd; touch /var/tmp/x /var/lib/new/x; head -c9 /etc/hosts; "
        "python -c 'import json' && echo up"
    )
    script = "".join(f"mount -t tmpfs none {folder} && " for folder in mounted) + 'exec "$@"'
    hosts = Path("/etc/hosts").read_bytes()
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, "-c", MOUNTED, tmp_path, VERSION, inside],
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.stdout == "0 ownownown/var/lib/new\n127.0.0.1up\n\n", done.stderr
    assert Path("/etc/hosts").read_bytes() == hosts


@needs_namespaces
def test_folders_that_are_links_on_the_host(namespaces: str, images: FakeImages, imaged: Any) -> None:
    """An image that brings a /lib of its own does not hide the machine's libraries behind its link."""
    own = [(f"{name}/own", b"own") for name in ("bin", "sbin", "lib", "lib64", "etc", "var/run")]
    images.add(IMAGE, archive(*own, ("srv", b"a file")), host_base=VERSION)
    script = "cat /bin/own /lib/own /lib64/own /etc/own /var/run/own /srv"

    async def scenario(box: Sandbox) -> None:
        ended, output = await box.run("sh", "-c", script, image=IMAGE)
        assert ended.exit_code == 0, output
        assert output == "own" * 5 + "a file"
        ended, output = await box.run(
            "python", "-c", "import ssl, sqlite3; print('up')", image=IMAGE, pod="py"
        )
        assert output == "up\n"

    imaged(namespaces, images, scenario)


def make_wheel(path: Path) -> None:
    info = "extra-1.0.dist-info"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("extra.py", "def main(): print(__file__)\n")
        file.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\nName: extra\nVersion: 1.0\n")
        file.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        file.writestr(f"{info}/entry_points.txt", "[console_scripts]\nextra = extra:main\n")
        file.writestr(f"{info}/RECORD", f"extra.py,,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n")


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            {"architecture": "s390x"},
            "no match for platform in manifest: not found: the image is for linux/s390x",
        ),
        ({"os": "windows"}, "the image is for windows/"),
        ({"host_base": "3.99.9"}, "it was built on the Python 3.99.9 of the machine itself"),
    ],
)
def test_what_does_not_run_here(
    tier: str, root: bytes, images: FakeImages, imaged: Any, document: dict[str, Any], message: str
) -> None:
    images.add(IMAGE, root, **document)

    async def scenario(box: Sandbox) -> None:
        with pytest.raises(ImagePullError, match=f'failed to pull and unpack image "{IMAGE}": .*{message}'):
            await box.runtime.pull(IMAGE)
        with pytest.raises(StartError, match="failed to pull"):
            await box.run("true", image=IMAGE)
        with pytest.raises(ImagePullError, match="no `localhost/absent`"):
            await box.runtime.pull("localhost/absent")
        with pytest.raises(ImagePullError, match="invalid reference"):
            await box.runtime.pull("No Name")

    imaged(tier, images, scenario)


@pytest.mark.parametrize("tier", [name for name in TIERS if name not in NAMESPACES])
def test_real_images_take_namespaces(tier: str, root: bytes, images: FakeImages, imaged: Any) -> None:
    images.add(IMAGE, root)

    async def scenario(box: Sandbox) -> None:
        with pytest.raises(ImagePullError, match=f"`{tier}` shares this machine's root.*as root, or allow"):
            await box.runtime.pull(IMAGE)

    imaged(tier, images, scenario)


def test_a_broken_layer_is_a_failed_pull(tier: str, images: FakeImages, imaged: Any) -> None:
    images.add(IMAGE, b"no archive" * 100, host_base=VERSION)

    async def scenario(box: Sandbox) -> None:
        with pytest.raises(ImagePullError, match="failed to extract layer: the archive is broken"):
            await box.runtime.pull(IMAGE)

    imaged(tier, images, scenario)


def test_the_loop_goes_on_while_an_image_is_unpacked(tier: str, images: FakeImages, imaged: Any) -> None:
    images.add(IMAGE, archive(*((f"x/{number}", b"x") for number in range(3000))), host_base=VERSION)

    async def scenario(box: Sandbox) -> int:
        pull = asyncio.create_task(box.runtime.pull(IMAGE))
        turns = 0
        while not pull.done():
            await asyncio.sleep(0.001)  # not 0: the unpacking needs the interpreter, too
            turns += 1
        await pull
        return turns

    assert imaged(tier, images, scenario) > 10
