"""A cluster in this process: the embedded cluster's own API without HTTP, plus faults and a count."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from chalkcompute.client import ChalkClient
from chalkcompute.cluster.protocol import Applied, Capabilities, WatchEvent
from chalkcompute.cluster.reasons import api_error
from chalkcompute.errors import ObjectNotFoundError
from chalkcompute.local.api.deletion import DeleteOptions
from chalkcompute.local.api.listing import ListQuery, select
from chalkcompute.local.api.resources import ResourceApi
from chalkcompute.local.api.store import Store, clone
from chalkcompute.local.api.writes import APPLY_PATCH, MERGE_PATCH, WriteOptions
from chalkcompute.local.apimachinery.kinds import KINDS, Kind, by_kind
from chalkcompute.local.apimachinery.status import StatusError
from chalkcompute.manifests.placement import Profile
from chalkcompute.service.scope import Scope, World
from chalkcompute.settings import Settings
from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.types import Manifest

KEDA = ("ScaledObject", "InterceptorRoute")
FOREGROUND = "foregroundDeletion"


class Clock:
    """Time that passes when someone sleeps or watches."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return datetime(2026, 11, 24, tzinfo=UTC) + timedelta(seconds=self.seconds)

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


class ApiCluster:
    """`Cluster` straight onto `ResourceApi`; collects garbage at once, as the cluster's controller does.

    Its discovery has no KEDA, as of a cluster where none is installed, until `with_keda`.
    """

    server = "https://in-process"

    def __init__(self, api: ResourceApi, clock: Clock) -> None:
        self.api = api
        self.clock = clock
        self.capable = {
            (k.group, version, k.plural) for k in KINDS for version in k.versions if k.kind not in KEDA
        }
        self.capable.add(("metrics.k8s.io", "v1beta1", "pods"))
        self.pod_metrics: list[Manifest] = []
        self.measured: dict[str, Manifest] = {}
        self.calls: list[tuple[str, str]] = []
        self.after: list[Callable[[], None]] = []
        self.collects: Callable[[Manifest], bool] = lambda _: True

    def with_keda(self) -> None:
        """Serve KEDA's kinds and have its interceptor."""
        self.capable |= {
            ("keda.sh", "v1alpha1", "scaledobjects"),
            ("http.keda.sh", "v1beta1", "interceptorroutes"),
        }
        self.put({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "keda"}})
        self.put(
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": Profile().keda_interceptor_service, "namespace": "keda"},
                "spec": {"ports": [{"port": 8080}]},
            }
        )

    def put(self, obj: Manifest) -> Manifest:
        """Create an object as somebody else would."""
        return self.api.create(obj, manager="somebody")

    def set_status(self, kind: str, name: str, status: Mapping[str, Any], namespace: str = "default") -> None:
        obj = self.api.get(kind, name, namespace)
        self.api.update({**obj, "status": dict(status)}, manager="controller", subresource="status")

    def seen(self, kind: str, name: str, namespace: str = "default") -> Manifest | None:
        """An object, past the count of calls."""
        try:
            return self.api.get(kind, name, namespace)
        except StatusError:
            return None

    def everything(self) -> list[str]:
        """`Kind/name` of all that a group may consist of."""
        kinds = (
            "ConfigMap",
            "Secret",
            "Service",
            "Deployment",
            "HorizontalPodAutoscaler",
            "HTTPRoute",
            "Pod",
            *KEDA,
        )
        found = [(kind, obj) for kind in kinds for obj in self.api.list(kind, "default")]
        return sorted(f"{kind}/{obj['metadata']['name']}" for kind, obj in found)

    def capabilities(self) -> Capabilities:
        return Capabilities(frozenset(self.capable))

    def get(
        self, kind: str, name: str, namespace: str | None = None, *, subresource: str | None = None
    ) -> Manifest:
        self.calls.append(("get", kind))
        if subresource is not None and subresource in self.measured:
            return clone(self.measured[subresource])  # type: ignore[no-any-return]
        if kind == "MetricValueList":
            raise ObjectNotFoundError("the server could not find the metric", status=404, reason="NotFound")
        return self._do(lambda: self.api.get(kind, name, namespace or ""))  # type: ignore[no-any-return]

    def list(
        self,
        kind: str,
        namespace: str | None = None,
        *,
        labels: str | None = None,
        fields: str | None = None,
        metadata_only: bool = False,
    ) -> list[Manifest]:
        self.calls.append(("list", kind))
        if kind == "PodMetrics":
            return [clone(found) for found in self.pod_metrics]
        entry = by_kind(kind)
        selection = self._do(lambda: select(entry, namespace or "", labels or "", fields or ""))
        page = self._do(lambda: self.api.page(selection, ListQuery()))
        if metadata_only:
            return [{"kind": kind, "metadata": clone(obj["metadata"])} for obj in page.items]
        return [{**clone(obj), "kind": kind} for obj in page.items]

    def create(self, obj: Manifest, *, dry_run: bool = False) -> Manifest:
        self.calls.append(("dry-create" if dry_run else "create", obj["kind"]))
        kind = by_kind(obj["kind"])
        options = self._options(kind, "chalk", dry_run=dry_run)
        namespace = obj["metadata"].get("namespace") or ""
        return clone(self._do(lambda: self.api.post(kind, namespace, clone(obj), options)).obj)  # type: ignore[no-any-return]

    def replace(self, obj: Manifest) -> Manifest:
        self.calls.append(("replace", obj["kind"]))
        kind, meta = by_kind(obj["kind"]), obj["metadata"]
        options = self._options(kind, "chalk")
        written = self._do(lambda: self.api.put(kind, meta["namespace"], meta["name"], clone(obj), options))
        return clone(written.obj)  # type: ignore[no-any-return]

    def apply(
        self, obj: Manifest, *, manager: str = "chalk", force: bool = True, dry_run: bool = False
    ) -> Applied:
        self.calls.append(("dry-apply" if dry_run else "apply", obj["kind"]))
        meta = obj["metadata"]
        kind = by_kind(obj["kind"])
        options = self._options(kind, manager, dry_run=dry_run, force=force, api_version=obj["apiVersion"])
        namespace = meta.get("namespace") or ""
        patch = clone(obj)
        written = self._do(lambda: self.api.patch(kind, namespace, meta["name"], patch, APPLY_PATCH, options))
        answer = clone(written.obj)
        if obj["kind"] == "Secret":
            answer = {"kind": "PartialObjectMetadata", "metadata": answer["metadata"]}
        return Applied(answer, written.created, written.warnings)

    def merge(
        self,
        kind: str,
        name: str,
        patch: Mapping[str, object],
        namespace: str | None = None,
        *,
        subresource: str | None = None,
        manager: str = "chalk",
    ) -> Manifest:
        self.calls.append(("merge", f"{kind}/{subresource}" if subresource else kind))
        entry = by_kind(kind)
        options = self._options(entry, manager, subresource=subresource or "")
        body = clone(dict(patch))
        written = self._do(lambda: self.api.patch(entry, namespace or "", name, body, MERGE_PATCH, options))
        return clone(written.obj)  # type: ignore[no-any-return]

    def delete(
        self,
        kind: str,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        propagation: str = "Background",
        dry_run: bool = False,
    ) -> bool:
        self.calls.append(("dry-delete" if dry_run else "delete", kind))
        options = DeleteOptions(propagation=propagation, uid=uid or "", dry_run=dry_run)
        try:
            self._do(lambda: self.api.remove(by_kind(kind), namespace or "", name, options))
        except ObjectNotFoundError:
            return False
        self._collect()
        return True

    def watch(
        self,
        kind: str,
        namespace: str,
        *,
        fields: str | None = None,
        labels: str | None = None,
        resource_version: str | None = None,
        timeout: float = 60.0,
    ) -> Iterator[WatchEvent]:
        """Time passes, and what is due in `after` happens: one function a watch."""
        self.calls.append(("watch", kind))
        self.clock.sleep(timeout)
        if self.after:
            self.after.pop(0)()
            yield WatchEvent("MODIFIED", {})

    def logs(
        self,
        pod: str,
        namespace: str,
        *,
        container: str | None = None,
        previous: bool = False,
        tail_lines: int | None = None,
    ) -> str:
        return ""

    def _options(
        self,
        kind: Kind,
        manager: str,
        *,
        dry_run: bool = False,
        force: bool = False,
        subresource: str = "",
        api_version: str = "",
    ) -> WriteOptions:
        return WriteOptions(
            manager=manager,
            api_version=api_version or kind.api_version,
            dry_run=dry_run,
            force=force,
            subresource=subresource,
            field_validation="Strict",
        )

    def _do(self, work: Callable[[], Any]) -> Any:
        try:
            return work()
        except StatusError as error:
            raise api_error(error.code, json.dumps(error.to_status()), request="in process") from error

    def _collect(self) -> None:
        """Delete what is owned by objects that are gone or going in the foreground, until nothing changes."""
        kinds = [kind for kind in KINDS if kind.namespaced]
        changed = True
        while changed:
            changed = False
            objects = [(kind, obj) for kind in kinds for obj in self.api.list(kind.kind, "default")]
            alive = {o["metadata"]["uid"] for _, o in objects if not o["metadata"].get("deletionTimestamp")}
            for kind, obj in objects:
                meta = obj["metadata"]
                owners = meta.get("ownerReferences") or []
                going = meta.get("deletionTimestamp") is not None
                orphaned = owners and not going and not any(owner["uid"] in alive for owner in owners)
                if orphaned and self.collects(obj):
                    self.api.delete(kind.kind, meta["name"], "default", grace_seconds=0)
                    changed = True
                elif FOREGROUND in (meta.get("finalizers") or ()):
                    self.api.update({**obj, "metadata": {**meta, "finalizers": []}}, manager="gc")
                    changed = True


