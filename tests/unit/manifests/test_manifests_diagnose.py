"""Verdicts over what a real Kubernetes 1.36.2 said of replicas that do not come up."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from chalkcompute.manifests.diagnose import diagnose
from chalkcompute.manifests.live import LiveGroup
from chalkcompute.manifests.observe import observe
from chalkcompute.manifests.record import Operation
from chalkcompute.manifests.times import parse_time
from chalkcompute.types import Cause, Status, Verdict
from tests.unit.manifests.manifests_builders import (
    ACCEPTED,
    NOW,
    a_condition,
    a_deployment,
    a_live,
    a_record,
    a_route,
    a_spec,
    excerpt,
    in_group,
)


def pod(name: str, **state: Any) -> dict[str, Any]:
    """A recorded pod of the group; `state` replaces parts of its container's status."""
    found = copy.deepcopy(in_group(excerpt(f"pod-{name}")))
    if state:
        found["status"]["containerStatuses"][0].update(state)
    return found


def after(found: dict[str, Any], seconds: float) -> datetime:
    moment = parse_time(found["metadata"]["creationTimestamp"])
    assert moment is not None
    return moment + timedelta(seconds=seconds)


def verdict_on(found: dict[str, Any], seconds: float = 20, **changes: Any) -> Verdict:
    live = a_live(pods=[found], **{"events": [], **changes})
    verdict = diagnose(live, after(found, seconds))
    assert verdict is not None
    return verdict


def test_an_invalid_image_reference_is_certain_at_once() -> None:
    verdict = verdict_on(pod("bad-name"), 0)
    assert (verdict.cause, verdict.terminal) == (Cause.INVALID_IMAGE, True)
    assert "Not A Name" in verdict.message


@pytest.mark.parametrize(("seconds", "terminal"), [(5, False), (59, False), (60, True)])
def test_a_registry_that_does_not_answer_is_given_a_minute(seconds: float, terminal: bool) -> None:
    verdict = verdict_on(pod("pull"), seconds)
    assert (verdict.cause, verdict.terminal) == (Cause.IMAGE_PULL, terminal)
    assert verdict.message == "the image `localhost/none:1` cannot be pulled: its registry cannot be reached"
    assert verdict.evidence[0].reason == "ImagePullBackOff"


def waiting(reason: str, message: str) -> dict[str, Any]:
    return {"state": {"waiting": {"reason": reason, "message": message}}}


@pytest.mark.parametrize(
    ("reason", "text", "terminal", "said"),
    [
        ("ErrImagePull", "manifest unknown", False, "no such image"),
        ("ImagePullBackOff", "manifest unknown", True, "no such image"),
        ("ImagePullBackOff", "x: not found", True, "no such image"),
        ("ImagePullBackOff", "401 Unauthorized", True, "refuses access"),
        ("ImagePullBackOff", "pull access denied for x, repository does not exist", True, "refuses access"),
        ("ImagePullBackOff", "429: toomanyrequests", False, "limits how often"),
        ("ImagePullBackOff", "dial tcp: lookup registry.invalid: no such host", False, "cannot be reached"),
        ("ImagePullBackOff", "no match for platform in manifest", True, "architecture"),
        ("ImagePullBackOff", "x509: unknown authority", False, ""),
        ("ErrImageNeverPull", "image is not present with pull policy of Never", True, ""),
    ],
)
def test_the_registrys_own_answer_is_final(reason: str, text: str, terminal: bool, said: str) -> None:
    verdict = verdict_on(pod("pull", **waiting(reason, text)), 10)
    assert (verdict.cause, verdict.terminal) == (Cause.IMAGE_PULL, terminal)
    assert said in verdict.message


def test_a_pull_that_failed_late_is_given_its_minute_from_the_failure() -> None:
    found = pod("pull", **waiting("ErrImagePull", "connection reset by peer"))
    failed = {
        "reason": "Failed",
        "message": "Failed to pull image",
        "involvedObject": {"name": found["metadata"]["name"]},
        "firstTimestamp": after(found, 300).isoformat(),
        "lastTimestamp": after(found, 300).isoformat(),
    }
    assert verdict_on(found, 310, events=[failed]).terminal is False
    assert verdict_on(found, 360, events=[failed]).terminal is True


