"""Images built without an engine beside `buildah bud --layers` and `buildah push` of the same Dockerfile.

In every round both sides build each image cold (nothing cached of wheels, of layers or in the repository;
the base is in the registry, and in the store of buildah), and then again after the code alone has changed.
The registry is one of its own on loopback; the base is made of this machine's Python, once. Wheels come from
the package index that pip and uv are set to. As far as pip does more, it compiles to byte code.

usage: python benchmarks/image_build.py [--rounds 5]     (root, `buildah` and `docker-registry`)
"""

from __future__ import annotations

import argparse
import contextlib
import os
import re
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from benchmarks.machine_base import VERSION, NoBaseError, architecture, push_base, write_base_layer
from chalkcompute.build import BuiltImage, build_image
from chalkcompute.image import Image
from chalkcompute.sources import collect

SETS = {"flask": ("flask",), "numpy pandas": ("numpy", "pandas")}
AIMS = {"flask": 2.0, "numpy pandas": 3.0}
CERTIFICATES = "/etc/ssl/certs"
WRITES = re.compile(r'"(POST|PUT|PATCH|DELETE) ')


@dataclass
class Figures:
    """Seconds of both sides, round by round, and how often ours wrote to the registry."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    writes: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Server:
    """A running registry."""

    host: str
    log: Path

    def writes(self) -> int:
        """Requests so far that change something in it."""
        return sum(1 for line in self.log.read_text().splitlines() if WRITES.search(line))


@dataclass(frozen=True)
class Buildah:
    """`buildah` with a store of its own."""

    environ: dict[str, str]
    isolation: str
    driver: str
    pip_conf: Path

    def run(self, *arguments: str) -> str:
        done = subprocess.run(
            ["buildah", *arguments],
            env=self.environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"buildah {' '.join(arguments)}: {done.stderr[-2000:]}")
        return done.stdout.strip()

    def build(self, context: Path, name: str) -> None:
        # A step sees neither the machine's certificates nor its index unless it is shown them.
        shown = ["--volume", f"{self.pip_conf}:/etc/pip.conf:ro"]
        if Path(CERTIFICATES).is_dir():
            shown += ["--volume", f"{CERTIFICATES}:{CERTIFICATES}:ro"]
        self.run("bud", "--layers", "--isolation", self.isolation, "--pull-never", *shown, "--tag", name,
                 str(context))  # fmt: skip

    def push(self, name: str) -> None:
        self.run("push", "--tls-verify=false", name, f"docker://{name}")

    def forget(self, name: str) -> None:
        """Remove an image, the layers that it was made of, and so what would be cached of it."""
        self.run("rmi", "--force", name)
        self.run("rmi", "--prune", "--force")


def stop(reason: str) -> SystemExit:
    print(f"nothing measured: {reason}", file=sys.stderr)
    return SystemExit(2)


def timed(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[Server]:
    binary = shutil.which("docker-registry")
    if binary is None:
        raise stop("`docker-registry` is not installed (apt-get install docker-registry)")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config, log = folder / "registry.yml", folder / "registry.log"
    config.write_text(
        f"version: 0.1\nlog: {{level: error, accesslog: {{disabled: false}}}}\n"
        f"http: {{addr: '127.0.0.1:{port}'}}\nstorage: {{filesystem: {{rootdirectory: '{folder}/data'}}}}\n"
    )
    with log.open("wb") as stream:
        process = subprocess.Popen([binary, "serve", str(config)], stdout=stream, stderr=subprocess.STDOUT)
    try:
        for _ in range(500):
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            time.sleep(0.02)
        yield Server(f"127.0.0.1:{port}", log)
    finally:
        process.terminate()
        process.wait()


def unmount_below(store: Path) -> None:
    """Take off what `buildah` has mounted: the store on itself, and containers when it was interrupted."""
    mounted = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for path in reversed([path for path in mounted if Path(path).is_relative_to(store)]):
        subprocess.run(["umount", "--lazy", path], check=False)


def failure_of(buildah: Buildah, base: str, context: Path) -> str | None:
    """Why it cannot run a step here; else it has the base in its store now."""
    try:
        buildah.run("pull", "--tls-verify=false", base)
        buildah.build(context, "localhost/probe:1")
        buildah.forget("localhost/probe:1")
    except RuntimeError as error:
        return str(error)
    return None


@contextlib.contextmanager
def buildah_in(folder: Path, base: str) -> Iterator[Buildah]:
    """The fastest way in which `buildah` works here, with the base in its store."""
    if shutil.which("buildah") is None:
        raise stop("`buildah` is not installed (apt-get install buildah)")
    if os.geteuid() != 0:
        raise stop("`buildah` needs root to be measured: without it, it has its slowest storage")
    pip_conf = folder / "pip.conf"
    certificates, index = os.environ.get("PIP_CERT"), os.environ.get("PIP_INDEX_URL")
    lines = [f"cert = {certificates}"] if certificates else []
    lines += [f"index-url = {index}"] if index else []
    pip_conf.write_text("\n".join(["[global]", *lines, ""]))
    context = folder / "probe"
    context.mkdir()
    (context / "Dockerfile").write_text(f"FROM {base}\nRUN python3 -m pip --version\n")
    said = ""
    for driver, isolation in (("overlay", "oci"), ("overlay", "chroot"), ("vfs", "oci"), ("vfs", "chroot")):
        store = folder / f"store-{driver}-{isolation}"
        store.mkdir()
        settings = store / "storage.conf"
        settings.write_text(
            f'[storage]\ndriver = "{driver}"\ngraphroot = "{store}/graph"\nrunroot = "{store}/run"\n'
        )
        environ = {**os.environ, "CONTAINERS_STORAGE_CONF": str(settings)}
        buildah = Buildah(environ, isolation, driver, pip_conf)
        try:
            failure = failure_of(buildah, base, context)
            if failure is None:
                yield buildah
                return
            said = said or failure
        finally:
            unmount_below(store)
    raise stop(f"`buildah` cannot run steps here: {said}")


@dataclass(frozen=True)
class Round:
    """One set of packages in one round, with folders and repositories of its own."""

    server: Server
    buildah: Buildah
    base: str
    packages: tuple[str, ...]
    folder: Path
    name: str

    def image(self, strategy: str) -> Image:
        image = Image.base(self.base).pip_install(list(self.packages))
        file = self.folder / "app.py"
        if strategy == "copy":
            return image.add_local_file(file, "/app/app.py", strategy="copy")
        return image.add_local_file(file, "/app/app.py")

    def change(self, text: str) -> None:
        (self.folder / "app.py").write_text(f"print({text!r})\n")

    def ours(self, strategy: str) -> BuiltImage:
        """What a deploy does: read the files, build those to be copied, push unless it is there."""
        image = self.image(strategy)
        sets = [collect(item) for item in image.files]
        return build_image(
            image,
            copied=sets if strategy == "copy" else [],
            repository=f"{self.server.host}/ours-{self.name}",
            platforms=[f"linux/{architecture()}"],
            environ={**os.environ, "UV_CACHE_DIR": str(self.folder / "uv")},
            cache=self.folder / "cache",
        )

    def theirs(self) -> None:
        name = f"{self.server.host}/theirs-{self.name}:1"
        self.buildah.build(self.folder, name)
        self.buildah.push(name)

    def cold(self, figures: Figures, *, ours_first: bool) -> None:
        self.folder.mkdir()
        self.change("one")
        with contextlib.chdir(self.folder):
            Path("Dockerfile").write_text(self.image("volume").dockerfile())
        sides: list[tuple[list[float], Callable[[], object]]] = [
            (figures.ours, partial(self.ours, "volume")),
            (figures.theirs, self.theirs),
        ]
        for seconds, build in sides if ours_first else reversed(sides):
            seconds.append(timed(build))

    def code_only(self, beside: Figures, copied: Figures) -> None:
        self.ours("copy")  # the first of its kind; what counts is the next
        self.change("two")
        for strategy, figures in (("volume", beside), ("copy", copied)):
            before = self.server.writes()
            figures.ours.append(timed(partial(self.ours, strategy)))
            figures.writes.append(self.server.writes() - before)
        theirs = timed(self.theirs)
        beside.theirs.append(theirs)
        copied.theirs.append(theirs)

    def tidy(self) -> None:
        self.buildah.forget(f"{self.server.host}/theirs-{self.name}:1")
        shutil.rmtree(self.folder)


def base_layer() -> Path:
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    layer = home / "chalk-benchmarks" / f"base-{VERSION}-{architecture()}.tar.gz"
    if not layer.exists():
        print(f"making the base out of this machine's Python, kept as {layer}")
        try:
            write_base_layer(layer)
        except NoBaseError as error:
            raise stop(f"no base can be made: {error}") from None
    return layer


def report(title: str, figures: Figures, aim: float | None) -> None:
    pairs = list(zip(figures.ours, figures.theirs, strict=True))
    ratio = statistics.median(theirs / ours for ours, theirs in pairs)
    best = min(figures.theirs) / min(figures.ours)
    text = f"{title:29}"
    for seconds in (figures.ours, figures.theirs):
        text += f" {min(seconds) * 1e3:7.0f} /{statistics.median(seconds) * 1e3:7.0f} ms"
    text += f"   {best:5.1f}x /{ratio:5.1f}x"
    if aim is not None:
        text += f"   aim {aim:.0f}x: {'met' if ratio >= aim else 'MISSED'}"
    if figures.writes:
        text += f"   {max(figures.writes)} requests that write to the registry"
        if "beside" in title:
            text += f"; aim 0: {'met' if not max(figures.writes) else 'MISSED'}"
    print(text)


def main() -> None:
    arguments = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    arguments.add_argument("--rounds", type=int, default=5)
    rounds = arguments.parse_args().rounds
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # `kill` leaves as little behind as Ctrl-C
    cold = {name: Figures() for name in SETS}
    beside, copied = Figures(), Figures()
    with tempfile.TemporaryDirectory(prefix="chalk-image-build-") as name, contextlib.ExitStack() as stack:
        folder = Path(name)
        server = stack.enter_context(serving(folder))
        base = push_base(server.host, "base", base_layer())
        buildah = stack.enter_context(buildah_in(folder, base))
        for number in range(rounds):
            for title, packages in SETS.items():
                own = f"{title.replace(' ', '-')}-{number}"
                one = Round(server, buildah, base, packages, folder / own, own)
                one.cold(cold[title], ours_first=number % 2 == 0)
                if title == "flask":
                    one.code_only(beside, copied)
                one.tidy()
        print(
            f"{buildah.run('--version')}, {buildah.isolation} isolation, {buildah.driver} storage; "
            f"{rounds} rounds"
        )
    print(f"{'least / median':29} {'ours':>19} {'buildah bud + push':>20}   buildah / ours")
    for title, figures in cold.items():
        report(f"cold, {title}", figures, AIMS[title])
    report("code changed, beside image", beside, None)
    report("code changed, strategy=copy", copied, None)


if __name__ == "__main__":
    main()
