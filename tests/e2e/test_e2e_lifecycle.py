"""Create, look, change, delete: the main path, as the specification prints it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import yaml

from chalkcompute.errors import UnreachableError
from tests.e2e.harness import HTTP_SERVER, IMAGE, SERVER, SMALL, Chalk, Kubernetes, eventually

Answer = Callable[..., tuple[int, str]]

SAY_WORD = """
import http.server, os, signal
signal.signal(signal.SIGTERM, signal.default_int_handler)
class Handler(http.server.BaseHTTPRequestHandler):
    def log_message(self, *args):
        pass
    def do_GET(self):
        body = os.environ["WORD"].encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("", int(os.environ.get("PORT", "8000"))), Handler).serve_forever()
"""


def test_create_list_get_answer_delete(
    chalk: Chalk, kubernetes: Kubernetes, namespace: str, answer: Answer, real: bool
) -> None:
    created = chalk.serve(
        "hello", "--replicas=2", "--tags=team=ml,version=2.1", f"--entrypoint={HTTP_SERVER}"
    )
    assert "created" in created.out + created.err

    listed = chalk.sg("list", "-o", "json").json()
    assert listed["schema"] == 1
    (group,) = listed["scaling_groups"]
    assert group["name"] == "hello"
    assert group["status"] == "Available"
    assert group["replicas"] == {"desired": 2, "ready": 2, "available": 2, "min": 2, "max": 2}
    assert group["tags"] == {"team": "ml", "version": "2.1"}
    scheme = kubernetes.scheme(namespace, "hello")
    assert scheme == "https" or real, "the embedded cluster has an HTTPS listener"
    assert group["web_url"].startswith(f"{scheme}://{namespace}-hello.")

    table = chalk.sg("list").out
    for word in (
        "ID",
        "NAME",
        "IMAGE",
        "STATUS",
        "REPLICAS",
        "WEB URL",
        "CREATED",
        "hello",
        "Available",
        IMAGE,
    ):
        assert word in table

    detail = chalk.sg("get", "--name=hello").out
    assert "Web URL" in detail
    assert group["web_url"] in detail
    assert chalk.sg("get", "hello", "-o", "url").out.strip() == group["web_url"]
    assert chalk.sg("get", "hello", "-o", "name").out.strip() == "hello"
    assert chalk.sg("get", "--name=hello", "-o", "json").json()["id"] == group["id"]
    assert chalk.sg("get", f"--id={group['id']}", "-o", "json").json()["name"] == "hello"
    assert yaml.safe_load(chalk.sg("get", "hello", "-o", "yaml").out)["id"] == group["id"]

    eventually(lambda: answer("hello")[0] == 200, "it answers")
    assert "Directory listing" in answer("hello", "/")[1]

    service = kubernetes.get(f"/api/v1/namespaces/{namespace}/services/hello")
    assert service["spec"]["clusterIP"] == "None"
    assert service["spec"]["ports"][0]["port"] == 8000
    route = kubernetes.route(namespace, "hello")
    assert route["spec"]["hostnames"] == [group["web_url"].removeprefix(f"{scheme}://").split(":")[0]]
    (backend,) = route["spec"]["rules"][0]["backendRefs"]
    assert (backend["name"], backend["port"]) == ("hello", 8000)
    pods = kubernetes.pods(namespace, "hello")
    for labelled in (kubernetes.deployment(namespace, "hello"), service, route, *pods):
        assert labelled["metadata"]["labels"]["chalk.ai/tag-team"] == "ml"
        assert labelled["metadata"]["labels"]["chalk.ai/tag-version"] == "2.1"
    assert kubernetes.items(f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers") == []

    deleted = chalk.sg("delete", "--name=hello")
    assert "hello" in deleted.out + deleted.err
    assert kubernetes.group_objects(namespace, "hello") == [f"configmaps/chalk-sg-hist-{group['id']}"]
    assert chalk.sg("list", "-o", "json").json() == {"schema": 1, "scaling_groups": []}
    (gone,) = chalk.sg("list", "--all", "-o", "json").json()["scaling_groups"]
    assert (gone["id"], gone["status"]) == (group["id"], "Deleted")
    assert gone["deleted_at"]
    assert chalk.sg("get", "--name=hello", code=3).out == ""
    assert chalk.sg("get", f"--id={group['id']}", "-o", "json").json()["status"] == "Deleted"


def test_the_same_again_is_unchanged_and_restarts_nothing(
    chalk: Chalk, kubernetes: Kubernetes, namespace: str
) -> None:
    chalk.serve("same", "--replicas=2")
    before = sorted(p["metadata"]["uid"] for p in kubernetes.pods(namespace, "same"))
    generation = kubernetes.deployment(namespace, "same")["metadata"]["generation"]
    again = chalk.serve("same", "--replicas=2")
    assert "unchanged" in again.out + again.err
    assert sorted(p["metadata"]["uid"] for p in kubernetes.pods(namespace, "same")) == before
    assert kubernetes.deployment(namespace, "same")["metadata"]["generation"] == generation
    assert chalk.sg("get", "same", "-o", "json").json()["revision"] == 1


def test_a_change_is_a_new_revision_that_serves(
    chalk: Chalk, kubernetes: Kubernetes, namespace: str, answer: Answer
) -> None:
    base = [
        "create",
        "--name=word",
        f"--image={IMAGE}",
        "--port=8000",
        "--entrypoint",
        json.dumps(["python", "-c", SAY_WORD]),
    ]
    chalk.sg(*base, "--env", "WORD=first, with a comma")
    eventually(lambda: answer("word") == (200, "first, with a comma"), "the first revision answers")
    updated = chalk.sg(*base, "--env", "WORD=second")
    assert "updated" in updated.out + updated.err
    assert "env" in updated.out + updated.err
    eventually(lambda: answer("word") == (200, "second"), "the new revision answers")
    group = chalk.sg("get", "word", "-o", "json").json()
    assert group["revision"] == 2
    assert group["status"] == "Available"
    refused = chalk.sg(*base, "--env", "WORD=third", "--no-update", code=4)
    assert "word" in refused.err
    assert chalk.sg("get", "word", "-o", "json").json()["revision"] == 2


def test_command_after_dashes_and_alias(chalk: Chalk, answer: Answer) -> None:
    chalk(
        "sg",
        "create",
        "dashes",
        f"--image={IMAGE}",
        "--port=8000",
        "--",
        "python",
        "-m",
        "http.server",
        "8000",
    )
    eventually(lambda: answer("dashes")[0] == 200, "it answers")
    assert chalk("sg", "list", "-o", "name").out.split() == ["dashes"]


def test_output_json_of_create_parses(chalk: Chalk) -> None:
    group = chalk.serve("parse", f"--entrypoint={HTTP_SERVER}", "-o", "json").json()
    assert group["action"] == "created"
    assert group["status"] == "Available"
    assert group["spec"]["entrypoint"] == ["python", "-m", "http.server", "8000"]


def test_resources_are_requests_and_limits(chalk: Chalk, kubernetes: Kubernetes, namespace: str) -> None:
    create = ["create", "--name=sized", f"--image={IMAGE}", "--port=8000", "--shutdown-delay=1"]
    create += ["--entrypoint", json.dumps(SERVER)]
    chalk.sg(*create, "--cpu=60m", "--memory=100Mi")
    assert kubernetes.container(namespace, "sized")["resources"] == {
        "requests": {"cpu": "60m", "memory": "100Mi"},
        "limits": {"cpu": "60m", "memory": "100Mi"},
    }
    updated = chalk.sg(*create)
    assert "cpu" in updated.out + updated.err
    assert kubernetes.container(namespace, "sized")["resources"] == {
        "requests": {"cpu": "100m", "memory": "256Mi"},
        "limits": {"cpu": "1", "memory": "1Gi"},
    }


def test_all_that_a_replica_gets_is_in_the_deployment(
    chalk: Chalk, kubernetes: Kubernetes, namespace: str
) -> None:
    (chalk.home / f"{namespace}.env").write_text("FROM_FILE=1\nLOG_LEVEL=DEBUG\n", encoding="utf-8")
    chalk.serve(
        "whole",
        "--env=LOG_LEVEL=INFO",
        "--env=EMPTY=",
        f"--env-from-file={namespace}.env",
        "--shutdown-delay=7",
        "--no-wait",
    )
    pod = kubernetes.deployment(namespace, "whole")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == IMAGE
    assert container["command"] == SERVER
    assert "args" not in container
    env = {e["name"]: e.get("value", "") for e in container["env"]}
    assert env == {"FROM_FILE": "1", "LOG_LEVEL": "INFO", "EMPTY": ""}
    assert [p["containerPort"] for p in container["ports"]] == [8000]
    assert container["lifecycle"]["preStop"]["sleep"]["seconds"] == 7
    assert pod["terminationGracePeriodSeconds"] > 7
    assert container["readinessProbe"]["tcpSocket"]
    shown = chalk.sg("get", "whole").out
    for word in ("LOG_LEVEL=INFO", SMALL["cpu"], SMALL["memory"], "7s"):
        assert str(word) in shown


def test_lists_of_several_groups(chalk: Chalk) -> None:
    assert chalk.sg("list", "-o", "json").json() == {"schema": 1, "scaling_groups": []}
    assert chalk.sg("list", "-o", "name").out == ""
    chalk.serve("b-side", "--tags=team=ml,version=2.1", "--no-wait")
    chalk.serve("a-side", "--tag=team=web", "--no-wait")
    assert chalk.sg("list", "-o", "name").out.split() == ["a-side", "b-side"]
    assert chalk.sg("list", "-l", "team=ml", "-o", "name").out.split() == ["b-side"]
    assert chalk.sg("list", "-l", "team=ml,version=2.1", "-o", "name").out.split() == ["b-side"]
    assert chalk.sg("list", "-l", "team=ml,version=3", "-o", "name").out == ""
    urls = [g["web_url"] for g in chalk.sg("list", "-o", "json").json()["scaling_groups"]]
    assert chalk.sg("list", "-o", "url").out.split() == urls
    found = yaml.safe_load(chalk.sg("list", "-o", "yaml").out)["scaling_groups"]
    assert [g["tags"] for g in found] == [{"team": "web"}, {"team": "ml", "version": "2.1"}]
    chalk.sg("delete", f"--id={found[0]['id']}")
    assert chalk.sg("list", "-o", "name").out.split() == ["b-side"]


def test_what_was_removed_by_hand_comes_back(chalk: Chalk, kubernetes: Kubernetes, namespace: str) -> None:
    chalk.serve("whole")
    before = [p["metadata"]["uid"] for p in kubernetes.pods(namespace, "whole")]
    service = f"/api/v1/namespaces/{namespace}/services/whole"
    status, body = kubernetes.request("delete", service)
    assert status == 200, body
    eventually(lambda: kubernetes.find(service) is None, "the Service is gone")
    again = chalk.serve("whole")
    assert "Service/whole" in again.err
    assert kubernetes.get(service)["spec"]["clusterIP"] == "None"
    assert [p["metadata"]["uid"] for p in kubernetes.pods(namespace, "whole")] == before
    assert chalk.sg("get", "whole", "-o", "json").json()["revision"] == 1


@pytest.mark.parametrize(
    "change", [["--port=8000", "--env=WORD=new 🚀"], ["--port=9000", "--env=PORT=9000", "--env=WORD=new 🚀"]]
)
def test_no_request_fails_during_an_update(chalk: Chalk, client: Any, real: bool, change: list[str]) -> None:
    create = ["create", "--name=live", f"--image={IMAGE}", "--replicas=2", "--cpu=100m"]
    create += ["--memory=96Mi", "--entrypoint", json.dumps(["python", "-c", SAY_WORD])]
    chalk.sg(*create, "--port=8000", "--env=WORD=old")
    try:
        eventually(lambda: client.call("live", method="GET").status_code == 200, "the gateway answers")
    except UnreachableError:
        assert real, "the embedded gateway is always reachable"
        return  # its users' requests cannot be watched from here; that replicas are there, another test does
    process = chalk.start("scaling-group", *create, *change)
    seen = []
    while process.poll() is None:
        # One try each: `call()` would send again what a user's own client would see fail.
        try:
            response = client.call("live", method="GET", cold_start_timeout=0)
        except UnreachableError as error:
            seen.append((0, str(error)))
        else:
            seen.append((response.status_code, response.text))
    chalk.end(process, *create)
    if not (real and "--port=9000" in change):
        # When a gateway that is not ours follows a route to another port, only it knows.
        assert {status for status, _ in seen} == {200}, seen
        assert {text for _, text in seen} <= {"old", "new 🚀"}
    eventually(lambda: client.call("live", method="GET").text == "new 🚀", "the new revision answers")


def test_manifests_apply_as_they_are(chalk: Chalk, kubernetes: Kubernetes, namespace: str) -> None:
    printed = chalk.sg(
        "manifests",
        "--name=plain",
        f"--image={IMAGE}",
        "--port=8000",
        f"--entrypoint={HTTP_SERVER}",
        "--replicas=1",
    ).out
    objects = [o for o in yaml.safe_load_all(printed) if o]
    assert [o["kind"] for o in objects][-1] == "HTTPRoute"
    paths = {
        "Deployment": "/apis/apps/v1/namespaces/{}/deployments/plain",
        "Service": "/api/v1/namespaces/{}/services/plain",
        "HTTPRoute": "/apis/gateway.networking.k8s.io/v1/namespaces/{}/httproutes/plain",
    }
    for obj in objects:
        status, body = kubernetes.request(
            "patch",
            paths[obj["kind"]].format(namespace),
            obj,
            content_type="application/apply-patch+yaml",
            query_params=[("fieldManager", "e2e"), ("dryRun", "All"), ("fieldValidation", "Strict")],
        )
        assert status == 201, body