def test_a_crash_carries_exit_code_and_last_lines() -> None:
    verdict = verdict_on(pod("crash"))
    assert (verdict.cause, verdict.terminal) == (Cause.CRASH_LOOP, True)
    assert verdict.message == "the container crashes with exit code 3, restarted twice"
    assert verdict.evidence[0].exit_code == 3
    assert verdict.evidence[0].lines == ("about to fail", "reason: no model")
    assert verdict.next is not None


@pytest.mark.parametrize(
    ("restarts", "reason", "terminal"),
    [(1, "CrashLoopBackOff", False), (2, "CrashLoopBackOff", True), (2, "Other", False), (3, "Other", True)],
)
def test_a_crash_is_certain_after_enough_of_them(restarts: int, reason: str, terminal: bool) -> None:
    verdict = verdict_on(pod("crash", restartCount=restarts, **waiting(reason, "")))
    assert (verdict.cause, verdict.terminal) == (Cause.CRASH_LOOP, terminal)


def ended(code: int, seconds: int = 1, reason: str = "Error") -> dict[str, Any]:
    return {
        "lastState": {
            "terminated": {
                "exitCode": code,
                "reason": reason,
                "startedAt": "2026-11-23T11:00:00Z",
                "finishedAt": (NOW.replace(hour=11, minute=0) + timedelta(seconds=seconds)).isoformat(),
            }
        }
    }


@pytest.mark.parametrize(
    ("code", "said"), [(0, "must keep running"), (137, "SIGKILL"), (139, "SIGSEGV"), (127, "127")]
)
def test_how_it_ended(code: int, said: str) -> None:
    assert said in verdict_on(pod("crash", **ended(code))).message


def test_a_crash_after_a_long_run_is_no_loop() -> None:
    assert verdict_on(pod("crash", restartCount=9, **ended(1, seconds=3600))).terminal is False


@pytest.mark.parametrize("reason", ["Error", "OOMKilled", "StartError"])
def test_what_a_container_has_overcome_says_nothing_about_it(reason: str) -> None:
    found = pod("crash", state={"running": {"startedAt": "2026-11-23T11:00:05Z"}}, **ended(1, 20, reason))
    live = a_live(pods=[found], events=[])
    began = NOW.replace(hour=11, minute=0, second=5, microsecond=0)
    # It ran 20 s last time; a server that loads longer than that now is past it.
    verdict = diagnose(live, began + timedelta(seconds=29))
    assert verdict is not None
    assert verdict.evidence[0].reason == reason
    assert diagnose(live, began + timedelta(seconds=31)) is None
    unhealthy = copy.deepcopy(excerpt("event-unhealthy"))
    unhealthy["involvedObject"]["name"] = found["metadata"]["name"]
    deaf = diagnose(a_live(pods=[found], events=[unhealthy]), began + timedelta(seconds=31))
    assert deaf is not None
    assert (deaf.cause, deaf.terminal) == (Cause.NOT_LISTENING, False)


def test_killed_for_memory_before_it_started() -> None:
    text = "failed to create containerd task: OCI runtime create failed: container init was OOM-killed"
    found = pod("crash", restartCount=2, **waiting("RunContainerError", text))
    verdict = verdict_on(found)
    assert (verdict.cause, verdict.terminal) == (Cause.OUT_OF_MEMORY, True)
    assert "raise `memory`" in str(verdict.next)


