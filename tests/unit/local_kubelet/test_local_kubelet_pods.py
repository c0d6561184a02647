from __future__ import annotations

import asyncio
import base64
from pathlib import Path
from typing import Any

import pytest

from chalkcompute.local.ports import Runtime, StartError
from tests.unit.local_kubelet.conftest import Cluster, FakeRuntime, RunCluster


def test_a_limit_of_nothing_is_none(cluster: RunCluster) -> None:
    async def scenario(made: Cluster) -> None:
        made.run_pod(resources={"limits": {"cpu": "0", "memory": "0"}})
        replica = await made.running()
        assert (replica.spec.memory_limit, replica.spec.cpu_limit) == (None, None)

    cluster(scenario)


def test_the_fake_is_a_runtime() -> None:
    runtime: Runtime = FakeRuntime()
    assert runtime.tier == "plain"


def test_a_pod_comes_up(cluster: RunCluster) -> None:
    async def scenario(made: Cluster) -> None:
        made.run_pod()
        await made.running()
        status = made.pod()["status"]
        assert status["phase"] == "Running"
        assert [condition["type"] for condition in status["conditions"]] == [
            "PodReadyToStartContainers",
            "Initialized",
            "Ready",
            "ContainersReady",
            "PodScheduled",
        ]
        assert set(made.conditions().values()) == {"True"}
        assert {condition["observedGeneration"] for condition in status["conditions"]} == {1}
        assert (status["podIP"], status["podIPs"]) == ("127.0.0.1", [{"ip": "127.0.0.1"}])
        container = made.container()
        assert (container["ready"], container["started"], container["restartCount"]) == (True, True, 0)
        assert container["image"] == "docker.io/library/python:3.12"
        assert made.events("Started") == ["Started container app"]

    cluster(scenario)


def test_the_host_base_is_announced(cluster: RunCluster) -> None:
    async def scenario(made: Cluster) -> None:
        made.run_pod()
        await made.running()
        text = "image `python:3.12` is stood in for"
        assert made.events("ImageSubstituted") == [text]
        assert made.pod()["metadata"]["annotations"] == {"chalk.ai/image-substituted": text}

    cluster(scenario)


def test_a_crash_backs_off_and_shows_the_last_lines(cluster: RunCluster) -> None:
    async def scenario(made: Cluster) -> None:
        made.run_pod()
        (await made.running()).end(3)
        (await made.running(2)).end(3)
        await made.until(made.waiting)
        container = made.container()
        pod = made.pod()["metadata"]
        name = f"{pod['name']}_default({pod['uid']})"
        assert container["state"]["waiting"] == {
            "reason": "CrashLoopBackOff",
            "message": f"back-off 0.05s restarting failed container=app pod={name}",
        }
        last = container["lastState"]["terminated"]
        assert (last["exitCode"], last["reason"], last["message"]) == (3, "Error", "line of app\n")
        assert container["restartCount"] == 1
        assert made.pod()["status"]["phase"] == "Running"
        assert made.conditions()["Ready"] == "False"
        assert made.events("BackOff") == [f"Back-off restarting failed container app in pod {name}"]
        await made.running(3)
        assert made.container()["restartCount"] == 2

    cluster(scenario)


def test_out_of_memory(cluster: RunCluster) -> None:
    async def scenario(made: Cluster) -> None:
        made.run_pod(resources={"limits": {"memory": "64Mi", "cpu": "250m"}})
        replica = await made.running()
        assert (replica.spec.memory_limit, replica.spec.cpu_limit) == (64 * 1024 * 1024, 0.25)
        replica.end(137, "OOMKilled")
        await made.running(2)
        last = made.container()["lastState"]["terminated"]
        assert (last["exitCode"], last["reason"]) == (137, "OOMKilled")

    cluster(scenario)


