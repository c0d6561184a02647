"""Reading kubeconfig files."""

from pathlib import Path

import pytest

from chalkcompute.cluster.kubeconfig import read_kubeconfig
from chalkcompute.errors import ConnectionConfigError

A = """
apiVersion: v1
kind: Config
current-context: one
clusters:
- {name: c1, cluster: {server: "https://one:6443", proxy-url: "http://p:1"}}
contexts:
- {name: one, context: {cluster: c1, user: u, namespace: team}}
- {name: lost, context: {cluster: nowhere, user: u}}
"""
B = """
current-context: two
clusters:
- {name: c1, cluster: {server: "https://shadowed"}}
- {name: c2, cluster: {server: "https://host/k8s/clusters/x"}}
contexts:
- {name: two, context: {cluster: c2}}
- {name: one, context: {cluster: c2}}
"""


def write(folder: Path, name: str, text: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_the_first_file_to_say_something_wins(tmp_path: Path) -> None:
    config = read_kubeconfig([write(tmp_path, "a", A), tmp_path / "missing", write(tmp_path, "b", B)])
    assert config.current == "one"
    assert list(config.contexts) == ["one", "lost", "two"]
    one = config.contexts["one"]
    assert (one.server, one.namespace, one.proxy_url) == ("https://one:6443", "team", "http://p:1")
    assert config.contexts["two"].server == "https://host/k8s/clusters/x"
    assert config.contexts["lost"].server is None
    assert [path.name for path in config.files] == ["a", "b"]


@pytest.mark.parametrize("text", ["", "{}", "clusters: null\ncontexts: null\n"])
def test_an_empty_file_has_no_contexts(tmp_path: Path, text: str) -> None:
    config = read_kubeconfig([write(tmp_path, "a", text)])
    assert (config.contexts, config.current) == ({}, None)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [", "not YAML"),
        ("just text", "must be a mapping"),
        ("contexts: 3", "`contexts` must be a list"),
        ("contexts: [{context: {}}]", "a mapping with a `name`"),
        ("contexts: [x]", "a mapping with a `name`"),
    ],
)
def test_a_file_that_is_none_is_named(tmp_path: Path, text: str, says: str) -> None:
    path = write(tmp_path, "a", text)
    with pytest.raises(ConnectionConfigError, match=says) as caught:
        read_kubeconfig([path])
    assert str(path) in caught.value.message


def test_a_folder_and_bytes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConnectionConfigError, match="cannot read"):
        read_kubeconfig([tmp_path])
    binary = tmp_path / "b"
    binary.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConnectionConfigError, match="not UTF-8"):
        read_kubeconfig([binary])