def test_a_pod_that_its_node_turned_away_or_threw_out() -> None:
    evicted = pod("crash")
    evicted["status"] = {
        "phase": "Failed",
        "reason": "Evicted",
        "message": "The node was low on resource: ephemeral-storage. ",
    }
    template = {"metadata": {"labels": {}}, "spec": evicted["spec"]}
    deployment = a_deployment(updated=0)
    deployment["spec"]["template"] = template
    verdict = diagnose(a_live(deployment=deployment, pods=[evicted], events=[]), NOW)
    assert verdict is not None
    assert (verdict.cause, verdict.terminal) == (Cause.UNSCHEDULABLE, False)
    assert verdict.message.endswith("Evicted, The node was low on resource: ephemeral-storage")
    # One of an earlier revision says nothing about this one.
    deployment["spec"]["template"] = {
        "spec": {"containers": [{**evicted["spec"]["containers"][0], "image": "nginx:2"}]}
    }
    assert diagnose(a_live(deployment=deployment, pods=[evicted], events=[]), NOW) is None


def test_a_node_without_network() -> None:
    found = pod("crash", restartCount=0, lastState={}, **waiting("ContainerCreating", ""))
    event = {
        "reason": "FailedCreatePodSandBox",
        "message": 'Failed to create pod sandbox: plugin type="flannel" failed (add)',
        "involvedObject": {"name": found["metadata"]["name"]},
        "lastTimestamp": "2026-11-23T11:28:00Z",
    }
    verdict = verdict_on(found, events=[event])
    assert (verdict.cause, verdict.terminal) == (Cause.START_ERROR, False)
    assert "flannel" in verdict.message


def test_an_init_container_that_does_not_get_done() -> None:
    found = pod("crash", restartCount=0, lastState={}, **waiting("PodInitializing", ""))
    assert diagnose(a_live(pods=[found], events=[]), after(found, 20)) is None
    found["status"]["initContainerStatuses"] = [
        {"name": "mesh", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}}
    ]
    verdict = verdict_on(found)
    assert "`mesh`" in verdict.message
    assert "ImagePullBackOff, no such image" in verdict.message


def test_a_program_that_does_not_exist_is_certain_at_once() -> None:
    verdict = verdict_on(pod("no-such-program"), 0)
    assert (verdict.cause, verdict.terminal) == (Cause.START_ERROR, True)
    assert verdict.message == "the program `/no/such/program` cannot be started: no such file or directory"
    assert verdict.evidence[0].exit_code == 128


def test_a_program_that_does_not_exist_is_named_in_back_off_too() -> None:
    recorded = pod("no-such-program")
    (status,) = recorded["status"]["containerStatuses"]
    state = {**status.get("state", {}), **status.get("lastState", {})}
    last = {"terminated": state["terminated"]}
    later = pod("no-such-program", lastState=last, **waiting("CrashLoopBackOff", "back-off 40s restarting"))
    verdict = verdict_on(later, 60)
    assert (verdict.cause, verdict.terminal) == (Cause.START_ERROR, True)
    assert verdict.message == "the program `/no/such/program` cannot be started: no such file or directory"


def test_a_runtime_that_stumbles_is_tried_again() -> None:
    text = "failed to create shim task: context deadline exceeded: unknown"
    stumbled = pod("no-such-program", lastState={}, **waiting("RunContainerError", text))
    assert verdict_on(stumbled).terminal is False
    stumbled["status"]["containerStatuses"][0]["restartCount"] = 3
    assert verdict_on(stumbled).terminal is True


def test_missing_configuration_is_certain() -> None:
    verdict = verdict_on(pod("no-secret"))
    assert (verdict.cause, verdict.terminal) == (Cause.MISSING_CONFIG, True)
    assert 'secret "absent" not found' in verdict.message
    syncing = waiting("CreateContainerConfigError", "failed to sync secret cache: timed out")
    assert verdict_on(pod("no-secret", **syncing)).terminal is False


def test_out_of_memory_names_the_limit() -> None:
    not_ready = pod("oom", ready=False)
    not_ready["status"]["conditions"] = [a_condition("Ready", "False")]
    verdict = verdict_on(not_ready, 5)
    assert (verdict.cause, verdict.terminal) == (Cause.OUT_OF_MEMORY, False)
    assert "64Mi" in verdict.message
    not_ready["status"]["containerStatuses"][0]["restartCount"] = 2
    assert verdict_on(not_ready, 5).terminal is True


def test_a_replica_that_recovered_is_no_cause() -> None:
    found = pod("oom")
    deployment = a_deployment(ready=1)
    assert diagnose(a_live(deployment=deployment, pods=[found], events=[]), after(found, 20)) is None


