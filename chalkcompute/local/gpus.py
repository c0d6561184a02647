"""The NVIDIA GPUs of this machine: which there are, what clouds call them, what using one needs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "GPU_RESOURCE",
    "Gpu",
    "accelerator_label",
    "ask_driver",
    "device_files",
    "find_gpus",
    "parse_information",
    "parse_list",
    "product_label",
    "visible_devices",
]

GPU_RESOURCE = "nvidia.com/gpu"
"""The extended resource that NVIDIA's device plugin offers, and Pods ask for."""

_INFORMATION = "driver/nvidia/gpus"
_TOOL = "nvidia-smi"
_TOOL_OF_WSL = "/usr/lib/wsl/lib/nvidia-smi"
_TOOL_SECONDS = 10  # without its persistence daemon a driver takes seconds to wake up
_SHARED = (
    "nvidiactl",
    "nvidia-uvm",
    "nvidia-uvm-tools",
    "nvidia-modeset",
    "dxg",
)  # dxg: WSL's way to all GPUs

# Source: the values of `cloud.google.com/gke-accelerator` in GKE's documentation of GPUs, by a word of the
# model's name. Where a model comes in two sizes, the larger one stands first.
_GKE: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"a100", "80gb"}), "nvidia-a100-80gb"),
    (frozenset({"a100"}), "nvidia-tesla-a100"),
    (frozenset({"h100"}), "nvidia-h100-80gb"),
    (frozenset({"h200"}), "nvidia-h200-141gb"),
    (frozenset({"b200"}), "nvidia-b200"),
    (frozenset({"gb200"}), "nvidia-gb200"),
    (frozenset({"rtx", "pro", "6000"}), "nvidia-rtx-pro-6000"),
    (frozenset({"l4"}), "nvidia-l4"),
    (frozenset({"t4"}), "nvidia-tesla-t4"),
    (frozenset({"v100"}), "nvidia-tesla-v100"),
    (frozenset({"p100"}), "nvidia-tesla-p100"),
    (frozenset({"p4"}), "nvidia-tesla-p4"),
    (frozenset({"k80"}), "nvidia-tesla-k80"),
)
_LABEL_LENGTH = 63


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU.

    Attributes:
        id: What CUDA and container runtimes take for it: its UUID, else its number.
        model: As the driver names it: `NVIDIA L4`.
        minor: Number of its device file, or None where it has none of its own (WSL).
    """

    id: str
    model: str
    minor: int | None = None


def find_gpus(*, proc: Path = Path("/proc"), ask: Callable[[], str | None] | None = None) -> tuple[Gpu, ...]:
    """The GPUs of this machine; none is the answer of most.

    Args:
        proc: Where the proc file system is mounted.
        ask: What `nvidia-smi -L` prints, for where the driver has no files there; `ask_driver` by default.
    """
    files = sorted((proc / _INFORMATION).glob("*/information"))
    found = [parse_information(text) for text in map(_text, files) if text]
    gpus = tuple(gpu for gpu in found if gpu is not None)
    return gpus or parse_list((ask or ask_driver)() or "")


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def parse_information(text: str) -> Gpu | None:
    """A GPU as `/proc/driver/nvidia/gpus/*/information` has it; None for one that is not to be used."""
    fields = {}
    for line in text.splitlines():
        name, _, value = line.partition(":")
        fields[name.strip()] = value.strip()
    if not fields.get("Model") or fields.get("GPU Excluded") == "Yes":
        return None
    minor = fields.get("Device Minor", "")
    uuid = fields.get("GPU UUID", "")
    # A driver that nothing has used yet shows `GPU-????????-...`.
    known = uuid.startswith("GPU-") and "?" not in uuid
    return Gpu(uuid if known else minor or "0", fields["Model"], int(minor) if minor.isdigit() else None)


def parse_list(text: str) -> tuple[Gpu, ...]:
    """The GPUs in what `nvidia-smi -L` prints."""
    pattern = r"^GPU (\d+): (.+?) \(UUID: (\S+)\)\s*$"
    return tuple(Gpu(found[3], found[2], int(found[1])) for found in re.finditer(pattern, text, re.MULTILINE))


def ask_driver() -> str | None:
    """What `nvidia-smi -L` prints; None where it is not, or does not answer in time."""
    tool = shutil.which(_TOOL) or (_TOOL_OF_WSL if os.access(_TOOL_OF_WSL, os.X_OK) else None)
    if tool is None:
        return None
    try:
        answer = subprocess.run(
            [tool, "-L"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_TOOL_SECONDS,
            check=True,
            text=True,
        )
    except (OSError, subprocess.SubprocessError, UnicodeError):
        return None
    return answer.stdout


def accelerator_label(model: str) -> str:
    """What GKE labels nodes with for a model: `Tesla T4` is `nvidia-tesla-t4`.

    A model that GKE does not have is named after the same manner: `NVIDIA GeForce RTX 3090` is
    `nvidia-geforce-rtx-3090`.
    """
    words = [word for word in re.split(r"[^a-z0-9]+", model.lower()) if word]
    for needed, label in _GKE:
        if needed <= set(words):
            return label
    named = "-".join(words if words[:1] == ["nvidia"] else ["nvidia", *words])
    return named[:_LABEL_LENGTH].rstrip("-")


def product_label(model: str) -> str:
    """What NVIDIA's GPU operator labels nodes with: `NVIDIA L4` is `NVIDIA-L4`."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", model.strip())[:_LABEL_LENGTH].strip("-._")


def device_files(gpus: Sequence[Gpu], *, dev: Path = Path("/dev")) -> tuple[Path, ...]:
    """The device files that a replica with these GPUs needs, of those that are there."""
    if not gpus:
        return ()
    own = [f"nvidia{gpu.minor}" for gpu in gpus if gpu.minor is not None]
    return tuple(path for name in (*own, *_SHARED) if (path := dev / name).exists())


def visible_devices(gpus: Sequence[Gpu]) -> Mapping[str, str]:
    """The environment that says to CUDA and to NVIDIA's libraries which GPUs are a replica's."""
    ids = ",".join(gpu.id for gpu in gpus)
    return {"CUDA_VISIBLE_DEVICES": ids, "NVIDIA_VISIBLE_DEVICES": ids or "void"}
