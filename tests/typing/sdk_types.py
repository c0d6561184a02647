"""What a type checker sees of the public names; checked by mypy strict, never run."""

from __future__ import annotations

from typing import Any, assert_type

import httpx

from chalk.client import ChalkClient as OtherName
from chalkcompute import (
    AutoscalerInfo,
    ChalkClient,
    ReadinessProbe,
    ScalingGroup,
    ScalingGroupSpec,
    Secret,
    UsageReport,
    Volume,
    VolumeMount,
)
from chalkcompute.errors import DeployFailedError
from chalkcompute.types import (
    Cause,
    DeleteResult,
    DeployResult,
    ListScalingGroupsResponse,
    ScalingGroupInfo,
    Status,
    Verdict,
)


def scaling_group() -> None:
    group = ScalingGroup(
        image="python:3.12",
        name="hello",
        port=8000,
        env={"LOG_LEVEL": "INFO", "TOKEN": Secret.from_env("MY_TOKEN")},
        secrets=[Secret.from_env("A", alias="B"), Secret.from_kubernetes("db", "password")],
        volumes=[("training-data", "/data"), Volume("x"), VolumeMount("y", "/y", read_only=True)],
        tags={"team": "ml"},
        entrypoint=["python", "-m", "http.server", "8000"],
        readiness_probe=ReadinessProbe.http("/health", period_seconds=5),
    )
    assert_type(group.deploy().wait_ready(), ScalingGroup)
    assert_type(group.call("/", method="GET"), httpx.Response)
    assert_type(group.refresh(), ScalingGroupInfo)
    assert_type(group.web_url, str | None)
    assert_type(group.revision, int | None)
    assert_type(ScalingGroup.from_name("hello"), ScalingGroup)
    assert_type(group.refresh().status, Status)


def client() -> None:
    verbs = ChalkClient(namespace="default")
    assert_type(verbs.scaling_group_usage("web"), UsageReport)
    assert_type(verbs.get_scaling_group("web").autoscaler, AutoscalerInfo | None)
    assert_type(verbs.list_scaling_groups(), ListScalingGroupsResponse)
    assert_type(verbs.get_scaling_group("hello"), ScalingGroupInfo)
    assert_type(verbs.create_scaling_group(ScalingGroupSpec(name="hello", image="python:3.12")), DeployResult)
    assert_type(verbs.delete_scaling_group("hello"), DeleteResult)
    assert_type(OtherName(), ChalkClient)


def failure(error: DeployFailedError) -> None:
    assert_type(error.verdict, Verdict)
    assert_type(error.verdict.cause, Cause)
    assert_type(error.info.to_dict(), dict[str, Any])