def test_what_no_node_has_enough_of_is_named() -> None:
    verdict = verdict_on(pod("too-big"), 600)
    assert (verdict.cause, verdict.terminal) == (Cause.UNSCHEDULABLE, False)
    requests = pod("too-big")["spec"]["containers"][0]["resources"]["requests"]
    assert f"not enough cpu, {requests['cpu']} of which is asked for" in verdict.message
    assert f"not enough memory, {requests['memory']} of which is asked for" in verdict.message


def test_the_selector_no_node_matches_is_named() -> None:
    verdict = verdict_on(pod("gpu"), 600)
    assert (verdict.cause, verdict.terminal) == (Cause.UNSCHEDULABLE, False)
    (pair,) = pod("gpu")["spec"]["nodeSelector"].items()
    assert f"none has the label `{pair[0]}={pair[1]}`" in verdict.message
    assert "count" in (verdict.next or "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "0/3 nodes are available: 3 Insufficient nvidia.com/gpu. preemption: x",
            "not enough nvidia.com/gpu",
        ),
        ("0/1 nodes are available: 1 Insufficient cpu.", "not enough cpu"),
        ("0/1 nodes are available: 1 node(s) had untolerated taint {a: b}. preemption: x", "taint {a: b}"),
        ("0/1 nodes are available: 1 Too many pods. preemption: x", "as many pods as a node may have"),
        ("0/2 nodes are available: 2 node(s) were unschedulable. preemption: x", "cordoned"),
        ("something new. preemption: x", "something new"),
        ("", "no reason"),
    ],
)
def test_scheduler_texts(text: str, said: str) -> None:
    found = pod("too-big")
    found["status"]["conditions"][0]["message"] = text
    assert said in verdict_on(found).message


def test_nothing_listens() -> None:
    deaf, event = pod("deaf"), excerpt("event-unhealthy")
    verdict = verdict_on(deaf, 30, events=[event], spec=a_spec(port=9999))
    assert (verdict.cause, verdict.terminal) == (Cause.NOT_LISTENING, False)
    assert verdict.message == "nothing accepts connections on port 9999"
    assert "0.0.0.0" in (verdict.next or "")
    assert "connection refused" in verdict.evidence[0].lines[0]


def test_a_server_is_given_a_moment_to_bind() -> None:
    deaf, event = pod("deaf"), excerpt("event-unhealthy")
    assert diagnose(a_live(pods=[deaf], events=[event]), after(deaf, 5)) is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Readiness probe failed: HTTP probe failed with statuscode: 503", "answers 503"),
        ("Readiness probe failed: dial tcp 10.0.0.1:9999: i/o timeout", "no answer in time"),
        ("Readiness probe failed: service unhealthy", "service unhealthy"),
        (
            'Readiness probe failed: timeout: failed to connect service "10.0.0.1:9999" within 1s: '
            "context deadline exceeded",
            "speaks gRPC",
        ),
        ("Readiness probe errored and resulted in failure state: unexpected EOF", "fails: unexpected EOF"),
    ],
)
def test_a_failing_probe_is_explained(text: str, said: str) -> None:
    deaf = pod("deaf")
    deaf["spec"]["containers"][0]["readinessProbe"] = {"httpGet": {"path": "/up"}}
    verdict = verdict_on(deaf, 30, events=[{**excerpt("event-unhealthy"), "message": text}])
    assert said in verdict.message


def test_a_failing_tcp_probe_needs_no_event() -> None:
    deaf = pod("deaf")
    assert diagnose(a_live(pods=[deaf], events=None), after(deaf, 25)) is None
    assert verdict_on(deaf, 60, events=None).cause is Cause.NOT_LISTENING


def test_a_sidecar_or_a_readiness_gate_is_not_our_container() -> None:
    gated = pod("oom", restartCount=5)
    gated["status"]["conditions"] = [a_condition("Ready", "False", "ReadinessGatesNotReady")]
    event = {**excerpt("event-unhealthy"), "involvedObject": {"name": gated["metadata"]["name"]}}
    assert diagnose(a_live(pods=[gated], events=[event]), after(gated, 60)) is None


