"""Causes outside a replica: the scheduler, quota, admission, volumes, and the readiness probe."""

from __future__ import annotations

import re
from datetime import datetime

from chalkcompute.manifests import labels
from chalkcompute.manifests.causes_gpu import gpu_shortage
from chalkcompute.manifests.live import POD_TEMPLATE_HASH, LiveGroup, Rollout
from chalkcompute.manifests.pods import Pod, condition, events_about, log_lines, probe_says, seconds_since
from chalkcompute.manifests.times import parse_time
from chalkcompute.types import Cause, Evidence, Verdict

__all__ = [
    "admission_verdict",
    "creation_verdict",
    "readiness_verdict",
    "refused_pods",
    "rejected_verdict",
    "scheduling_verdict",
    "volume_verdict",
]

_ADMISSION_SETTLE_SECONDS = 2  # that long the Deployment may still show what an earlier ReplicaSet met
_ADMISSION_SECONDS = 15  # a service account or a webhook may only just be coming up
_ADMISSION_PERMANENT = re.compile(
    r"violates PodSecurity|(maximum|minimum) [\w.-]+ usage per|is invalid|denied (the )?request",
    re.IGNORECASE,
)
_READINESS_SECONDS = 10  # any server needs a moment to bind its port
_READINESS_SILENT_SECONDS = 30


def admission_verdict(live: LiveGroup, progress: Rollout, now: datetime) -> Verdict | None:
    """Quota or admission refuses the pods: condition ReplicaFailure of the Deployment.

    While the current ReplicaSet has no failure of its own, the Deployment shows that of an earlier one.
    """
    deployment = live.own_deployment
    if deployment is None or not progress.observed:
        return None
    failure = condition(deployment, "ReplicaFailure")
    if failure.get("status") != "True":
        return None
    text = failure.get("message", "")
    if _is_about_another(text, live.record.name, progress):
        return None
    lasting = live.seconds_for(parse_time(failure.get("lastTransitionTime")), now)
    written = live.record.written_at
    settled = written is None or seconds_since(written, now) >= _ADMISSION_SETTLE_SECONDS
    certain = lasting >= _ADMISSION_SECONDS or (settled and bool(_ADMISSION_PERMANENT.search(text)))
    # As many as must be there are: scaling up further is what was refused.
    terminal = certain and progress.ready < max(live.record.spec.min_replicas, 1)
    return refused_pods(text, reason=failure.get("reason"), terminal=terminal)


def _is_about_another(text: str, name: str, progress: Rollout) -> bool:
    """Whether a refusal names a pod of another ReplicaSet than the current one, where that is known."""
    refused = re.search(rf'pods? "{re.escape(name)}-([0-9a-z]+)-', text)
    current = progress.pods[0].label(POD_TEMPLATE_HASH) if progress.pods else None
    return refused is not None and current is not None and refused[1] != current


def refused_pods(text: str, *, reason: str | None, terminal: bool) -> Verdict:
    """The verdict on the answer of admission to a pod: over quota, or against a policy."""
    # Quota has no reason of its own; its plugin's fixed words are the only mark.
    quota = "exceeded quota" in text
    what = "the namespace's quota has no room for its pods" if quota else "the cluster refuses its pods"
    why = re.sub(r'^pods? "[^"]*" is forbidden: ', "", text)
    return Verdict(
        cause=Cause.QUOTA_EXCEEDED if quota else Cause.ADMISSION_REFUSED,
        message=f"{what}: {why}",
        evidence=(Evidence(kind="condition", reason=reason, lines=(text,)),),
        next="ask for less, or have the quota raised"
        if quota
        else "change what is refused, or have the policy of the namespace changed",
        terminal=terminal,
    )


def scheduling_verdict(pod: Pod, live: LiveGroup, progress: Rollout) -> Verdict | None:
    """No node can take the pod. Never the end of it: an autoscaler may add a node."""
    scheduled = condition(pod.manifest, "PodScheduled")
    if scheduled.get("status") != "False" or scheduled.get("reason") not in (
        "Unschedulable",
        "SchedulingGated",
    ):
        return None
    text = scheduled.get("message", "")
    said = Evidence(kind="condition", pod=pod.name, reason=scheduled["reason"], lines=(text,))
    shortage = gpu_shortage(pod, live, progress, text)
    lacking = [shortage.lacking] if shortage and shortage.lacking else _lacking(pod, text)
    told = "; ".join(lacking) if lacking else _shortened(text)
    return Verdict(
        cause=Cause.UNSCHEDULABLE,
        message=f"no node can take the replica: {told}",
        evidence=(said, Evidence(kind="object", lines=shortage.nodes))
        if shortage and shortage.nodes
        else (said,),
        next=shortage.next if shortage else _scheduling_next(pod, text, progress),
        terminal=False,
    )


