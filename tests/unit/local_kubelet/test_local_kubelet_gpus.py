"""The GPUs of a machine that has some: found in a made-up /proc, labelled, and given to one Pod at a time."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chalkcompute.local.gpus import (
    Gpu,
    accelerator_label,
    ask_driver,
    device_files,
    find_gpus,
    parse_list,
    product_label,
    visible_devices,
)
from chalkcompute.local.kubelet.devices import GpuAssignments, TooFewGpusError, choose, wanted_gpus
from tests.properties import examples
from tests.unit.local_kubelet.conftest import Cluster, RunCluster

GPUS = tuple(Gpu(f"GPU-{number}", "NVIDIA L4", number) for number in range(3))
INFORMATION = """\
Model: \t\t Tesla T4
IRQ:   \t\t 33
GPU UUID: \t GPU-5b3a2c1d-0000-1111-2222-333344445555
Video BIOS: \t 90.04.96.00.01
Bus Type: \t PCIe
DMA Size: \t 47 bits
Bus Location: \t 0000:00:1e.0
Device Minor: \t 0
GPU Excluded:\t No
"""


def made(proc: Path, **texts: str) -> None:
    for name, text in texts.items():
        folder = proc / "driver/nvidia/gpus" / name
        folder.mkdir(parents=True)
        (folder / "information").write_text(text)


def test_the_driver_says_what_there_is(tmp_path: Path) -> None:
    sleeping = INFORMATION.replace(
        "5b3a2c1d-0000-1111-2222-333344445555", "????????-????-????-????-????????????"
    )
    made(
        tmp_path,
        a=INFORMATION,
        b=sleeping.replace("Minor: \t 0", "Minor: \t 1"),
        c=INFORMATION.replace("Excluded:\t No", "Excluded:\t Yes"),
    )
    assert find_gpus(proc=tmp_path, ask=lambda: pytest.fail("there is no need to ask")) == (
        Gpu("GPU-5b3a2c1d-0000-1111-2222-333344445555", "Tesla T4", 0),
        Gpu("1", "Tesla T4", 1),
    )


def test_where_the_driver_has_no_files_its_tool_is_asked(tmp_path: Path) -> None:
    said = (
        "GPU 0: NVIDIA GeForce RTX 3080 (UUID: GPU-a-1)\n"
        "  MIG 1g.5gb Device 0: (UUID: MIG-a-2)\n"
        "GPU 1: NVIDIA A100-SXM4-40GB (UUID: GPU-b-1)\n"
    )
    assert find_gpus(proc=tmp_path, ask=lambda: said) == (
        Gpu("GPU-a-1", "NVIDIA GeForce RTX 3080", 0),
        Gpu("GPU-b-1", "NVIDIA A100-SXM4-40GB", 1),
    )
    assert find_gpus(proc=tmp_path, ask=lambda: None) == ()
    assert parse_list("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.") == ()


@pytest.mark.parametrize(
    ("script", "answer"), [("echo GPU", "GPU\n"), ("echo no driver; exit 9", None), ("exec sleep 60", None)]
)
def test_a_tool_that_fails_or_hangs_is_no_gpu(
    script: str, answer: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f'#!/bin/sh\n[ "$1" = -L ] || exit 3\n{script}\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("chalkcompute.local.gpus._TOOL_SECONDS", 1)
    assert ask_driver() == answer


@pytest.mark.parametrize(
    ("model", "gke", "product"),
    [
        ("Tesla T4", "nvidia-tesla-t4", "Tesla-T4"),
        ("NVIDIA L4", "nvidia-l4", "NVIDIA-L4"),
        ("NVIDIA L40S", "nvidia-l40s", "NVIDIA-L40S"),
        ("NVIDIA A100-SXM4-40GB", "nvidia-tesla-a100", "NVIDIA-A100-SXM4-40GB"),
        ("NVIDIA A100-SXM4-80GB", "nvidia-a100-80gb", "NVIDIA-A100-SXM4-80GB"),
        ("NVIDIA A100 80GB PCIe", "nvidia-a100-80gb", "NVIDIA-A100-80GB-PCIe"),
        ("NVIDIA H100 80GB HBM3", "nvidia-h100-80gb", "NVIDIA-H100-80GB-HBM3"),
        ("NVIDIA H200", "nvidia-h200-141gb", "NVIDIA-H200"),
        ("NVIDIA B200", "nvidia-b200", "NVIDIA-B200"),
        ("NVIDIA GB200", "nvidia-gb200", "NVIDIA-GB200"),
        (
            "NVIDIA RTX PRO 6000 Blackwell Server Edition",
            "nvidia-rtx-pro-6000",
            "NVIDIA-RTX-PRO-6000-Blackwell-Server-Edition",
        ),
        ("Tesla V100-SXM2-16GB", "nvidia-tesla-v100", "Tesla-V100-SXM2-16GB"),
        ("Tesla P100-PCIE-16GB", "nvidia-tesla-p100", "Tesla-P100-PCIE-16GB"),
        ("Tesla P4", "nvidia-tesla-p4", "Tesla-P4"),
        ("Tesla K80", "nvidia-tesla-k80", "Tesla-K80"),
        ("Quadro P4000", "nvidia-quadro-p4000", "Quadro-P4000"),
        ("NVIDIA GeForce RTX 3090", "nvidia-geforce-rtx-3090", "NVIDIA-GeForce-RTX-3090"),
    ],
)
def test_types_by_the_names_of_clouds(model: str, gke: str, product: str) -> None:
    assert (accelerator_label(model), product_label(model)) == (gke, product)


def test_device_files_of_some_gpus_and_what_all_share(tmp_path: Path) -> None:
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):
        (tmp_path / name).touch()
    names = [path.name for path in device_files(GPUS[1:2], dev=tmp_path)]
    assert names == ["nvidia1", "nvidiactl", "nvidia-uvm"]
    assert device_files((), dev=tmp_path) == ()


def test_what_a_program_is_told() -> None:
    ids = "GPU-0,GPU-2"
    assert visible_devices([GPUS[0], GPUS[2]]) == {"CUDA_VISIBLE_DEVICES": ids, "NVIDIA_VISIBLE_DEVICES": ids}
    assert visible_devices([]) == {"CUDA_VISIBLE_DEVICES": "", "NVIDIA_VISIBLE_DEVICES": "void"}


@pytest.mark.parametrize(
    ("resources", "count"),
    [
        ({}, 0),
        ({"limits": {"nvidia.com/gpu": "2"}}, 2),
        ({"limits": {"nvidia.com/gpu": 1}, "requests": {"nvidia.com/gpu": 1}}, 1),
    ],
)
def test_how_many_a_container_wants(resources: dict[str, object], count: int) -> None:
    assert wanted_gpus({"resources": resources}) == count


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 3), st.booleans()), max_size=30))
@examples(200)
def test_no_gpu_has_two_owners(steps: list[tuple[str, int, bool]]) -> None:
    given_out = GpuAssignments(GPUS)
    owned: dict[str, set[str]] = {}
    for pod, count, ends in steps:
        if ends:
            given_out.release(pod)
            owned.pop(pod, None)
            continue
        others = set().union(*(ids for other, ids in owned.items() if other != pod))
        if count + len(others) > len(GPUS):
            with pytest.raises(TooFewGpusError, match=f"Requested: {count}, Available:"):
                given_out.assign(pod, "app", count)
            continue
        got = given_out.assign(pod, "app", count)
        again = given_out.assign(pod, "app", count)
        assert got == again  # over restarts of the container
        assert len(got) == count
        assert not {gpu.id for gpu in got} & others
        owned[pod] = {gpu.id for gpu in got}


def test_a_choice_is_the_first_that_are_free() -> None:
    assert choose(GPUS, {"GPU-0"}, 1) == ["GPU-1"]
    assert choose(GPUS, (), 0) == []


def test_gpus_are_kept_over_a_restart_of_the_daemon(tmp_path: Path) -> None:
    record = tmp_path / "gpus.json"
    before = GpuAssignments(GPUS, record)
    before.assign("a", "app", 1)
    kept = before.assign("b", "app", 1)
    after = GpuAssignments(GPUS, record)
    after.keep_only({"b"})
    assert after.assign("b", "app", 1) == kept
    assert after.assign("c", "app", 1) == GPUS[:1]  # that of `a`, which has gone
    fewer = GpuAssignments(GPUS[:1], record)
    fewer.keep_only({"b"})
    assert fewer.assign("b", "app", 1) == GPUS[:1]  # its own is not in this machine any more


@pytest.mark.parametrize("text", ["", "[]", '{"a": 1}', '{"a": {"app": 1}}', "\x00"])
def test_a_record_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    record = tmp_path / "gpus.json"
    record.write_text(text)
    assert GpuAssignments(GPUS, record).assign("a", "app", 3) == GPUS


def test_pods_have_the_gpus_that_they_ask_for(cluster: RunCluster) -> None:
    async def scenario(run: Cluster) -> None:
        wanting = {"limits": {"nvidia.com/gpu": "2"}, "requests": {"nvidia.com/gpu": "2"}}
        run.run_pod("two", resources=wanting)
        first = await run.running(1, "two")
        assert first.spec.gpus == ("GPU-0", "GPU-1")
        assert first.spec.env["CUDA_VISIBLE_DEVICES"] == "GPU-0,GPU-1"
        run.run_pod("none", env=[{"name": "NVIDIA_VISIBLE_DEVICES", "value": "mine"}])
        other = await run.running(2, "none")
        assert other.spec.gpus == ()
        assert other.spec.env["CUDA_VISIBLE_DEVICES"] == ""
        assert other.spec.env["NVIDIA_VISIBLE_DEVICES"] == "mine"
        run.run_pod("late", resources=wanting)
        (why,) = await run.until(lambda: run.events("Failed"))
        assert "Requested: 2, Available: 1" in why
        assert run.container("late")["state"]["waiting"]["reason"] == "CreateContainerConfigError"
        run.api.delete("Pod", "two", "default")
        third = await run.running(3, "late")  # what has come free
        assert third.spec.gpus == ("GPU-0", "GPU-1")

    cluster(scenario, GPUS)


def test_a_pod_that_is_done_gives_its_gpus_back(cluster: RunCluster) -> None:
    async def scenario(run: Cluster) -> None:
        wanting = {"limits": {"nvidia.com/gpu": "3"}, "requests": {"nvidia.com/gpu": "3"}}
        run.run_pod("done", pod={"restartPolicy": "Never"}, resources=wanting)
        (await run.running(1, "done")).end(0)
        await run.until(lambda: run.pod("done")["status"]["phase"] == "Succeeded")
        run.run_pod("next", resources=wanting)
        assert (await run.running(2, "next")).spec.gpus == ("GPU-0", "GPU-1", "GPU-2")

    cluster(scenario, GPUS)


def test_a_machine_without_gpus_says_nothing_of_them(cluster: RunCluster) -> None:
    async def scenario(run: Cluster) -> None:
        run.run_pod()
        replica = await run.running()
        assert not [name for name in replica.spec.env if "VISIBLE" in name]

    cluster(scenario)