def test_a_volume_that_cannot_be_mounted() -> None:
    found = pod("deaf", **waiting("ContainerCreating", ""))
    event = {
        **excerpt("event-unhealthy"),
        "reason": "FailedAttachVolume",
        "message": "Multi-Attach error for volume",
    }
    verdict = verdict_on(found, events=[event])
    assert (verdict.cause, verdict.terminal) == (Cause.VOLUME_NOT_READY, False)
    assert "Multi-Attach" in verdict.message


def quota(**changes: Any) -> dict[str, Any]:
    found = in_group(excerpt("deployment-quota"))
    found["status"].update(changes)
    return found


@pytest.mark.parametrize(("seconds", "terminal"), [(5, False), (15, True)])
def test_quota_is_told_with_the_servers_words(seconds: float, terminal: bool) -> None:
    deployment = quota()
    live = a_live(a_spec(min_replicas=2, max_replicas=2), deployment=deployment)
    verdict = diagnose(live, after(deployment, seconds))
    assert verdict is not None
    assert (verdict.cause, verdict.terminal) == (Cause.QUOTA_EXCEEDED, terminal)
    assert "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1" in verdict.message
    assert observe(live, after(deployment, seconds)).status is (Status.FAILED if terminal else Status.PENDING)


def test_quota_that_only_keeps_a_group_from_growing_is_not_its_end() -> None:
    deployment = quota(readyReplicas=1)
    info = observe(a_live(a_spec(max_replicas=2), deployment=deployment), after(deployment, 60))
    assert info.status is Status.RUNNING
    assert info.verdict is not None
    assert info.verdict.cause is Cause.QUOTA_EXCEEDED


def test_pod_security_is_certain_at_once() -> None:
    text = 'pods "web-1" is forbidden: violates PodSecurity "restricted:latest": runAsNonRoot != true'
    failure = a_condition("ReplicaFailure", reason="FailedCreate", message=text, lastTransitionTime=None)
    verdict = diagnose(a_live(deployment=a_deployment(updated=0, conditions=(failure,))), NOW)
    assert verdict is not None
    assert (verdict.cause, verdict.terminal) == (Cause.ADMISSION_REFUSED, True)
    assert "runAsNonRoot" in verdict.message


def test_what_a_controller_said_before_the_last_deploy_is_not_the_end_of_it() -> None:
    """Conditions keep their time while their words change, and outlive what they were about for a moment."""
    just_now = a_record(written_at=NOW - timedelta(seconds=1))
    policy = a_condition("ReplicaFailure", message='pods "x" is forbidden: violates PodSecurity "restricted"')
    quota_long_ago = a_condition("ReplicaFailure", message='pods "x" is forbidden: exceeded quota: q')
    for live in (
        a_live(route=a_route(a_condition("Accepted", "False", "NotAllowedByListeners"))),
        a_live(route=a_route()),
        a_live(deployment=a_deployment(updated=0, conditions=(policy,))),
        a_live(deployment=a_deployment(updated=0, conditions=(quota_long_ago,))),
    ):
        before = diagnose(live, NOW)
        assert before is not None
        assert before.terminal
        fresh = diagnose(replace(live, record=just_now), NOW)
        assert fresh is None or not fresh.terminal


def test_a_deadline_that_an_earlier_spec_missed_is_not_the_new_ones() -> None:
    seen = a_deployment(conditions=(stuck(),))
    unseen = a_deployment(conditions=(stuck(),), generation=2)
    assert observe(a_live(deployment=seen), NOW).status is Status.FAILED
    assert observe(a_live(deployment=unseen), NOW).status is Status.PENDING