class Killed(BaseException):
    """This process ends here."""


class FailingCluster:
    """Passes everything on to `inner`; the n-th write, counted from 1, is the last thing that happens.

    Args:
        inner: The cluster.
        kill_after: Do that many writes, then raise `Killed` from every further call.
        fail: Errors to raise instead of a call, by verb and kind.
        before: What somebody else does just before the first such call.
    """

    WRITES = ("create", "replace", "apply", "merge", "delete")

    def __init__(
        self,
        inner: ApiCluster,
        *,
        kill_after: int | None = None,
        fail: Mapping[tuple[str, str], Exception] | None = None,
        before: Mapping[tuple[str, str], Callable[[], None]] | None = None,
    ) -> None:
        self.inner = inner
        self.kill_after = kill_after
        self.fail = dict(fail or {})
        self.before = dict(before or {})
        self.writes = 0
        self.dead = False

    def __getattr__(self, verb: str) -> Any:
        method = getattr(self.inner, verb)
        if not callable(method):
            return method

        def call(*args: Any, **options: Any) -> Any:
            if self.dead:
                raise Killed
            kind = args[0] if args and isinstance(args[0], str) else args[0]["kind"] if args else ""
            label = f"dry-{verb}" if options.get("dry_run") else verb
            if (label, kind) in self.fail:
                raise self.fail[(label, kind)]
            if (verb, kind) in self.before:
                self.before.pop((verb, kind))()
            result = method(*args, **options)
            if verb in self.WRITES and not options.get("dry_run"):
                self.writes += 1
                if self.writes == self.kill_after:
                    self.dead = True
                    raise Killed
            return result

        return call