def _lacking(pod: Pod, text: str) -> list[str]:
    lacking = []
    for resource in dict.fromkeys(re.findall(r"Insufficient ([\w./-]+?)(?=[,.;]?(?:\s|$))", text)):
        wanted = pod.request(resource)
        lacking.append(f"not enough {resource}" + (f", {wanted} of which is asked for" if wanted else ""))
    if "didn't match Pod's node affinity/selector" in text and pod.node_selector:
        pairs = ", ".join(f"{key}={value}" for key, value in sorted(pod.node_selector.items()))
        lacking.append(f"none has the label `{pairs}`")
    lacking += [
        f"taint {taint}" for taint in dict.fromkeys(re.findall(r"untolerated taint (\{[^}]*\})", text))
    ]
    if "untolerated taint(s)" in text:  # since 1.34 without saying which
        lacking.append("taints that the replica does not tolerate")
    if "Too many pods" in text:
        lacking.append("as many pods as a node may have are there")
    if re.search(r"unschedulable(?! due)", text):
        lacking.append("nodes are cordoned")
    return lacking


def _shortened(text: str) -> str:
    return (
        re.split(r"\.? (?:no new claims|preemption:)", text)[0].rstrip(".") or "the scheduler gives no reason"
    )


def _scheduling_next(pod: Pod, text: str, progress: Rollout) -> str:
    if "node affinity/selector" in text and pod.node_selector:
        return (
            "check the GPU type against the nodes' labels; where nodes are not labelled so (EKS, AKS), "
            "give only the count"
        )
    if progress.old_ready and "Insufficient" in text:
        return "the update needs room for one replica more than run now: add a node, or scale down first"
    return "ask for less, or add a node; a cluster autoscaler may be doing that already"


def rejected_verdict(live: LiveGroup, progress: Rollout) -> Verdict | None:
    """The node turned the pod away or threw it out, and no other has come yet.

    The ReplicaSet makes another one each time, so it is never the end of it by itself.
    """
    if progress.pods or live.own_deployment is None:
        return None
    template = live.own_deployment["spec"]["template"]
    rejected = [
        pod
        for pod in map(Pod, live.pods or ())
        if pod.status.get("phase") == "Failed"
        and pod.status.get("reason")
        and labels.is_owned_by(pod.manifest, live.record.id)
        and pod.contains(template)
    ]
    if not rejected:
        return None
    pod = max(rejected, key=lambda pod: pod.created)
    reason, text = str(pod.status["reason"]), str(pod.status.get("message") or "").strip().rstrip(".")
    return Verdict(
        cause=Cause.UNSCHEDULABLE,
        message=f"the node does not keep the replica: {reason}" + (f", {text}" if text else ""),
        evidence=(Evidence(kind="object", pod=pod.name, reason=reason, lines=log_lines(text)),),
        next="see what the node lacks (memory, disk, devices); ask for less, or add a node",
        terminal=False,
    )


