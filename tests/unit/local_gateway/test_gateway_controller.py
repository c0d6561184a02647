"""The controller over the real store."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from chalkcompute.local.api.resources import ResourceApi
from chalkcompute.local.gateway.authority import Certificate
from chalkcompute.local.gateway.controller import ConfigFiles, GatewayController
from chalkcompute.local.gateway.objects import GatewayPorts
from chalkcompute.local.ports import Manifest
from tests.unit.local_gateway.exchange import eventually
from tests.unit.local_gateway.objects_of_a_cluster import a_route, a_service, created

NOW = datetime(2026, 1, 2, tzinfo=UTC)


def make_controller(api: ResourceApi, tmp_path: Path, https: int = 8443, **options: Any) -> GatewayController:
    files = ConfigFiles(tmp_path / "xds")
    files.clear()
    return GatewayController(
        api,
        files,
        domain="gw.localhost",
        ports=GatewayPorts(https, 8080),
        certificate=lambda: Certificate(b"CERT", b"KEY"),
        ca_pem="PEM",
        now=lambda: NOW,
        **options,
    )


def play(controller: GatewayController, scenario: Callable[[], Awaitable[None]]) -> None:
    """Run the scenario beside the controller."""

    async def both() -> None:
        task = asyncio.create_task(controller.run())
        try:
            await scenario()
        finally:
            task.cancel()
            await asyncio.wait({task})

    asyncio.run(both())


def holds(obj: Manifest, condition: str) -> bool:
    conditions = (obj.get("status") or {}).get("conditions") or ()
    return any(c["type"] == condition and c["status"] == "True" for c in conditions)


def one(api: ResourceApi, kind: str, name: str, namespace: str = "") -> Manifest:
    """The object, {} while there is none."""
    return next((o for o in api.list(kind, namespace) if o["metadata"]["name"] == name), {})


def gateway_of(api: ResourceApi) -> Manifest:
    return one(api, "Gateway", "local", "chalk-gateway")


def reasons(api: ResourceApi) -> dict[str, str]:
    parents = (api.get("HTTPRoute", "web", "default").get("status") or {}).get("parents") or [{}]
    return {c["type"]: c["reason"] for c in parents[0].get("conditions") or ()}


def test_its_own_objects_are_valid_and_told(api: ResourceApi, tmp_path: Path) -> None:
    controller = make_controller(api, tmp_path)

    async def scenario() -> None:
        await eventually(lambda: holds(one(api, "GatewayClass", "chalk-local"), "Accepted"), "class accepted")
        await eventually(lambda: "status" in gateway_of(api), "a status of the gateway")
        assert not holds(gateway_of(api), "Programmed")
        controller.set_serving(True)
        await eventually(lambda: holds(gateway_of(api), "Programmed"), "programmed")
        gateway = gateway_of(api)
        assert gateway["metadata"]["annotations"]["chalk.ai/ca-certificate"] == "PEM"

    play(controller, scenario)


def test_a_second_start_changes_nothing_but_what_differs(api: ResourceApi, tmp_path: Path) -> None:
    make_controller(api, tmp_path).ensure_objects()
    before = gateway_of(api)
    make_controller(api, tmp_path).ensure_objects()
    assert gateway_of(api) == before
    make_controller(api, tmp_path, https=9443).ensure_objects()
    after = gateway_of(api)
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert [listener["port"] for listener in after["spec"]["listeners"]] == [9443, 8080]


def test_a_route_is_told_and_told_again(api: ResourceApi, tmp_path: Path) -> None:
    async def scenario() -> None:
        api.create(created(a_route()), manager="test")
        await eventually(lambda: reasons(api).get("ResolvedRefs") == "BackendNotFound", "no backend yet")
        api.create(a_service(), manager="test")
        await eventually(lambda: reasons(api).get("ResolvedRefs") == "ResolvedRefs", "resolved")
        assert reasons(api)["Accepted"] == "Accepted"
        version = api.get("HTTPRoute", "web", "default")["metadata"]["resourceVersion"]
        api.create({**created(a_service("other"))}, manager="test")
        await asyncio.sleep(0.05)
        assert api.get("HTTPRoute", "web", "default")["metadata"]["resourceVersion"] == version

    play(make_controller(api, tmp_path), scenario)


def test_a_route_is_written_once_envoy_has_what_it_leads_to(api: ResourceApi, tmp_path: Path) -> None:
    asked: list[set[str]] = []
    has_it = asyncio.Event()

    async def loaded(names: Collection[str]) -> None:
        asked.append(set(names))
        await has_it.wait()

    controller = make_controller(api, tmp_path, loaded=loaded)

    def clusters_in(name: str) -> bool:
        return "default/web" in (tmp_path / "xds" / f"{name}.json").read_text()

    async def scenario() -> None:
        await asyncio.wait_for(controller.configured.wait(), 30)
        controller.set_serving(True)
        api.create(a_service(), manager="test")
        api.create(created(a_route()), manager="test")
        await eventually(lambda: asked, "Envoy is asked")
        assert clusters_in("cds")
        assert not clusters_in("rds-https")
        assert not reasons(api), "it is not said to be accepted, either"
        has_it.set()
        await eventually(lambda: clusters_in("rds-https"), "the route")
        await eventually(lambda: reasons(api).get("Accepted") == "Accepted", "accepted")
        api.create(created(a_service("other")), manager="test")
        await asyncio.sleep(0.05)
        assert len(asked) == 1, "what Envoy has is not asked for again"

    play(controller, scenario)


def test_a_gateway_that_was_deleted_is_made_again(api: ResourceApi, tmp_path: Path) -> None:
    async def scenario() -> None:
        await eventually(lambda: "status" in gateway_of(api), "a status of the gateway")
        uid = gateway_of(api)["metadata"]["uid"]
        api.delete("Gateway", "local", "chalk-gateway")
        await eventually(
            lambda: any(g["metadata"]["uid"] != uid for g in api.list("Gateway", "chalk-gateway")), "another"
        )

    play(make_controller(api, tmp_path), scenario)


def test_only_changed_files_are_written(tmp_path: Path) -> None:
    files = ConfigFiles(tmp_path / "xds")
    files.clear()
    files.write({"a": {"x": 1}, "b": {"x": 1}})
    before = {p.name: p.stat().st_ino for p in files.folder.iterdir()}
    files.write({"a": {"x": 1}, "b": {"x": 2}})
    after = {p.name: p.stat().st_ino for p in files.folder.iterdir()}
    assert after["a.json"] == before["a.json"]
    assert after["b.json"] != before["b.json"]
    assert json.loads((files.folder / "b.json").read_text()) == {"x": 2}
    files.keep_only({"b"})
    assert [p.name for p in files.folder.iterdir()] == ["b.json"]