@pytest.fixture
def killed() -> type[BaseException]:
    """What a client raises whose process has ended."""
    return Killed


@pytest.fixture
def delete_dies(reconnect: Callable[..., tuple[ChalkClient, FailingCluster]]) -> Callable[[int], None]:
    """A delete of `web` whose process ends after so many writes."""

    def die(after: int) -> None:
        dying, _ = reconnect(kill_after=after)
        with pytest.raises(Killed):
            dying.delete_scaling_group("web")

    return die


GATEWAY_CLASS = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "GatewayClass",
    "metadata": {"name": "gc"},
    "spec": {"controllerName": "example.com/gateway"},
}
GATEWAY = {
    "apiVersion": "gateway.networking.k8s.io/v1",
    "kind": "Gateway",
    "metadata": {"name": "gw", "namespace": "kube-system", "annotations": {"chalk.ai/ca-certificate": "PEM"}},
    "spec": {
        "gatewayClassName": "gc",
        "listeners": [
            {
                "name": "https",
                "protocol": "HTTPS",
                "port": 443,
                "hostname": "*.gw.test",
                "tls": {"certificateRefs": [{"name": "c"}]},
                "allowedRoutes": {"namespaces": {"from": "All"}},
            },
            {
                "name": "http",
                "protocol": "HTTP",
                "port": 80,
                "hostname": "*.gw.test",
                "allowedRoutes": {"namespaces": {"from": "All"}},
            },
        ],
    },
}


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def cluster(tmp_path: Path, clock: Clock) -> Iterator[ApiCluster]:
    """An empty cluster with one gateway that admits everyone."""
    store = Store(tmp_path / "store.db")
    made = ApiCluster(ResourceApi(store, now=clock.now), clock)
    made.put(clone(GATEWAY_CLASS))
    made.put(clone(GATEWAY))
    yield made
    store.close()


@pytest.fixture
def world(clock: Clock) -> World:
    ids = iter(f"{n:08d}-0000-4000-8000-000000000000" for n in range(1, 1000))
    salts = iter(f"salt{n}" for n in range(1000))
    return World(
        now=clock.now,
        monotonic=lambda: clock.seconds,
        sleep=clock.sleep,
        jitter=lambda: 0.5,
        new_id=lambda: next(ids),
        holder=lambda: "ann@laptop:1",
        is_gone=lambda holder: False,
        new_salt=lambda: next(salts),
    )


@pytest.fixture
def scope() -> Scope:
    return Scope(namespace="default")


@pytest.fixture
def client(cluster: ApiCluster, world: World) -> ChalkClient:
    return ChalkClient.over(cluster, Settings(), world)


@pytest.fixture
def spec() -> ScalingGroupSpec:
    return ScalingGroupSpec(name="web", image="nginx:1", port=8080)


@pytest.fixture
def reconnect(cluster: ApiCluster, world: World) -> Callable[..., tuple[ChalkClient, FailingCluster]]:
    """A client over the same cluster with faults."""

    def make(**faults: Any) -> tuple[ChalkClient, FailingCluster]:
        failing = FailingCluster(cluster, **faults)
        return ChalkClient.over(failing, Settings(), world), failing

    return make
