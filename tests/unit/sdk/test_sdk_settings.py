"""Where settings and the cluster come from, in which order."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from chalkcompute.connection import choose_connection
from chalkcompute.errors import ConfigError, ConnectionConfigError
from chalkcompute.manifests.gpu_nodes import Toleration
from chalkcompute.settings import Settings, load_settings

Load = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """`load_settings` in an empty folder with an empty home, and the environment that is passed."""

    def inner(environ: Mapping[str, str] | None = None, **flags: str) -> Settings:
        home = {"HOME": str(tmp_path / "home")}
        return load_settings(
            environ={**home, **(environ or {})},
            folder=tmp_path,
            service_account=tmp_path / "sa",
            **flags,
        )

    return inner


def kubeconfig(path: Path, *contexts: str, current: str | None = None, namespace: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    inner = {"cluster": "c", "user": "u", **({"namespace": namespace} if namespace else {})}
    path.write_text(
        json.dumps(
            {
                **({"current-context": current} if current else {}),
                "clusters": [{"name": "c", "cluster": {"server": f"https://{path.parent.name}-{path.name}"}}],
                "contexts": [{"name": name, "context": inner} for name in contexts],
                "users": [{"name": "u", "user": {}}],
            }
        )
    )
    return path


@pytest.mark.parametrize(
    ("flag", "variable", "value"),
    [
        ("context", "CHALK_CONTEXT", "x"),
        ("namespace", "CHALK_NAMESPACE", "x"),
        ("environment", "CHALK_ENVIRONMENT", "x"),
        ("gateway_domain", "CHALK_GATEWAY_DOMAIN", "x.test"),
    ],
)
def test_flag_then_environment_then_env_file(
    load: Load, tmp_path: Path, flag: str, variable: str, value: str
) -> None:
    assert getattr(load(), flag) is None
    (tmp_path / ".env").write_text(f"{variable}=file.{value}\n")
    assert getattr(load(), flag) == f"file.{value}"
    assert getattr(load({variable: f"env.{value}"}), flag) == f"env.{value}"
    assert getattr(load({variable: f"env.{value}"}, **{flag: f"flag.{value}"}), flag) == f"flag.{value}"


def test_an_empty_variable_is_as_good_as_unset(load: Load) -> None:
    assert load({"CHALK_NAMESPACE": "", "CHALK_CONTEXT": "  "}) == load()


def test_another_env_file(load: Load, tmp_path: Path) -> None:
    (tmp_path / "prod.env").write_text("CHALK_NAMESPACE='prod'\n")
    assert load(env_file=str(tmp_path / "prod.env")).namespace == "prod"
    assert load({"CHALK_ENV_FILE": str(tmp_path / "prod.env")}).namespace == "prod"
    with pytest.raises(ConfigError, match=r"missing\.env"):
        load(env_file=str(tmp_path / "missing.env"))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("CHALK_NAMESPACE=a\ntop-secret token\n", 2),
        ("CHALK_NAMESPACE=a\n\n\n# why\ntop-secret token", 5),
        ("\n\ntop-secret token\n", 3),
        ("A='top-secret\n", 1),
        ("A=1\r\n\r\n= top-secret\r\n", 3),
    ],
)
def test_a_line_of_an_env_file_that_is_no_variable_is_named_but_not_shown(
    load: Load, tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str, line: int
) -> None:
    (tmp_path / ".env").write_text(text, newline="")
    with pytest.raises(ConfigError, match=rf"\.env` line {line} is not `KEY=VALUE`") as caught:
        load()
    assert "top-secret" not in str(caught.value)
    assert "CHALK_ENV_FILE" in (caught.value.hint or "")
    assert caplog.records == [], "python-dotenv's own warning"


def test_whatever_else_python_dotenv_takes_is_taken(load: Load, tmp_path: Path) -> None:
    text = (
        "# a comment\n\nexport CHALK_CONTEXT = 'two words'  # why\nNO_VALUE\nEMPTY=\n"
        'STAGE="prod"\nCHALK_NAMESPACE=team-${STAGE}\nMULTI="a\nb"\n'
    )
    (tmp_path / ".env").write_text(text)
    settings = load()
    assert (settings.context, settings.namespace) == ("two words", "team-prod")


def test_gateway_forms(load: Load) -> None:
    assert load(gateway="infra/gw").gateway == ("infra", "gw")
    settings = load({"CHALK_GATEWAY": "infra/gw/https"})
    assert (settings.gateway, settings.gateway_section) == (("infra", "gw"), "https")
    for wrong in ("gw", "/gw", "infra/", "a/b/c/d", "a//c"):
        with pytest.raises(ConfigError, match="namespace/name"):
            load(gateway=wrong)


def test_gateway_domain_forms(load: Load) -> None:
    assert load(gateway_domain="*.GW.example.com.").gateway_domain == "gw.example.com"
    for wrong in ("a b", "https://x", "x..y", "*"):
        with pytest.raises(ConfigError, match="not a DNS name"):
            load(gateway_domain=wrong)


def test_gateway_port(load: Load) -> None:
    assert load().gateway_port is None
    assert load(environ={"CHALK_GATEWAY_PORT": "443"}).gateway_port == 443
    for wrong in ("0", "65536", "https", "-1"):
        with pytest.raises(ConfigError, match="CHALK_GATEWAY_PORT"):
            load(environ={"CHALK_GATEWAY_PORT": wrong})


@pytest.mark.parametrize(
    ("said", "address"),
    [
        ("10.1.2.3", "10.1.2.3"),
        ("[fd00::1]", "fd00::1"),
        ("fd00::1", "fd00::1"),
        ("lb-1.eu.example.com", "lb-1.eu.example.com"),
    ],
)
def test_gateway_address(load: Load, said: str, address: str) -> None:
    assert load().gateway_address is None
    assert load(environ={"CHALK_GATEWAY_ADDRESS": said}).gateway_address == address


@pytest.mark.parametrize(
    "wrong", ["https://10.1.2.3", "10.1.2.3:443", "a/b", "a..b", "-a", "a b", "[fd00::1]:443"]
)
def test_a_gateway_address_that_cannot_be(load: Load, wrong: str) -> None:
    with pytest.raises(ConfigError, match="CHALK_GATEWAY_ADDRESS"):
        load(environ={"CHALK_GATEWAY_ADDRESS": wrong})


def test_profile(load: Load) -> None:
    profile = load({"CHALK_KEDA_NAMESPACE": "k", "CHALK_GPU_RESOURCE_NAME": "amd.com/gpu"}).profile
    assert (profile.keda_namespace, profile.gpu_resource_name) == ("k", "amd.com/gpu")
    assert profile.keda_scaler_address == "keda-add-ons-http-external-scaler.k:9090"
    assert profile.gpu_tolerations == (Toleration("amd.com/gpu", "NoSchedule"),)
    assert load({"CHALK_GPU_TOLERATIONS": " "}).profile.gpu_tolerations == (Toleration("nvidia.com/gpu"),)
    several = "sku=gpu:NoSchedule, nvidia.com/gpu:NoExecute,empty=:PreferNoSchedule"
    assert load({"CHALK_GPU_TOLERATIONS": several}).profile.gpu_tolerations == (
        Toleration("sku", "NoSchedule", "gpu"),
        Toleration("nvidia.com/gpu", "NoExecute"),
        Toleration("empty", "PreferNoSchedule", ""),
    )


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("GPU_TOLERATIONS", "sku=gpu", "the taint `sku=gpu` has no effect"),
        ("GPU_TOLERATIONS", "sku=gpu:noschedule", "did you mean `sku=gpu:NoSchedule`"),
        ("GPU_TOLERATIONS", "a:NoSchedule,sku=gpu:Never", "`Never` of the taint `sku=gpu:Never` is none of"),
        ("GPU_TOLERATIONS", ":NoSchedule", "the key `` of the taint `:NoSchedule`"),
        ("GPU_TOLERATIONS", "a b:NoSchedule", "the key `a b`"),
        ("GPU_TOLERATIONS", "a=b=c:NoSchedule", "the value `b=c`"),
        ("GPU_NODE_SELECTOR_KEY", "a/b/c", "CHALK_GPU_NODE_SELECTOR_KEY `a/b/c` cannot be the key"),
        ("GPU_RESOURCE_NAME", "gpu", "CHALK_GPU_RESOURCE_NAME `gpu` cannot be a resource"),
        ("KEDA_NAMESPACE", "Keda", "CHALK_KEDA_NAMESPACE `Keda` cannot be the name"),
    ],
)
def test_a_profile_that_cannot_be_names_its_variable(
    load: Load, variable: str, value: str, said: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load({f"CHALK_{variable}": value})
    assert said in f"{caught.value.message} {caught.value.hint}"
    assert f"CHALK_{variable}" in caught.value.message
    assert caught.value.hint


def test_no_cluster_names_the_way_to_one(load: Load) -> None:
    with pytest.raises(ConnectionConfigError) as caught:
        choose_connection(load())
    assert caught.value.hint is not None
    assert "chalk local up" in caught.value.hint
    assert caught.value.exit_code == 5


def test_order_of_clusters(load: Load, tmp_path: Path) -> None:
    """Each source is taken only where all before it are silent."""
    environ: dict[str, str] = {}
    kubeconfig(tmp_path / "home/.chalk/local/kubeconfig", "chalk-local", current="chalk-local")
    assert choose_connection(load(environ)).source == "local"
    assert choose_connection(load(environ)).context == "chalk-local"  # as `--context` takes it

    environ |= {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "KUBERNETES_SERVICE_PORT": "443"}
    assert choose_connection(load(environ)).source == "local"  # no credentials there
    (tmp_path / "sa").mkdir()
    (tmp_path / "sa/token").write_text("t")
    (tmp_path / "sa/namespace").write_text("pods-own\n")
    found = choose_connection(load(environ))
    assert (found.source, found.server, found.namespace) == ("in-cluster", "https://10.0.0.1:443", "pods-own")

    kubeconfig(tmp_path / "home/.kube/config", "home", current="home", namespace="ns")
    found = choose_connection(load(environ))
    assert (found.source, found.context, found.namespace) == ("kubeconfig", "home", "ns")

    environ["KUBECONFIG"] = ":".join(
        str(path)
        for path in (
            tmp_path / "missing",
            kubeconfig(tmp_path / "k/one", "one", current="one"),
            kubeconfig(tmp_path / "k/two", "two", current="two"),
        )
    )
    assert choose_connection(load(environ)).context == "one"
    assert choose_connection(load(environ, context="two")).context == "two"
    assert choose_connection(load(environ, context="chalk-local")).source == "local"

    environ["CHALK_KUBECONFIG"] = str(kubeconfig(tmp_path / "k/three", "three", current="three"))
    assert choose_connection(load(environ)).context == "three"
    four = kubeconfig(tmp_path / "k/four", "four", current="four")
    assert choose_connection(load(environ, kubeconfig=str(four))).context == "four"


def test_local_home(load: Load, tmp_path: Path) -> None:
    kubeconfig(tmp_path / "elsewhere/kubeconfig", "chalk-local", current="chalk-local")
    environ = {"CHALK_LOCAL_HOME": str(tmp_path / "elsewhere")}
    assert choose_connection(load(environ)).source == "local"
    assert load({"CHALK_LOCAL_HOME": "~/here"}).local_kubeconfig == tmp_path / "home/here/kubeconfig"
    assert load({"CHALK_LOCAL_HOME": " "}).local_kubeconfig == tmp_path / "home/.chalk/local/kubeconfig"
    (tmp_path / ".env").write_text("CHALK_LOCAL_HOME=/moved\n")
    assert load().local_kubeconfig == tmp_path / "home/.chalk/local/kubeconfig"


def test_an_unknown_context_lists_those_there_are(load: Load, tmp_path: Path) -> None:
    kubeconfig(tmp_path / "home/.kube/config", "a", "b", current="a")
    with pytest.raises(ConnectionConfigError, match="`nope`") as caught:
        choose_connection(load(context="nope"))
    assert caught.value.hint == "there are: a, b"
    # A kubeconfig that is the local cluster's own names its context once.
    kubeconfig(tmp_path / "home/.chalk/local/kubeconfig", "b", "local", current="b")
    with pytest.raises(ConnectionConfigError, match="`nope`") as caught:
        choose_connection(load(context="nope"))
    assert caught.value.hint == "there are: a, b, local"


def test_a_file_that_was_named_must_exist(load: Load, tmp_path: Path) -> None:
    kubeconfig(tmp_path / "home/.chalk/local/kubeconfig", "chalk-local", current="chalk-local")
    for environ in ({"KUBECONFIG": "/nowhere/config"}, {"CHALK_KUBECONFIG": "/nowhere/config"}):
        with pytest.raises(ConnectionConfigError, match="/nowhere/config"):
            choose_connection(load(environ))


def test_no_current_context(load: Load, tmp_path: Path) -> None:
    kubeconfig(tmp_path / "home/.kube/config", "a", "b")
    with pytest.raises(ConnectionConfigError, match="no current context") as caught:
        choose_connection(load())
    assert caught.value.hint is not None
    assert "a, b" in caught.value.hint


def test_a_context_without_a_server(load: Load, tmp_path: Path) -> None:
    path = tmp_path / "home/.kube/config"
    path.parent.mkdir(parents=True)
    path.write_text("current-context: a\ncontexts: [{name: a, context: {cluster: lost}}]\n")
    with pytest.raises(ConnectionConfigError, match="without a server"):
        choose_connection(load())


def test_a_context_without_its_user(load: Load, tmp_path: Path) -> None:
    path = tmp_path / "home/.kube/config"
    path.parent.mkdir(parents=True)
    path.write_text(
        "current-context: a\ncontexts: [{name: a, context: {cluster: c, user: lost}}]\n"
        "clusters: [{name: c, cluster: {server: https://c.test}}]\n"
    )
    with pytest.raises(ConnectionConfigError, match="user that is not there: `lost`"):
        choose_connection(load())


def test_ipv6_in_cluster(load: Load) -> None:
    settings = load({"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"})
    assert settings.in_cluster_server == "https://[fd00::1]:443"