def test_a_refusal_of_an_earlier_replica_sets_pods_is_not_the_current_ones() -> None:
    current = pod("deaf")
    now_hash = current["metadata"]["labels"]["pod-template-hash"]
    for refused, cause in ((now_hash, Cause.QUOTA_EXCEEDED), ("0ld", None)):
        text = f'pods "inference-{refused}-x2x" is forbidden: exceeded quota: q'
        deployment = a_deployment(conditions=(a_condition("ReplicaFailure", message=text),))
        verdict = diagnose(a_live(deployment=deployment, pods=[current], events=[]), after(current, 1))
        assert (None if verdict is None else verdict.cause) is cause


def stuck() -> dict[str, Any]:
    return a_condition("Progressing", "False", "ProgressDeadlineExceeded", message="timed out progressing")


def test_a_rollout_that_is_stuck_without_a_cause() -> None:
    verdict = diagnose(a_live(deployment=a_deployment(conditions=(stuck(),))), NOW)
    assert verdict is not None
    assert (verdict.cause, verdict.terminal) == (Cause.ROLLOUT_STUCK, True)
    assert "600 seconds" in verdict.message


def test_the_deadline_makes_a_known_cause_certain() -> None:
    deployment = a_deployment(conditions=(stuck(),))
    verdict = verdict_on(pod("deaf"), 700, deployment=deployment, events=[excerpt("event-unhealthy")])
    assert (verdict.cause, verdict.terminal) == (Cause.NOT_LISTENING, True)


def test_a_recorded_stuck_rollout() -> None:
    deployment = in_group(excerpt("deployment-stuck"))
    info = observe(a_live(a_spec(min_replicas=2, max_replicas=2), deployment=deployment), NOW)
    assert info.status is Status.FAILED
    assert info.ready_replicas == 2
    assert info.verdict is not None
    assert info.verdict.cause is Cause.ROLLOUT_STUCK
    assert "2 replicas of an earlier revision go on serving" in info.verdict.message


def healthy(name: str, hash_: str, created: str) -> dict[str, Any]:
    found = pod("oom")
    found["metadata"].update(name=name, creationTimestamp=created)
    found["metadata"]["labels"]["pod-template-hash"] = hash_
    return found


def test_a_replica_of_the_same_revision_that_serves_makes_nothing_certain() -> None:
    crash = pod("crash")
    good = healthy("good", crash["metadata"]["labels"]["pod-template-hash"], "2026-11-23T11:27:00Z")
    deployment = a_deployment(replicas=2, ready=1)
    verdict = diagnose(a_live(deployment=deployment, pods=[crash, good], events=[]), after(crash, 60))
    assert verdict is not None
    assert (verdict.cause, verdict.terminal) == (Cause.CRASH_LOOP, False)


def bad_update(**changes: Any) -> LiveGroup:
    old = [healthy(f"old-{n}", "old", "2026-11-23T11:00:00Z") for n in (1, 2)]
    deployment = a_deployment(replicas=2, ready=2, updated=1, total=3)
    return a_live(
        a_spec(min_replicas=2, max_replicas=2),
        **{"deployment": deployment, "pods": [*old, pod("crash")], "events": [], **changes},
    )


def test_a_bad_update_fails_while_old_replicas_serve() -> None:
    info = observe(bad_update(), NOW)
    assert info.status is Status.FAILED
    assert info.verdict is not None
    assert info.verdict.message.endswith("; 2 replicas of an earlier revision go on serving")
    assert info.status_message == info.verdict.message


def test_an_old_replica_made_anew_is_not_taken_for_the_update() -> None:
    crash = pod("crash")
    template = {"metadata": {"labels": {}}, "spec": {"containers": crash["spec"]["containers"]}}
    deployment = a_deployment(replicas=2, ready=1, updated=1, total=3)
    deployment["spec"]["template"] = template
    newest = healthy("old-again", "old", "2026-11-23T11:29:00Z")
    verdict = diagnose(bad_update(deployment=deployment, pods=[crash, newest]), NOW)
    assert verdict is not None
    assert (verdict.cause, verdict.terminal) == (Cause.CRASH_LOOP, True)


def test_pods_that_go_and_pods_of_others_say_nothing() -> None:
    going = pod("crash")
    going["metadata"]["deletionTimestamp"] = "2026-11-23T11:29:00Z"
    evicted = pod("crash")
    evicted["status"]["phase"] = "Failed"
    foreign = excerpt("pod-crash")
    assert diagnose(a_live(pods=[going, evicted, foreign], events=[]), NOW) is None


