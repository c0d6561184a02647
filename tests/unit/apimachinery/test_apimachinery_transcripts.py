"""Requests to a real Kubernetes 1.36 API server, and its answers, run through the pure functions.

`data/*.json` are excerpts of recorded conversations: what concerns one object alone. Values that differ
from run to run (uid, resourceVersion, creationTimestamp) are left out, as are the traces of controllers.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chalkcompute.local.apimachinery import managed
from chalkcompute.local.apimachinery.decode import decode
from chalkcompute.local.apimachinery.defaults import default
from chalkcompute.local.apimachinery.kinds import Kind, by_plural
from chalkcompute.local.apimachinery.patch import json_patch, merge_patch, strategic_merge_patch
from chalkcompute.local.apimachinery.status import StatusError
from chalkcompute.local.apimachinery.strategy import prepare_create, prepare_update
from chalkcompute.local.apimachinery.validation import validate_create, validate_update

DATA = Path(__file__).parent / "data"
SCENARIOS = sorted(path.stem for path in DATA.glob("*.json"))
VOLATILE = {"uid", "resourceVersion", "creationTimestamp"}
SERVER_FIELDS = ("namespace", "uid", "creationTimestamp", "generation")


class Server:
    """Objects of one conversation, changed by the functions under test in the API server's order."""

    def __init__(self) -> None:
        self.objects: dict[tuple[str, str], dict[str, Any]] = {}

    def answer(self, step: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        try:
            return self._handle(step)
        except StatusError as error:
            return error.code, error.to_status()

    def _handle(self, step: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        kind, api_version, name, subresource = _target(step["path"])
        query = step.get("query") or {}
        manager, now = query.get("fieldManager", "unknown"), _time(step["answer"])
        live = self.objects.get((kind.kind, name)) if step["method"] != "POST" else None
        applies = step.get("content_type") == "application/apply-patch+yaml"
        if applies:
            obj = managed.apply(
                kind,
                live,
                step["body"],
                manager=manager,
                force=query.get("force") == "true",
                now=now,
                subresource=subresource,
                api_version=api_version,
            )
        else:
            document = _document(kind, live, step, subresource)
            obj, _ = decode(kind, document, query.get("fieldValidation", "Warn"))
        tracking = {"manager": manager, "now": now, "subresource": subresource, "api_version": api_version}
        if live is None:
            obj["metadata"]["namespace"] = "NS"
            if generated := obj["metadata"].get("generateName"):
                obj["metadata"]["name"] = f"{generated}d9dg8"
            if not applies:
                obj = managed.update(kind, default(kind, obj), None, **tracking)
            obj = prepare_create(kind, obj)
            validate_create(kind, obj)
            status = 201
        else:
            kept = {field: live["metadata"][field] for field in SERVER_FIELDS if field in live["metadata"]}
            obj["metadata"].update(kept)
            obj = prepare_update(kind, default(kind, obj), live, subresource)
            if not applies:
                obj = managed.update(kind, obj, live, **tracking)
            validate_update(kind, obj, live, subresource)
            status = 200
        if "dryRun" not in query:
            self.objects[kind.kind, obj["metadata"]["name"]] = copy.deepcopy(obj)
        return status, obj


def _target(path: str) -> tuple[Kind, str, str, str]:
    parts = path.strip("/").split("/")
    group, version, rest = ("", parts[1], parts[2:]) if parts[0] == "api" else (parts[1], parts[2], parts[3:])
    kind = by_plural(group, version, rest[2])
    assert kind is not None
    tail = [*rest[3:], "", ""]
    return kind, f"{group}/{version}" if group else version, tail[0], tail[1]


def _document(kind: Kind, live: dict[str, Any] | None, step: dict[str, Any], subresource: str) -> Any:
    if step["method"] != "PATCH":
        return step["body"]
    assert live is not None
    document = copy.deepcopy(live)
    if subresource == "scale":
        document["spec"]["replicas"] = step["body"]["spec"]["replicas"]
        return document
    if "json-patch" in step["content_type"]:
        return json_patch(document, step["body"])
    if "merge-patch+json" in step["content_type"] and "strategic" not in step["content_type"]:
        return merge_patch(document, step["body"])
    return strategic_merge_patch(kind, document, step["body"])


def _time(answer: dict[str, Any]) -> str:
    """The latest moment recorded in an answer's managedFields: when the request was served."""
    entries = (answer.get("metadata") or {}).get("managedFields") or []
    return max((entry.get("time", "") for entry in entries), default="") or "2026-11-23T11:21:39Z"


def _stable(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _stable(child) for name, child in value.items() if name not in VOLATILE}
    return [_stable(item) for item in value] if isinstance(value, list) else value


def _steps() -> Iterator[Any]:
    for scenario in SCENARIOS:
        server = Server()
        for step in json.loads((DATA / f"{scenario}.json").read_text("utf-8")):
            answer = server.answer(step)
            yield pytest.param(step, answer, id=f"{scenario}-{step['step']}")


STEPS = list(_steps())


@pytest.mark.parametrize(("step", "answer"), STEPS)
def test_the_real_servers_answer(step: dict[str, Any], answer: tuple[int, dict[str, Any]]) -> None:
    status, body = answer
    assert status == step["status"], body.get("message")
    if status >= 400:
        assert _refusal(body) == _refusal(step["answer"])
    elif step["answer"].get("kind") == "PartialObjectMetadata":
        assert _stable(body["metadata"]) == _stable(step["answer"]["metadata"])
    elif step["answer"].get("kind") == "Scale":
        assert body["spec"]["replicas"] == step["answer"]["spec"]["replicas"]
    else:
        if body["kind"] == "Deployment":
            body = {name: value for name, value in body.items() if name != "status"}
        assert _stable(body) == _stable(step["answer"])


def _refusal(status: dict[str, Any]) -> dict[str, Any]:
    details = {
        key: value for key, value in (status.get("details") or {}).items() if key != "retryAfterSeconds"
    }
    return {**{key: status.get(key) for key in ("reason", "code", "message")}, "details": details or None}


def test_every_scenario_has_steps() -> None:
    assert len(STEPS) > 60