def test_a_program_that_cannot_be_started(cluster: RunCluster) -> None:
    async def scenario(made: Cluster) -> None:
        made.runtime.start_error = StartError('exec: "nope": executable file not found in $PATH')
        made.run_pod()
        await made.until(lambda: made.container().get("lastState"))
        last = made.container()["lastState"]["terminated"]
        assert (last["exitCode"], last["reason"]) == (128, "StartError")
        assert last["startedAt"] == "1970-01-01T00:00:00Z"
        assert made.waiting().get("reason") == "RunContainerError"
        assert made.pod()["status"]["phase"] == "Running"
        await made.until(lambda: made.waiting().get("reason") == "CrashLoopBackOff")
        made.runtime.start_error = None
        await made.running()

    cluster(scenario)


def test_an_image_that_cannot_be_pulled(cluster: RunCluster) -> None:
    async def scenario(made: Cluster) -> None:
        made.runtime.absent_images.add("localhost/none:1")
        made.run_pod(image="localhost/none:1")
        await made.until(lambda: made.waiting().get("reason") == "ImagePullBackOff")
        container = made.container()
        assert container["state"]["waiting"]["message"] == (
            'Back-off pulling image "localhost/none:1": ErrImagePull: no `localhost/none:1` here'
        )
        assert (container["ready"], container["restartCount"], container["imageID"]) == (False, 0, "")
        assert made.pod()["status"]["phase"] == "Pending"
        assert "Error: ErrImagePull" in made.events("Failed")
        made.runtime.absent_images.clear()
        await made.running()

    cluster(scenario)


def test_an_image_name_that_is_none(cluster: RunCluster) -> None:
    async def scenario(made: Cluster) -> None:
        made.run_pod(image="Not A Name")
        waiting = await made.until(lambda: made.waiting().get("message"))
        assert "must be lowercase" in waiting
        assert made.waiting().get("reason") == "InvalidImageName"

    cluster(scenario)


def test_the_pull_policy_is_passed_on(cluster: RunCluster) -> None:
    async def scenario(made: Cluster) -> None:
        made.run_pod(image="python:latest")
        await made.running()
        made.runtime.absent_images.add("localhost/none:1")
        made.run_pod("absent", image="localhost/none:1", imagePullPolicy="Never")
        await made.until(lambda: "Never" in made.runtime.policies)
        found = await made.until(
            lambda: made.container("absent").get("state", {}).get("waiting", {}).get("message")
        )
        assert found == 'Container image "localhost/none:1" is not present with pull policy of Never'
        assert made.container("absent")["state"]["waiting"]["reason"] == "ErrImageNeverPull"
        assert made.events("ErrImageNeverPull") == [found]
        assert made.runtime.policies[0] == "Always"

    cluster(scenario)


def test_a_missing_secret_is_waited_for(cluster: RunCluster) -> None:
    env = [{"name": "K", "valueFrom": {"secretKeyRef": {"name": "absent", "key": "K"}}}]

    async def scenario(made: Cluster) -> None:
        made.run_pod(env=env)
        await made.until(lambda: made.waiting().get("message"))
        assert made.waiting() == {
            "reason": "CreateContainerConfigError",
            "message": 'secret "absent" not found',
        }
        made.create("Secret", "absent", data={"K": base64.b64encode(b"v").decode()})
        assert (await made.running()).spec.env == {"K": "v"}
        assert made.events("Failed") == ['Error: secret "absent" not found']

    cluster(scenario)