def test_a_deployment_not_yet_seen_by_its_controller_is_not_judged() -> None:
    deployment = a_deployment(generation=2)
    assert diagnose(a_live(deployment=deployment, pods=[pod("crash")], events=[]), NOW) is None


@pytest.mark.parametrize(
    ("reason", "said"),
    [
        ("NotAllowedByListeners", "does not admit routes from this namespace"),
        ("NoMatchingListenerHostname", "does not cover"),
        ("NoMatchingParent", "no listener of that name"),
        ("SomethingNew", "the words of the controller"),
    ],
)
def test_a_route_that_is_refused(reason: str, said: str) -> None:
    refused = a_condition(
        "Accepted", "False", reason, message="the words of the controller", lastTransitionTime=NOW.isoformat()
    )
    live = a_live(deployment=a_deployment(ready=1), route=a_route(refused))
    for seconds, terminal in ((5, False), (30, True)):
        verdict = diagnose(live, NOW + timedelta(seconds=seconds))
        assert verdict is not None
        assert (verdict.cause, verdict.terminal) == (Cause.ROUTE_NOT_ACCEPTED, terminal)
        assert reason in verdict.message
        assert said in verdict.message


def test_a_reference_that_is_not_resolved() -> None:
    route = a_route(ACCEPTED[0], a_condition("ResolvedRefs", "False", "RefNotPermitted"))
    verdict = diagnose(a_live(deployment=a_deployment(ready=1), route=route), NOW)
    assert verdict is not None
    assert "ReferenceGrant" in verdict.message


@pytest.mark.parametrize(
    "route",
    [
        a_route(a_condition("Accepted", "False"), name="other"),
        a_route(a_condition("Accepted", "False"), sectionName="http"),
        a_route(a_condition("Accepted", "False"), namespace="ml"),
        a_route(),
    ],
)
def test_what_is_said_of_another_parent_or_generation_is_no_answer(route: dict[str, Any]) -> None:
    live = a_live(deployment=a_deployment(ready=1), route=route)
    created = parse_time(route["metadata"]["creationTimestamp"])
    assert created is not None
    assert diagnose(live, created + timedelta(seconds=14)) is None
    for seconds, terminal in ((15, False), (120, True)):
        verdict = diagnose(live, created + timedelta(seconds=seconds))
        assert verdict is not None
        assert (verdict.cause, verdict.terminal) == (Cause.ROUTE_NOT_ACCEPTED, terminal)
        assert "no controller has answered" in verdict.message


@pytest.mark.parametrize(
    ("route", "said"),
    [
        (a_route(a_condition("Accepted", "False", observedGeneration=1), generation=2), "on the route yet"),
        (a_route(a_condition("Accepted", "Unknown", "Pending")), "on the route yet: Pending"),
    ],
)
def test_a_gateway_that_has_not_decided(route: dict[str, Any], said: str) -> None:
    live = a_live(deployment=a_deployment(ready=1), route=route)
    created = parse_time(route["metadata"]["creationTimestamp"])
    assert created is not None
    verdict = diagnose(live, created + timedelta(seconds=300))
    assert verdict is not None
    assert (verdict.cause, verdict.terminal) == (Cause.ROUTE_NOT_ACCEPTED, False)
    assert said in verdict.message


def test_a_gateway_that_is_gone() -> None:
    verdict = diagnose(a_live(deployment=a_deployment(ready=1), route=a_route(), gateway=None), NOW)
    assert verdict is not None
    assert (verdict.cause, verdict.terminal) == (Cause.NO_GATEWAY, True)
    assert "`gw` in namespace `infra`" in verdict.message


def test_a_gateway_that_is_not_programmed() -> None:
    gateway = {
        "metadata": {},
        "status": {"conditions": [a_condition("Programmed", "False", "AddressNotAssigned")]},
    }
    verdict = diagnose(a_live(deployment=a_deployment(ready=1), route=a_route(), gateway=gateway), NOW)
    assert verdict is not None
    assert (verdict.cause, verdict.terminal) == (Cause.NO_GATEWAY, False)
    assert "AddressNotAssigned" in verdict.message


