"""Create, look, change, delete: the main path, as the specification prints it."""

from __future__ import annotations

import json
from collections.abc import Callable

import yaml

from tests.e2e.harness import IMAGE, Chalk, Kubernetes, eventually

Answer = Callable[..., tuple[int, str]]

SAY_WORD = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = os.environ["WORD"].encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("", 8000), Handler).serve_forever()
"""


def test_create_list_get_answer_delete(
    chalk: Chalk, kubernetes: Kubernetes, namespace: str, answer: Answer
) -> None:
    created = chalk.serve("hello", "--replicas=2", "--tags=team=ml,version=2.1")
    assert "created" in created.out + created.err

    listed = chalk.sg("list", "-o", "json").json()
    assert listed["schema"] == 1
    (group,) = listed["scaling_groups"]
    assert group["name"] == "hello"
    assert group["status"] == "Available"
    assert group["replicas"] == {"desired": 2, "ready": 2, "available": 2, "min": 2, "max": 2}
    assert group["tags"] == {"team": "ml", "version": "2.1"}
    assert group["web_url"].startswith(f"https://{namespace}-hello.")

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
    assert chalk.sg("get", "--name=hello", "-o", "json").json()["id"] == group["id"]
    assert yaml.safe_load(chalk.sg("get", "hello", "-o", "yaml").out)["id"] == group["id"]

    status, text = answer("hello", "/")
    assert status == 200
    assert "Directory listing" in text

    service = kubernetes.get(f"/api/v1/namespaces/{namespace}/services/hello")
    assert service["spec"]["clusterIP"] == "None"
    route = kubernetes.get(f"/apis/gateway.networking.k8s.io/v1/namespaces/{namespace}/httproutes/hello")
    assert route["spec"]["hostnames"] == [group["web_url"].removeprefix("https://").split(":")[0]]
    deployment = kubernetes.deployment(namespace, "hello")
    assert deployment["metadata"]["labels"]["chalk.ai/tag-team"] == "ml"
    assert kubernetes.items(f"/apis/autoscaling/v2/namespaces/{namespace}/horizontalpodautoscalers") == []

    deleted = chalk.sg("delete", "--name=hello")
    assert "hello" in deleted.out + deleted.err
    assert [o for o in kubernetes.group_objects(namespace, "hello") if "chalk-sg-hist-" not in o] == []
    assert chalk.sg("list", "-o", "json").json() == {"schema": 1, "scaling_groups": []}
    (gone,) = chalk.sg("list", "--all", "-o", "json").json()["scaling_groups"]
    assert (gone["id"], gone["status"]) == (group["id"], "Deleted")
    assert gone["deleted_at"]
    assert chalk.sg("get", "--name=hello", code=3).out == ""


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
    assert answer("word") == (200, "first, with a comma")
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
    assert answer("dashes")[0] == 200
    assert chalk("sg", "list", "-o", "name").out.split() == ["dashes"]


def test_output_json_of_create_parses(chalk: Chalk) -> None:
    group = chalk.serve("parse", "-o", "json").json()
    assert group["action"] == "created"
    assert group["status"] == "Available"
    assert group["spec"]["entrypoint"] == ["python", "-m", "http.server", "8000"]


def test_resources_are_requests_and_limits(chalk: Chalk, kubernetes: Kubernetes, namespace: str) -> None:
    chalk.serve("sized", "--cpu=50m", "--memory=64Mi", "--shutdown-delay=1")
    (container,) = kubernetes.deployment(namespace, "sized")["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "50m", "memory": "64Mi"},
        "limits": {"cpu": "50m", "memory": "64Mi"},
    }
    chalk.serve("sized", "--shutdown-delay=1")
    (container,) = kubernetes.deployment(namespace, "sized")["spec"]["template"]["spec"]["containers"]
    assert container["resources"] == {
        "requests": {"cpu": "100m", "memory": "256Mi"},
        "limits": {"cpu": "1", "memory": "1Gi"},
    }


def test_manifests_apply_as_they_are(chalk: Chalk, kubernetes: Kubernetes, namespace: str) -> None:
    printed = chalk.sg(
        "manifests",
        "--name=plain",
        f"--image={IMAGE}",
        "--port=8000",
        f"--entrypoint={'python,-m,http.server,8000'}",
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
