"""Create a group, or bring it to another spec.

Everything is checked first; then the writes go in an order that can break off anywhere and be finished
by running it again.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence, Set
from dataclasses import replace
from functools import partial

from chalkcompute.cluster.protocol import Cluster
from chalkcompute.errors import (
    ChalkError,
    ConflictError,
    DeployFailedError,
    InvalidObjectError,
    NotFoundError,
    NotOwnedError,
    ObjectExistsError,
)
from chalkcompute.manifests import render
from chalkcompute.manifests.record import Operation, Record
from chalkcompute.manifests.route import leaves_interceptor
from chalkcompute.service import (
    claims,
    contents,
    drift,
    existing,
    grants,
    preflight,
    records,
    replicas,
    revisions,
)
from chalkcompute.service.capabilities import check_capabilities
from chalkcompute.service.discovery import Place, discover
from chalkcompute.service.existing import Live, identity, key_of
from chalkcompute.service.expected import Expected, require_deployable
from chalkcompute.service.ownership import GoingError
from chalkcompute.service.plan import Plan, plan_deploy
from chalkcompute.service.progress import Reporter
from chalkcompute.service.read import describe
from chalkcompute.service.scope import Scope, World
from chalkcompute.spec import ScalingGroupSpec
from chalkcompute.spec.advice import advise, advise_change
from chalkcompute.spec.content import Content
from chalkcompute.types import Action, DeployResult, Manifest, OnProgress, Status, Verdict

__all__ = ["create_group"]

_ATTEMPTS = 3
_PORT_SECONDS = 1.0
"""Until the cluster has endpoints for a Service's new port, and the gateway has them."""
_ROUTE_SECONDS = 2.0
"""Until gateways follow a route that leads away from KEDA's interceptor, which soon knows no such host."""
_COLLECTED_SECONDS = 2.0
"""Until the cluster has collected what a record owned that is gone."""


def create_group(
    cluster: Cluster,
    scope: Scope,
    spec: ScalingGroupSpec,
    *,
    content: Content,
    update: bool,
    dry_run: bool,
    expected: Expected | None,
    on_progress: OnProgress | None,
    world: World,
) -> DeployResult:
    """Create or update; see `ChalkClient.create_scaling_group`."""
    reporter = Reporter(on_progress, world)
    reporter.say("applying", "looking at the cluster")
    place = discover(cluster, scope, spec.name)
    warnings = [*advise(spec), *place.warnings, *check_capabilities(cluster, spec, scope.profile)]
    for attempt in range(_ATTEMPTS):
        deploy = _Deploy(cluster, scope, spec, content, place, world, reporter, list(warnings))
        try:
            return deploy.run(update=update, dry_run=dry_run, expected=expected)
        except ObjectExistsError:
            pass  # Someone created the record between our look and our POST: it is an update now.
        except NotFoundError:
            if deploy.has_begun:
                raise
            # Someone deleted it between our look and our lease: it is to be created now.
        except GoingError:
            if not deploy.is_another_group() and attempt == _ATTEMPTS - 1:
                raise
            world.sleep(_COLLECTED_SECONDS)
        except (InvalidObjectError, NotOwnedError) as error:
            if not deploy.is_another_group() and not (attempt == 0 and deploy.is_odd(error)):
                raise
        world.sleep(0.2 * (attempt + 1) * (1.0 + world.jitter()))
    raise ConflictError(
        f"scaling group `{spec.name}` is created and deleted by someone else at the same time",
        hint="try again in a moment",
    )


