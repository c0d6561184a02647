"""The CPU limit without control groups: its arithmetic, and that it stops and lets go what it should."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from chalkcompute.local.runtime.throttle import Bucket, advance
from chalkcompute.local.runtime.usage import process_tree
from tests.properties import examples
from tests.unit.local_runtime.conftest import RunSandboxed, Sandbox

LOOP = ("python", "-c", "while True: pass")


def simulate(limit: float, cores: float, seconds: float, *, late: float = 0.0) -> tuple[float, float]:
    """A program that takes all it gets: CPU seconds used, and the longest pause.

    Args:
        limit: Its limit in cores.
        cores: What it takes while it runs.
        seconds: How long it is watched.
        late: How much later than asked for each look happens.
    """
    now = used = longest = pause = 0.0
    bucket = Bucket(limit, now, used, tokens=limit * 0.1)
    wait, paused = 0.1, False
    while now < seconds:
        passed = wait + late
        now += passed
        used += 0.0 if paused else cores * passed
        pause = pause + passed if paused else 0.0
        longest = max(longest, pause)
        bucket, step = advance(bucket, now, used)
        wait, paused = step.seconds, step.pause
        assert wait >= 0.005
    return used, longest


@given(st.floats(0.01, 4), st.floats(1.05, 100), st.floats(0, 0.005), st.sampled_from((20.0, 60.0)))
@examples(200)
def test_what_takes_all_it_gets_gets_its_limit(
    limit: float, excess: float, late: float, seconds: float
) -> None:
    cores = min(8.0, limit * excess)
    used, longest = simulate(limit, cores, seconds, late=late)
    # Each look is late, and in the meantime all cores are taken.
    assert used <= limit * seconds * 1.1 + cores * (0.2 + late * seconds * 3)
    assert used >= min(cores, limit) * seconds * 0.75
    assert longest <= 2.1
    assert longest <= 0.7 or cores > limit * 20


@given(st.floats(0.05, 4), st.floats(0, 0.95))
@examples(100)
def test_what_stays_below_is_never_paused(limit: float, part: float) -> None:
    now = used = 0.0
    bucket = Bucket(limit, now, used, tokens=limit * 0.1)
    intervals = []
    for _ in range(100):
        now += bucket.interval
        used += limit * part * bucket.interval
        bucket, step = advance(bucket, now, used)
        assert not step.pause
        intervals.append(step.seconds)
    assert intervals[-1] == (0.5 if part < 0.5 else 0.1) or 0.49 < part < 0.51


def test_usage_that_goes_back_is_no_credit() -> None:
    bucket = Bucket(1.0, 0.0, 10.0, tokens=0.0)
    after, step = advance(bucket, 0.05, 3.0)
    assert (round(after.tokens, 3), after.used, step.pause) == (0.05, 3.0, False)


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


async def until_stopped(pids: list[int]) -> None:
    while not all(state_of(pid) == "T" for pid in pids):
        await asyncio.sleep(0.001)


def test_the_program_is_paused_and_its_inits_are_not(tier: str, sandboxed: RunSandboxed) -> None:
    async def scenario(box: Sandbox) -> None:
        assert box.runtime.limits == {"cpu": "watched", "memory": "watched"}
        inits = 2 if tier.startswith("ns-") else 1
        replica = await box.runtime.start(box.spec(*LOOP, cpu_limit=0.05))
        tree = process_tree(replica.pid)
        await until_stopped(tree[inits:])
        assert all(state_of(pid) != "T" for pid in tree[:inits])
        ended = await replica.stop(30)  # the signal reaches what is paused
        assert (ended.exit_code, ended.reason) == (143, "Error")

    sandboxed(tier, scenario)


def test_what_is_paused_can_be_killed_and_its_end_is_seen(tier: str, sandboxed: RunSandboxed) -> None:
    async def scenario(box: Sandbox) -> None:
        replica = await box.runtime.start(box.spec(*LOOP, cpu_limit=0.05))
        program = process_tree(replica.pid)[-1]
        await until_stopped([program])
        os.kill(program, signal.SIGKILL)
        ended = await replica.wait()
        assert (ended.exit_code, ended.reason) == (137, "Error")

    sandboxed(tier, scenario)


def test_nothing_stays_stopped_when_the_runtime_closes(strongest_tier: str, sandboxed: RunSandboxed) -> None:
    async def scenario(box: Sandbox) -> list[int]:
        replica = await box.runtime.start(box.spec(*LOOP, cpu_limit=0.05))
        tree = process_tree(replica.pid)
        await until_stopped(tree[-1:])
        return tree

    tree = sandboxed(strongest_tier, scenario)
    assert not [pid for pid in tree if Path(f"/proc/{pid}").exists()]
