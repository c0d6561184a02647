"""The namespace and Services of KEDA: made, and made again."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

import pytest

from chalkcompute.local.api.resources import ResourceApi
from chalkcompute.local.api.store import Store
from chalkcompute.local.controllers.controller import run_controller
from chalkcompute.local.controllers.keda_objects import KedaObjects
from chalkcompute.local.controllers.namespace import NamespaceController
from tests.unit.local_controllers.waiting import until

NAMES = {"keda-add-ons-http-external-scaler": [9090], "keda-add-ons-http-interceptor-proxy": [8080]}


@pytest.fixture
def api(tmp_path: Path) -> ResourceApi:
    return ResourceApi(Store(tmp_path / "store.db"))


def services(api: ResourceApi) -> dict[str, list[int]]:
    return {
        service["metadata"]["name"]: [port["port"] for port in service["spec"]["ports"]]
        for service in api.list("Service", "keda")
    }


def test_they_are_there_from_the_start_and_writing_them_again_changes_nothing(api: ResourceApi) -> None:
    KedaObjects(api).ensure()
    assert services(api) == NAMES
    before = {(o["kind"], o["metadata"]["resourceVersion"]) for o in api.list("Service", "keda")}
    KedaObjects(api).ensure()
    assert {(o["kind"], o["metadata"]["resourceVersion"]) for o in api.list("Service", "keda")} == before
    assert all("selector" not in service["spec"] for service in api.list("Service", "keda"))


def test_what_is_deleted_or_changed_comes_back(api: ResourceApi) -> None:
    async def scenario() -> None:
        KedaObjects(api).ensure()
        tasks = [
            asyncio.create_task(run_controller(api, controller))
            for controller in (KedaObjects(api), NamespaceController(api))
        ]
        try:
            api.delete("Service", "keda-add-ons-http-interceptor-proxy", "keda")
            await until(lambda: services(api) == NAMES)
            changed = api.get("Service", "keda-add-ons-http-external-scaler", "keda")
            changed["spec"] |= {"selector": {"app": "x"}, "ports": [{"port": 1, "name": "a"}]}
            api.update(changed, manager="kubectl")
            await until(lambda: services(api) == NAMES)
            assert all("selector" not in service["spec"] for service in api.list("Service", "keda"))
            uid = api.get("Namespace", "keda")["metadata"]["uid"]
            api.delete("Namespace", "keda")
            await until(lambda: services(api) == NAMES and uid != current_uid(api))
        finally:
            for task in tasks:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    asyncio.run(scenario())


def current_uid(api: ResourceApi) -> str:
    return str(api.get("Namespace", "keda")["metadata"]["uid"])