class _Deploy:
    """One attempt."""

    def __init__(
        self,
        cluster: Cluster,
        scope: Scope,
        spec: ScalingGroupSpec,
        content: Content,
        place: Place,
        world: World,
        reporter: Reporter,
        warnings: list[str],
    ) -> None:
        self.cluster = cluster
        self.scope = scope
        self.spec = spec
        self.content = content
        self.place = place
        self.world = world
        self.reporter = reporter
        self.warnings = warnings
        self._id = world.new_id()
        self._prepared = contents.Prepared(spec)
        self._found: Record | None = None
        self._overtaken = False
        self._expected: Expected | None = None
        self._held: Record | None = None
        self._unfinished: Record | None = None
        self._withheld: Set[str] = frozenset()

    def run(self, *, update: bool, dry_run: bool, expected: Expected | None) -> DeployResult:
        found = records.by_name(self.cluster, self.scope.namespace, self.spec.name)
        self._found, self._expected = found, expected
        require_deployable(self.spec.name, found, expected, update=update)
        self._prepare(found)
        plan = self._plan(found)
        self._begun(plan.record).to_manifest()  # refuses what no record can hold
        manifests = self._render(plan.record)
        live = self._live(manifests, plan.record.id, found.spec.mode if found is not None else None)
        if found is not None:
            running = int((self._seen(live, "Deployment") or {"spec": {}})["spec"].get("replicas", 0))
            self.warnings += advise_change(found.spec, self.spec, live=running)
        self.reporter.say("applying", "checking with a dry run")
        self._make_volumes(plan.record, dry_run=True)
        drifted = self._dry_run(plan, manifests, live)
        drifted |= {f"PersistentVolumeClaim/{missing.name}" for missing in self._prepared.claims.missing}
        if dry_run:
            if plan.action is not Action.UNCHANGED:
                plan = replace(plan, record=self._begun(plan.record))
            return self._result(plan)
        if plan.action is Action.UNCHANGED and not drifted and found is not None and found.operation is None:
            return self._result(plan)
        taken = self._take(found, plan)
        self._held = taken.record
        try:
            if self._overtaken:
                # Another deploy came between our look and the lease: what was live then is not now.
                live = self._live(self._render(taken.record), taken.record.id)
                drifted = frozenset()
            done = self._write(taken, live, drifted)
        except BaseException:
            # Best effort: without it the lease simply runs out, and the record still says unfinished.
            with contextlib.suppress(ChalkError):
                records.abandon(self.cluster, self._held, self.world)
            raise
        return self._result(replace(taken, record=done))

    @property
    def has_begun(self) -> bool:
        """Whether the lease has been ours, so that something may have been written."""
        return self._held is not None

    def is_another_group(self) -> bool:
        """Whether the group of this name is not the one (or none) that we found.

        Someone made or replaced it while we looked: its objects bear another id, which the server (a
        selector is immutable) or we ourselves have refused.
        """
        now = records.by_name(self.cluster, self.scope.namespace, self.spec.name)
        return (now and now.id) != (self._found and self._found.id)

    def is_odd(self, error: ChalkError) -> bool:
        """Whether an object was there and is gone again: what is new has nothing that is immutable."""
        return self._found is None and "immutable" in error.message

    def _prepare(self, found: Record | None) -> None:
        self._prepared = contents.prepare(
            self.cluster,
            self.scope.namespace,
            self.spec,
            self.content,
            group_id=found.id if found is not None else None,
            world=self.world,
        )
        self.spec = self._prepared.spec
        self.warnings += self._prepared.claims.warnings

    def _make_volumes(self, record: Record, *, dry_run: bool) -> None:
        claims.make(
            self.cluster,
            self._prepared.claims.missing,
            namespace=record.namespace,
            environment=record.environment,
            dry_run=dry_run,
        )

    def _plan(self, found: Record | None) -> Plan:
        return plan_deploy(
            found,
            self.spec,
            self.place,
            namespace=self.scope.namespace,
            now=self.world.now(),
            new_id=self._id,
        )

    def _take(self, found: Record | None, plan: Plan) -> Plan:
        """Write the record, lease and new spec in one step."""
        self.reporter.say("applying", "writing the record")
        if found is None:
            made = self.cluster.create(self._begun(plan.record).to_manifest())
            return replace(plan, record=records.parse(made))
        final = plan

        def edit(current: Record) -> Record:
            nonlocal final
            require_deployable(self.spec.name, current, self._expected, update=True)
            self._overtaken = current.resource_version != found.resource_version
            final = self._plan(current)
            self._unfinished = current if current.operation is not None else None
            return final.record

        taken = records.acquire(
            self.cluster,
            found,
            "deploy",
            self.world,
            edit=edit,
            on_wait=partial(self.reporter.say, "applying"),
        )
        return replace(final, record=taken)

    def _begun(self, record: Record) -> Record:
        """The record of a deploy that we are at work on."""
        deadline = self.world.now() + records.LEASE
        return replace(record, operation=Operation("deploy", self.world.holder(), deadline))

    def _write(self, plan: Plan, live: Live, drifted: frozenset[str]) -> Record:
        record = plan.record
        if self._unfinished is not None and self._unfinished.revision < record.revision:
            # Whoever deployed it may have ended before it came into the history.
            left = replace(self._unfinished, uid=record.uid)
            revisions.write(self.cluster, left, (), self.world)
        revisions.write(self.cluster, record, plan.changes, self.world)
        record = self._hold(record)
        self._make_volumes(record, dry_run=False)
        manifests = self._render(record)
        steps = replicas.plan(
            self.spec,
            self._seen(live, "Deployment"),
            self._seen(live, "HorizontalPodAutoscaler"),
            self._seen(live, "ScaledObject"),
        )
        say = partial(self.reporter.say, "applying")
        replicas.run(self.cluster, record.namespace, record.name, steps, self.world, say)
        leads_there = "InterceptorRoute" if self.spec.mode == "keda" else "HTTPRoute"
        for manifest in manifests:
            if manifest["kind"] == leads_there and record.ports.previous:
                self.world.sleep(_PORT_SECONDS)
            record = self._hold(record)
            if manifest["kind"] == "HTTPRoute" and leaves_interceptor(
                self.spec, self._seen(live, "HTTPRoute"), self.scope.profile
            ):
                say("waiting for a replica, to which the route then leads")
                record = replicas.await_first(self.cluster, record, self.world, self._hold)
            if key_of(manifest) not in self._withheld:
                self._apply(manifest)
        record = self._hold(record)
        self._prune(manifests, record)
        if plan.action is Action.UNCHANGED and drifted:
            self.warnings.append(
                f"brought back what was changed, removed or of an older version: {', '.join(sorted(drifted))}"
            )
        return records.release(self.cluster, record, self.world)

    def _hold(self, record: Record) -> Record:
        self._held = records.hold(self.cluster, record, self.world)
        return self._held

    def _apply(self, manifest: Manifest) -> None:
        self.reporter.say("applying", f"applying {key_of(manifest)}")
        applied = self.cluster.apply(manifest)
        if manifest["kind"] == "Deployment":
            warning = replicas.lift(self.cluster, self.spec, applied.obj)
            if warning is not None:
                self.warnings.append(warning)

    def _prune(self, manifests: Sequence[Manifest], record: Record) -> None:
        """Delete what an earlier mode needed and this one does not, now that the route leads elsewhere."""
        if record.revision == 1:
            return
        left = existing.left_over(self.cluster, record, set(map(identity, manifests)))
        if ("InterceptorRoute", record.name) in left:
            self.world.sleep(_ROUTE_SECONDS)
        for (kind, name), obj in left.items():
            self.reporter.say("applying", f"removing {kind}/{name}")
            existing.remove(self.cluster, kind, name, record.namespace, obj["metadata"]["uid"])
        contents.prune(self.cluster, record)

    def _live(self, manifests: Sequence[Manifest], group_id: str, mode: str | None = None) -> Live:
        where = {"name": self.spec.name, "namespace": self.scope.namespace, "group_id": group_id}
        live = existing.find(self.cluster, manifests, mode=mode, **where)
        return live | contents.find(self.cluster, manifests, **where)

    def _dry_run(self, plan: Plan, manifests: Sequence[Manifest], live: Live) -> frozenset[str]:
        """`Kind/name` of the objects that are not as they should be."""
        # KEDA's webhook refuses a ScaledObject while an HPA is there, which goes before it is applied.
        autoscaler = self._seen(live, "HorizontalPodAutoscaler")
        replaced = autoscaler is not None and not existing.has_controller(autoscaler)
        early = {f"ScaledObject/{self.spec.name}"} if replaced else set()
        others = grants.of_others(live.values())
        answer = preflight.dry_run(self.cluster, manifests, skip=others, early=early)
        if self._found is not None and self._found.spec.mode != self.spec.mode:
            left = existing.left_over(self.cluster, plan.record, set(map(identity, manifests)))
            existing.require_removable(self.cluster, left)
        self.warnings += answer.warnings
        self._withheld = others | answer.withheld
        drifted = drift.drifted(self.spec, manifests, live, answer)
        deployment = next(m for m in manifests if m["kind"] == "Deployment")
        if key_of(deployment) in drifted:
            warnings, refused = preflight.dry_run_pod(
                self.cluster,
                deployment,
                exists=self._seen(live, "Deployment") is not None,
                sleep=self.world.sleep,
            )
            self.warnings += warnings
            if refused is not None:
                raise self._would_fail(plan, refused)
        return frozenset(drifted)

    def _would_fail(self, plan: Plan, verdict: Verdict) -> DeployFailedError:
        seen = describe(self.cluster, self._begun(plan.record), world=self.world)
        if plan.action is Action.CREATED:
            seen = replace(seen, status=Status.FAILED, status_message=verdict.message, verdict=verdict)
        return DeployFailedError(
            f"scaling group `{self.spec.name}` would fail, so nothing was changed: {verdict.message}",
            verdict=verdict,
            info=seen,
            hint=verdict.next,
        )

    def _seen(self, live: Live, kind: str) -> Manifest | None:
        return live.get((kind, self.spec.name))

    def _render(self, record: Record) -> tuple[Manifest, ...]:
        placement = record.placement(self.scope.profile)
        return (*self._prepared.render(placement), *render(self.spec, placement))

    def _result(self, plan: Plan) -> DeployResult:
        return DeployResult(
            action=plan.action,
            info=describe(self.cluster, plan.record, world=self.world),
            previous_revision=plan.previous if plan.action is Action.UPDATED else None,
            changes=plan.changes,
            warnings=tuple(dict.fromkeys(self.warnings)),
        )