def creation_verdict(pod: Pod, live: LiveGroup) -> Verdict | None:
    """What the cluster does before the container starts does not get done: its network, an init container."""
    found = events_about(live.events, pod, "FailedCreatePodSandBox")
    if pod.waiting.get("reason") == "ContainerCreating" and found:
        text = found[-1].get("message", "")
        return Verdict(
            cause=Cause.START_ERROR,
            message=f"the node cannot set up the replica: {_shortened(text)}",
            evidence=(
                Evidence(kind="event", pod=pod.name, reason="FailedCreatePodSandBox", lines=log_lines(text)),
            ),
            next="ask whoever runs the nodes: their network plugin or container runtime fails",
            terminal=False,
        )
    if pod.waiting.get("reason") != "PodInitializing":
        return None
    for status in pod.status.get("initContainerStatuses") or ():
        waiting = (status.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") in (None, "PodInitializing", "ContainerCreating"):
            continue
        text = waiting.get("message") or ""
        return Verdict(
            cause=Cause.START_ERROR,
            message=f"the init container `{status.get('name')}`, which the cluster added, does not get done: "
            f"{waiting['reason']}" + (f", {text}" if text else ""),
            evidence=(
                Evidence(kind="container", pod=pod.name, reason=waiting["reason"], lines=log_lines(text)),
            ),
            next="ask whoever runs the cluster: it is not part of this scaling group",
            terminal=False,
        )
    return None


def volume_verdict(pod: Pod, live: LiveGroup) -> Verdict | None:
    """A volume of the pod cannot be mounted."""
    if pod.waiting.get("reason") != "ContainerCreating":
        return None
    found = events_about(live.events, pod, "FailedMount", "FailedAttachVolume")
    if not found:
        return None
    text = found[-1].get("message", "")
    return Verdict(
        cause=Cause.VOLUME_NOT_READY,
        message=f"a volume of the replica cannot be mounted: {_shortened(text)}",
        evidence=(
            Evidence(kind="event", pod=pod.name, reason=found[-1].get("reason"), lines=log_lines(text)),
        ),
        next="check that the volume exists, and that its access mode lets several replicas use it",
        terminal=False,
    )


def readiness_verdict(pod: Pod, live: LiveGroup, now: datetime) -> Verdict | None:
    """The container runs and its readiness probe fails.

    Never the end of it by itself: a model may take long to load. The rollout's own deadline decides.
    """
    since = pod.running_since
    if since is None or pod.serves or seconds_since(since, now) < _READINESS_SECONDS:
        return None
    found = events_about(live.events, pod, "Unhealthy")
    silent = not found and (live.events is not None or seconds_since(since, now) < _READINESS_SILENT_SECONDS)
    if silent:
        return None
    text = found[-1].get("message", "") if found else ""
    port = live.record.spec.port
    message, advice = _not_ready(text, pod, port) if pod.has_started else _starting(text, pod, port)
    evidence = Evidence(kind="event", pod=pod.name, reason="Unhealthy", lines=log_lines(text))
    return Verdict(
        cause=Cause.NOT_LISTENING,
        message=message,
        evidence=(evidence,) if found else (),
        next=advice,
        terminal=False,
    )


def _starting(text: str, pod: Pod, port: int) -> tuple[str, str]:
    """What a failing startup probe means while it may still fail."""
    why = probe_says(text)
    return (
        f"the server is still starting, which may take {pod.startup_seconds} s: port {port} does not answer "
        "its probe yet" + (f" ({why})" if why else ""),
        "wait; if it needs longer, raise `startup_timeout_seconds` (`--startup-timeout`)",
    )


def _not_ready(text: str, pod: Pod, port: int) -> tuple[str, str]:
    """What a failing probe means, and what to do; kubelet texts are from `pkg/probe`."""
    path = (pod.probe.get("httpGet") or {}).get("path", "/")
    if answered := re.search(r"HTTP probe failed with statuscode: (\d+)", text):
        return (
            f"`GET {path}` on port {port} answers {answered[1]}; the readiness probe needs 200 to 399",
            "check the path of the readiness probe",
        )
    if "failed to connect service" in text:  # of a gRPC probe, whatever keeps it from a connection
        return (
            f"nothing on port {port} speaks gRPC yet",
            f"wait if the server is still loading; make it bind 0.0.0.0 (not 127.0.0.1), and port {port}; "
            "raise the probe's `timeout_seconds` if it is slow; if it speaks only HTTP/1, use an HTTP probe",
        )
    if "connection refused" in text or ("tcpSocket" in pod.probe and "deadline exceeded" not in text):
        return (
            f"nothing accepts connections on port {port}",
            f"make the server bind 0.0.0.0 (not 127.0.0.1), and port {port}",
        )
    if re.search(r"deadline exceeded|timeout|timed out", text, re.IGNORECASE):
        return (
            f"the readiness probe on port {port} gets no answer in time",
            "wait if the server is still loading; raise the probe's `timeout_seconds` if it is slow",
        )
    why = probe_says(text)
    return (
        f"the readiness probe on port {port} fails" + (f": {why}" if why else ""),
        f"see that the server answers the readiness probe on port {port}",
    )