def test_a_route_that_is_missing_is_an_unfinished_deploy() -> None:
    live = a_live(deployment=a_deployment(ready=1), route=None)
    verdict = diagnose(live, NOW)
    assert verdict is not None
    assert (verdict.cause, verdict.terminal) == (Cause.ROUTE_NOT_ACCEPTED, True)
    under_way = replace(live, record=replace(live.record, operation=operation(60)))
    assert diagnose(under_way, live.record.updated_at + timedelta(seconds=5)) is None


def test_keda_that_does_not_answer() -> None:
    scaled = {
        "kind": "ScaledObject",
        "metadata": {"creationTimestamp": "2026-11-23T11:20:00Z"},
        "status": {"conditions": [a_condition("Ready", "False", message="no scaler")]},
    }
    live = a_live(a_spec(min_replicas=0), deployment=a_deployment(replicas=0), scaled_object=scaled)
    verdict = diagnose(live, NOW)
    assert verdict is not None
    assert (verdict.cause, verdict.terminal) == (Cause.AUTOSCALER_NOT_READY, False)
    scaled["status"] = {"conditions": [a_condition("Ready")]}
    assert diagnose(live, NOW) is None


def operation(minutes: int) -> Operation:
    return Operation("deploy", "me@host:1", NOW + timedelta(minutes=minutes))


def test_a_deployment_that_was_deleted_by_hand() -> None:
    verdict = diagnose(a_live(record=a_record(), deployment=None), NOW)
    assert verdict is not None
    assert (verdict.cause, verdict.terminal) == (Cause.INTERRUPTED, True)
    assert "is gone" in verdict.message


def test_a_deploy_that_was_interrupted() -> None:
    for record, deployment in (
        (a_record(operation=operation(-1)), None),
        (a_record(revision=3, operation=operation(-1)), a_deployment(revision=2, ready=1)),
    ):
        verdict = diagnose(a_live(record=record, deployment=deployment), NOW)
        assert verdict is not None
        assert (verdict.cause, verdict.terminal) == (Cause.INTERRUPTED, True)
        assert f"revision {record.revision} was interrupted" in verdict.message


def test_a_delete_that_was_interrupted() -> None:
    record = a_record(state="deleting", operation=Operation("delete", "me@host:1", NOW))
    info = observe(a_live(record=record), NOW)
    assert info.status is Status.DELETING
    assert info.verdict is not None
    assert (info.verdict.cause, info.verdict.terminal) == (Cause.INTERRUPTED, True)
    assert info.status_message == "the delete of `inference` was interrupted"


def test_a_delete_that_the_cluster_finishes_is_not_interrupted() -> None:
    over = Operation("delete", "me@host:1", NOW)
    for record in (
        a_record(state="deleting", operation=over, removed_at=NOW),
        a_record(state="deleting", operation=operation(1)),
        a_record(state="deleting"),
    ):
        assert diagnose(a_live(record=record), NOW) is None


def test_an_update_that_finds_no_room_says_what_would_help() -> None:
    old = [healthy(f"old-{n}", "old", "2026-11-23T11:00:00Z") for n in (1, 2)]
    verdict = diagnose(bad_update(pods=[*old, pod("too-big")]), NOW)
    assert verdict is not None
    assert verdict.cause is Cause.UNSCHEDULABLE
    assert "room for one replica more" in (verdict.next or "")


def test_a_group_without_anything_yet_has_no_route_to_miss() -> None:
    record = a_record(operation=operation(1))
    assert diagnose(a_live(record=record, deployment=None, route=None), NOW) is None


def test_a_deploy_that_goes_on_is_not_interrupted() -> None:
    record = a_record(revision=3, operation=operation(1))
    assert diagnose(a_live(record=record, deployment=None, route=None), NOW) is None
    assert observe(a_live(record=record, deployment=None, route=None), NOW).status is Status.PENDING
