"""fetch_pip.py FILE: download pip's wheel from the package registry, for a Python that has no pip at all.

A wheel of pip runs as it is (`python pip.whl/pip install …`). The registry is the one that pip would use
(`PIP_INDEX_URL`, else `index-url` of pip.conf, else PyPI); the file must have the SHA-256 that
its index gives.
"""

from __future__ import annotations

import configparser
import hashlib
import html.parser
import os
import re
import sys
import urllib.parse
import urllib.request
from pathlib import Path

PYPI = "https://pypi.org/simple"


class Links(html.parser.HTMLParser):
    """Collects the targets of a page's links."""

    def __init__(self) -> None:
        super().__init__()
        self.targets: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Keep `href` of every `a`."""
        if tag == "a":
            self.targets += [value for name, value in attrs if name == "href" and value]


def index_url() -> str:
    """The simple index that pip would ask."""
    config = configparser.ConfigParser(interpolation=None)
    home = Path.home()
    config.read(["/etc/pip.conf", home / ".pip" / "pip.conf", home / ".config" / "pip" / "pip.conf"])
    configured = config.get("global", "index-url", fallback=PYPI)
    return (os.environ.get("PIP_INDEX_URL") or configured).rstrip("/")


def newest_wheel(targets: list[str]) -> str:
    """The link to the newest final release of pip."""
    found = {}
    for target in targets:
        match = re.search(r"/pip-(\d+(?:\.\d+)*)-py3-none-any\.whl#sha256=", target)
        if match:
            found[tuple(int(part) for part in match[1].split("."))] = target
    if not found:
        raise SystemExit("the package registry lists no wheel of pip with a SHA-256")
    return found[max(found)]


def download(url: str) -> bytes:
    """The body of that address."""
    with urllib.request.urlopen(url, timeout=60) as answer:
        body: bytes = answer.read()
    return body


def main(destination: Path) -> None:
    """Fetch, check, write."""
    index = f"{index_url()}/pip/"
    links = Links()
    links.feed(download(index).decode())
    url, _, fragment = urllib.parse.urljoin(index, newest_wheel(links.targets)).partition("#")
    body = download(url)
    if hashlib.sha256(body).hexdigest() != fragment.removeprefix("sha256="):
        raise SystemExit(f"{url} does not have the SHA-256 that {index} gives")
    destination.write_bytes(body)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