def test_command_and_environment_are_expanded(cluster: RunCluster) -> None:
    env = [
        {"name": "A", "value": "1"},
        {"name": "B", "value": "$(A)$(C)$$(A)"},
        {"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
    ]

    async def scenario(made: Cluster) -> None:
        made.run_pod(env=env, command=["run", "$(POD)"], args=["$(B)"], workingDir="/srv")
        spec = (await made.running()).spec
        assert spec.env == {"A": "1", "B": "1$(C)$(A)", "POD": "web"}
        assert (spec.command, spec.args, spec.working_dir) == (("run", "web"), ("1$(C)$(A)",), "/srv")

    cluster(scenario)


def test_deletion_gives_the_grace_period(cluster: RunCluster) -> None:
    async def scenario(made: Cluster) -> None:
        pod = made.run_pod()
        replica = await made.running()
        log = made.logs.open("default", "web", pod["metadata"]["uid"], "app", False)
        assert log is not None
        made.api.delete("Pod", "web", "default")
        await made.gone()
        assert replica.graces == [7.0]
        assert made.events("Killing") == ["Stopping container app"]
        assert not log.exists()
        assert list((made.folder / "pods").iterdir()) == []
        assert made.runtime.addresses == {}

    cluster(scenario)


def test_deletion_by_force_ends_it_at_once(cluster: RunCluster) -> None:
    async def scenario(made: Cluster) -> None:
        made.run_pod()
        replica = await made.running()
        made.api.delete("Pod", "web", "default", grace_seconds=0)
        await made.until(lambda: replica.graces)
        assert replica.graces == [0.0]

    cluster(scenario)


def test_pre_stop_sleep_counts_within_the_grace_period(cluster: RunCluster) -> None:
    async def scenario(made: Cluster) -> None:
        made.run_pod(lifecycle={"preStop": {"sleep": {"seconds": 1}}})
        replica = await made.running()
        began = asyncio.get_running_loop().time()
        made.api.delete("Pod", "web", "default")
        await made.gone()
        assert asyncio.get_running_loop().time() - began >= 1
        assert 2 <= replica.graces[0] <= 6

    cluster(scenario)


def test_a_pod_that_never_started_goes_at_once(cluster: RunCluster) -> None:
    async def scenario(made: Cluster) -> None:
        made.run_pod(image="Not A Name")
        await made.until(lambda: made.waiting().get("message"))
        made.api.delete("Pod", "web", "default")
        await made.gone()

    cluster(scenario)


@pytest.mark.parametrize(
    ("policy", "codes", "phase"),
    [("Never", [0], "Succeeded"), ("Never", [5], "Failed"), ("OnFailure", [1, 0], "Succeeded")],
)
def test_pods_that_end(cluster: RunCluster, policy: str, codes: list[int], phase: str) -> None:
    async def scenario(made: Cluster) -> None:
        made.run_pod(pod={"restartPolicy": policy})
        for number, code in enumerate(codes, 1):
            (await made.running(number)).end(code)
            await made.until(lambda: "running" not in made.container()["state"])
        await made.until(lambda: made.pod()["status"]["phase"] == phase)
        assert len(made.runtime.replicas) == len(codes)
        assert made.container()["state"]["terminated"]["exitCode"] == codes[-1]
        assert made.conditions()["Ready"] == "False"
        made.api.delete("Pod", "web", "default")
        await made.gone()

    cluster(scenario)


def test_init_containers_go_first(cluster: RunCluster) -> None:
    init = [{"name": name, "image": "python:3"} for name in ("first", "second")]

    async def scenario(made: Cluster) -> None:
        made.run_pod(pod={"initContainers": init})
        await made.until(lambda: len(made.runtime.replicas) == 1)
        await made.until(lambda: "running" in made.container(field="initContainerStatuses")["state"])
        assert made.pod()["status"]["phase"] == "Pending"
        assert made.conditions()["Initialized"] == "False"
        assert made.waiting().get("reason") == "PodInitializing"
        made.runtime.replicas[0].end(1)  # tried again
        await made.until(lambda: len(made.runtime.replicas) == 2)
        made.runtime.replicas[1].end(0)
        await made.until(lambda: len(made.runtime.replicas) == 3)
        made.runtime.replicas[2].end(0)
        await made.running(4)
        names = [replica.spec.container for replica in made.runtime.replicas]
        assert names == ["first", "first", "second", "app"]
        await made.until(lambda: made.conditions()["Initialized"] == "True")

    cluster(scenario)


def test_sidecars_run_beside_the_rest_and_end_after_it(cluster: RunCluster) -> None:
    init = [
        {"name": "helper", "image": "python:3", "restartPolicy": "Always"},
        {"name": "first", "image": "i"},
    ]

    async def scenario(made: Cluster) -> None:
        made.run_pod(pod={"initContainers": init, "restartPolicy": "Never"})
        await made.until(lambda: len(made.runtime.replicas) == 2)
        made.runtime.replicas[1].end(0)
        app = await made.running(3)
        await made.until(lambda: made.conditions().get("Ready") == "True")
        helper, first = made.pod()["status"]["initContainerStatuses"]
        assert (helper["ready"], "running" in helper["state"]) == (True, True)
        assert (first["ready"], first["state"]["terminated"]["exitCode"]) == (True, 0)
        app.end(0)
        await made.until(lambda: made.pod()["status"]["phase"] == "Succeeded")
        assert "terminated" in made.container(field="initContainerStatuses")["state"]
        assert len(made.runtime.replicas) == 3  # nobody starts the sidecar again
        made.api.delete("Pod", "web", "default")
        await made.gone()

    cluster(scenario)


def test_what_has_no_effect_is_said(cluster: RunCluster) -> None:
    async def scenario(made: Cluster) -> None:
        made.run_pod(pod={"hostNetwork": True, "securityContext": {"runAsUser": 0}})
        await made.running()
        (said,) = made.events("NotSupported")
        assert said == "the local cluster does not act upon spec.hostNetwork, spec.securityContext.runAsUser"

    cluster(scenario)


def test_limits_of_the_whole_pod_hold_its_container(cluster: RunCluster) -> None:
    async def scenario(made: Cluster) -> None:
        amounts = {"memory": "50Mi", "cpu": "100m"}
        made.run_pod(pod={"resources": {"limits": amounts}})
        replica = await made.running()
        assert (replica.spec.memory_limit, replica.spec.cpu_limit) == (50 << 20, 0.1)
        status = made.pod()["status"]
        assert status["resources"] == {"limits": amounts, "requests": amounts}
        assert (status["allocatedResources"], status["qosClass"]) == (amounts, "Guaranteed")
        assert made.events("NotSupported") == []

    cluster(scenario)


def test_limits_that_are_not_shared_out_are_told_of(cluster: RunCluster) -> None:
    async def scenario(made: Cluster) -> None:
        beside = {"name": "beside", "image": "i", "restartPolicy": "Always"}
        made.run_pod(pod={"resources": {"limits": {"memory": "50Mi"}}, "initContainers": [beside]})
        await made.running(2)
        assert {replica.spec.memory_limit for replica in made.runtime.replicas} == {50 << 20}
        assert made.events("NotSupported") == [
            "the local cluster holds each container to spec.resources.limits[memory] by itself, "
            "not all of them together"
        ]

    cluster(scenario)


def test_volumes(cluster: RunCluster) -> None:
    volumes: list[dict[str, Any]] = [
        {"name": "config", "configMap": {"name": "settings", "items": [{"key": "a", "path": "deep/a.txt"}]}},
        {"name": "secret", "secret": {"secretName": "keys", "defaultMode": 256}},
        {"name": "data", "emptyDir": {}},
        {
            "name": "all",
            "projected": {
                "sources": [
                    {"configMap": {"name": "settings"}},
                    {"downwardAPI": {"items": [{"path": "n", "fieldRef": {"fieldPath": "metadata.name"}}]}},
                ]
            },
        },
    ]
    mounts = [{"name": volume["name"], "mountPath": f"/{volume['name']}"} for volume in volumes]

    async def scenario(made: Cluster) -> None:
        made.run_pod(pod={"volumes": volumes}, volumeMounts=mounts)
        await made.until(lambda: made.events("FailedMount"))
        assert made.events("FailedMount") == [
            'MountVolume.SetUp failed for volume "config" : configmap "settings" not found'
        ]
        assert made.waiting().get("reason") == "ContainerCreating"
        made.create("ConfigMap", "settings", data={"a": "alpha", "b": "beta"})
        made.create("Secret", "keys", data={"k": base64.b64encode(b"key").decode()})
        found = {mount.target: mount for mount in (await made.running()).spec.mounts}
        assert (found["/config"].source / "deep/a.txt").read_text() == "alpha"
        assert (found["/secret"].source / "k").read_text() == "key"
        assert (found["/secret"].source / "k").stat().st_mode & 0o777 == 0o400
        assert [(found["/all"].source / name).read_text() for name in ("a", "b", "n")] == [
            "alpha",
            "beta",
            "web",
        ]
        assert [found[target].read_only for target in ("/config", "/data")] == [True, False]

    cluster(scenario)


def test_a_volume_that_is_not_supported(cluster: RunCluster) -> None:
    async def scenario(made: Cluster) -> None:
        made.run_pod(pod={"volumes": [{"name": "disk", "hostPath": {"path": "/etc"}}]})
        (message,) = await made.until(lambda: made.events("FailedMount"))
        assert "hostPath volumes are not supported by the local cluster yet" in message

    cluster(scenario)


def test_termination_message_of_the_program(cluster: RunCluster) -> None:
    async def scenario(made: Cluster) -> None:
        made.run_pod(terminationMessagePath="/tmp/last-words")
        replica = await made.running()
        mount = next(mount for mount in replica.spec.mounts if mount.target == "/tmp/last-words")
        mount.source.write_text("no model")
        replica.end(9)
        await made.running(2)
        assert made.container()["lastState"]["terminated"]["message"] == "no model"

    cluster(scenario)


def test_logs_of_this_run_and_the_one_before(cluster: RunCluster) -> None:
    async def scenario(made: Cluster) -> None:
        uid = made.run_pod()["metadata"]["uid"]
        first = await made.running()
        assert made.logs.open("default", "web", uid, "app", False) == first.spec.log_path
        assert made.logs.open("default", "web", uid, "app", True) is None
        first.end(1)
        second = await made.running(2)
        assert made.logs.open("default", "web", uid, "app", False) == second.spec.log_path
        assert made.logs.open("default", "web", uid, "app", True) == first.spec.log_path
        for number in range(3, 6):
            made.runtime.replicas[-1].end(1)
            await made.running(number)
        kept = sorted(path.name for path in second.spec.log_path.parent.glob("*.log"))
        assert kept == ["2.log", "3.log", "4.log"]

    cluster(scenario)


def test_a_new_kubelet_starts_what_ran(tmp_path: Path) -> None:
    """After `kill -9` of the daemon its Pods are in the store, their processes are not."""

    async def main() -> None:
        made = Cluster(tmp_path)
        kubelet = made.kubelet()
        async with asyncio.timeout(60):
            uid = made.run_pod()["metadata"]["uid"]
            made.run_pod("once", pod={"restartPolicy": "Never"})
            await made.until(lambda: made.conditions("web").get("Ready") == "True")
            await made.until(lambda: made.conditions("once").get("Ready") == "True")
            kubelet.cancel()
            await asyncio.gather(kubelet, return_exceptions=True)
            made.runtime = FakeRuntime()
            leftover = made.folder / "logs" / "default_gone_0000"
            leftover.mkdir()
            kubelet = made.kubelet()
            await made.running()
            await made.until(lambda: made.pod("once")["status"]["phase"] == "Failed")
        assert [replica.spec.pod for replica in made.runtime.replicas] == ["web"]
        assert made.runtime.addresses[uid] == "127.0.0.1"  # asked for the recorded one
        container = made.container()
        assert container["restartCount"] == 1
        last = container["lastState"]["terminated"]
        assert (last["exitCode"], last["reason"]) == (255, "Unknown")
        assert not leftover.exists()
        kubelet.cancel()
        await asyncio.gather(kubelet, return_exceptions=True)
        made.store.close()

    asyncio.run(main())


def test_pods_of_other_nodes_are_left_alone(cluster: RunCluster) -> None:
    async def scenario(made: Cluster) -> None:
        made.create(
            "Pod", "other", spec={"nodeName": "node2", "containers": [{"name": "app", "image": "python:3"}]}
        )
        made.run_pod()
        await made.running()
        assert [replica.spec.pod for replica in made.runtime.replicas] == ["web"]

    cluster(scenario)
