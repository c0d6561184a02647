"""Causes inside a replica: its image, its start, its end. Each is a total function of one pod."""

from __future__ import annotations

import re
from datetime import datetime

from chalkcompute.manifests.live import LiveGroup
from chalkcompute.manifests.pods import Pod, events_about, log_lines, probe_says, seconds_since
from chalkcompute.manifests.times import parse_time
from chalkcompute.types import Cause, Evidence, Verdict

__all__ = ["container_verdict"]

_STARTUP_FAILED = "Startup probe failed:"  # how the kubelet's Event begins

_PULL_REASONS = ("ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "RegistryUnavailable")
_PULL_SECONDS = 60  # a registry that fails for longer than this will not recover while somebody waits
_PULL_PERMANENT = re.compile(
    r"not found|manifest unknown|unauthorized|access denied|requested access .* denied|"
    r"repository does not exist|name unknown|no match for platform|pull access denied",
    re.IGNORECASE,
)
_NO_PROGRAM = re.compile(
    r"no such file or directory|executable file not found|permission denied|not a directory|"
    r"exec format error|no command specified|is a directory",
    re.IGNORECASE,
)
_KILLED_AT_START = "init was OOM-killed"  # runc, where the limit is too small even to start
_START_REASONS = ("RunContainerError", "CreateContainerError")
_START_ENDS = ("StartError", "ContainerCannotRun")
_CRASHES = 3
_CRASHES_IN_BACK_OFF = 2
_STARTS_TOO_SLOW = 2
_OUT_OF_MEMORY_RESTARTS = 2
_STEADY_SECONDS = 600  # the kubelet forgets earlier crashes of a container that has run for so long
_OVERCOME_SECONDS = 10
_SIGNALS = {130: "SIGINT", 134: "SIGABRT", 137: "SIGKILL", 139: "SIGSEGV", 143: "SIGTERM"}


def container_verdict(pod: Pod, live: LiveGroup, now: datetime) -> Verdict | None:
    """What keeps the container of a pod from running, or None."""
    if pod.serves:
        return None
    reason = pod.waiting.get("reason", "")
    if reason == "InvalidImageName":
        return _invalid_image(pod)
    if reason in _PULL_REASONS:
        return _image_pull(pod, live, now)
    if reason == "CreateContainerConfigError":
        return _missing_config(pod)
    if _has_overcome(pod, now):
        return None
    if _KILLED_AT_START in (pod.waiting.get("message") or pod.termination.get("message") or ""):
        return _out_of_memory(pod)
    if reason in _START_REASONS or pod.termination.get("reason") in _START_ENDS:
        return _start_error(pod)
    if pod.termination.get("reason") == "OOMKilled":
        return _out_of_memory(pod)
    if pod.termination:
        return _too_slow(pod, live) or _crash(pod)
    return None


def _waiting_evidence(pod: Pod) -> Evidence:
    return Evidence(
        kind="container",
        pod=pod.name,
        reason=pod.waiting.get("reason"),
        lines=log_lines(pod.waiting.get("message")),
    )


def _invalid_image(pod: Pod) -> Verdict:
    return Verdict(
        cause=Cause.INVALID_IMAGE,
        message=f"the node cannot read the image reference `{pod.image}`",
        evidence=(_waiting_evidence(pod),),
        next="correct the image reference and deploy again",
        terminal=True,
    )


def _image_pull(pod: Pod, live: LiveGroup, now: datetime) -> Verdict:
    reason, text = pod.waiting["reason"], pod.waiting.get("message", "")
    failures = [
        event
        for event in events_about(live.events, pod, "Failed", "BackOff")
        if "image" in event.get("message", "")
    ]
    first = min((t for e in failures if (t := parse_time(e.get("firstTimestamp")))), default=pod.started)
    answered = bool(_PULL_PERMANENT.search(text)) and reason == "ImagePullBackOff"
    return Verdict(
        cause=Cause.IMAGE_PULL,
        message=f"the image `{pod.image}` cannot be pulled{_pull_why(text)}",
        evidence=(_waiting_evidence(pod),),
        next=_pull_next(text),
        terminal=answered or reason == "ErrImageNeverPull" or seconds_since(first, now) >= _PULL_SECONDS,
    )


def _pull_why(text: str) -> str:
    for pattern, why in (
        (r"toomanyrequests|rate limit", "the registry limits how often it may be asked"),
        (r"unauthorized|denied|authentication required|403 Forbidden", "the registry refuses access to it"),
        (r"no such host|connection refused|i/o timeout|dial tcp", "its registry cannot be reached"),
        (r"no match for platform", "it has no variant for the nodes' architecture"),
        (r"not found|unknown|does not exist", "the registry has no such image"),
        (r"certificate|x509", "the node does not trust the registry's certificate"),
    ):
        if re.search(pattern, text, re.IGNORECASE):
            return f": {why}"
    return ""


def _pull_next(text: str) -> str:
    if re.search(r"unauthorized|denied|authentication required|403 Forbidden|toomanyrequests", text, re.I):
        return (
            "check the reference, and give the namespace's default service account an image pull secret "
            "for the registry"
        )
    return "check the reference, and that the registry can be reached from the nodes"


def _missing_config(pod: Pod) -> Verdict:
    text = pod.waiting.get("message", "")
    return Verdict(
        cause=Cause.MISSING_CONFIG,
        message=f"the container needs something that is not there: {text}",
        evidence=(_waiting_evidence(pod),),
        next="create what is named, or leave it out of the description, and deploy again",
        # The kubelet says "failed to sync secret cache" while it is still getting what exists.
        terminal="failed to sync" not in text,
    )


def _start_error(pod: Pod) -> Verdict:
    # In back-off, `waiting` only says that it is; how the last start failed stands in the termination.
    waits = pod.waiting.get("message") if pod.waiting.get("reason") in _START_REASONS else None
    text = waits or pod.termination.get("message") or ""
    certain = bool(_NO_PROGRAM.search(text))
    program = re.search(r'exec: \\?"([^"\\]+)\\?"', text)
    what = f"the program `{program[1]}` cannot be started" if program else "the container cannot be started"
    code = pod.termination.get("exitCode")
    return Verdict(
        cause=Cause.START_ERROR,
        message=f"{what}: {_last_part(text)}" if text else what,
        evidence=(
            Evidence(
                kind="container",
                pod=pod.name,
                reason=pod.termination.get("reason") or pod.waiting.get("reason"),
                exit_code=code,
                lines=log_lines(text),
            ),
        ),
        next="check the entrypoint: its first item must be a program that the image has"
        if certain
        else "look at the message of the container runtime",
        terminal=certain or pod.restarts >= _CRASHES,
    )


def _last_part(text: str) -> str:
    """The end of a runtime's nested error, which is where the reason stands."""
    parts = [p.strip() for p in text.removesuffix(": unknown").split(": ") if p.strip()]
    return parts[-1].rstrip(".") if parts else text


def _out_of_memory(pod: Pod) -> Verdict:
    limit = pod.limit("memory")
    return Verdict(
        cause=Cause.OUT_OF_MEMORY,
        message="the container was killed for using more memory than "
        + (f"its limit of {limit}" if limit else "the node has"),
        evidence=(
            Evidence(
                kind="container",
                pod=pod.name,
                reason="OOMKilled",
                exit_code=pod.termination.get("exitCode"),
                lines=log_lines(pod.termination.get("message") or pod.waiting.get("message")),
            ),
        ),
        next="raise `memory`" + (f" above {limit}" if limit else ""),
        terminal=pod.restarts >= _OUT_OF_MEMORY_RESTARTS,
    )


def _lasted(pod: Pod) -> float:
    """Seconds that the container ran before it ended last."""
    began, over = parse_time(pod.termination.get("startedAt")), parse_time(pod.termination.get("finishedAt"))
    return (over - began).total_seconds() if began and over else 0.0


def _has_overcome(pod: Pod, now: datetime) -> bool:
    """Whether the container runs, and has got past the point where it ended last."""
    enough = min(_lasted(pod) + _OVERCOME_SECONDS, _STEADY_SECONDS)
    return pod.is_running and seconds_since(pod.running_since, now) >= enough


def _crash(pod: Pod) -> Verdict:
    ended = pod.termination
    code = ended.get("exitCode")
    backing_off = pod.waiting.get("reason") == "CrashLoopBackOff"
    often = pod.restarts >= _CRASHES or (pod.restarts >= _CRASHES_IN_BACK_OFF and backing_off)
    return Verdict(
        cause=Cause.CRASH_LOOP,
        message=f"the container {_how_it_ended(code)}, {_restarted(pod.restarts)}",
        evidence=(
            Evidence(
                kind="log",
                pod=pod.name,
                reason=ended.get("reason"),
                exit_code=code,
                lines=log_lines(ended.get("message")),
            ),
        ),
        next=_crash_next(code),
        terminal=often and _lasted(pod) < _STEADY_SECONDS,
    )


def _too_slow(pod: Pod, live: LiveGroup) -> Verdict | None:
    """The kubelet ended the container because its startup probe failed for as long as it may."""
    probe = pod.startup_probe
    period = int(probe.get("periodSeconds", 10))
    allowed = pod.startup_seconds
    asked = live.record.spec.startup_timeout_seconds or allowed  # which is a multiple of the period
    failures = [
        event
        for event in events_about(live.events, pod, "Unhealthy")
        if str(event.get("message", "")).startswith(_STARTUP_FAILED)
    ]
    if not probe or not failures or _lasted(pod) + period < allowed:
        return None
    why = probe_says(str(failures[-1]["message"]))
    return Verdict(
        cause=Cause.NOT_LISTENING,
        message=f"the server did not start within the {asked} s that it may take, "
        f"{_restarted(pod.restarts)}; its probe says: {why}",
        evidence=(
            Evidence(
                kind="event", pod=pod.name, reason="Unhealthy", lines=log_lines(failures[-1]["message"])
            ),
            Evidence(
                kind="log",
                pod=pod.name,
                reason=pod.termination.get("reason"),
                exit_code=pod.termination.get("exitCode"),
                lines=log_lines(pod.termination.get("message")),
            ),
        ),
        next="see in its log how far it comes; if it only needs longer, raise `startup_timeout_seconds` "
        "(`--startup-timeout`)",
        terminal=pod.restarts >= _STARTS_TOO_SLOW,
    )


def _how_it_ended(code: int | None) -> str:
    if code == 0:
        return "ends by itself with exit code 0 though a server must keep running"
    signal = f" ({_SIGNALS[code]})" if code in _SIGNALS else ""
    return f"crashes with exit code {code}{signal}"


def _restarted(count: int) -> str:
    known = {0: "not restarted yet", 1: "restarted once", 2: "restarted twice"}
    return known.get(count, f"restarted {count} times")


def _crash_next(code: int | None) -> str:
    if code == 0:
        return "run the server in the foreground, and check the entrypoint"
    if code in (126, 127):
        return "a command in the entrypoint or its script is not in the image: check the entrypoint"
    return "read the last log lines, correct the program or its settings, and deploy again"
