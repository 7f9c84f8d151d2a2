"""Where the models compute, and how that is said in the sidebar."""

from __future__ import annotations

import os
from pathlib import Path

import torch

from attnviz.types import Model
from attnviz.ui.core.sized_cache import tensors_of


def best_device() -> torch.device:
    """cuda, else mps, else cpu."""
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def device_line(model: Model) -> str:
    """Name, number format and memory of the device a model computes on, in one line."""
    parameters = tensors_of(model)
    parts = [device_name(model.device)]
    if parameters:
        parts += [
            str(parameters[0].dtype).removeprefix("torch."),
            f"model {megabytes(sum(p.nbytes for p in parameters))}",
        ]
    parts.append(memory_line(model.device))
    return " · ".join(part.replace(" ", "\u00a0") for part in parts)  # a line breaks between the parts only


def device_name(device: torch.device) -> str:
    """What the visitor would call it."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return "Apple graphics" if device.type == "mps" else f"Processor, {os.cpu_count()} cores"


def memory_line(device: torch.device) -> str:
    """Memory in use: of the graphics card, else of this process."""
    if device.type == "cuda":
        free, total = torch.cuda.mem_get_info(device)
        return f"{(total - free) / 2**30:.1f} of {total / 2**30:.0f} GB in use"
    return f"app {megabytes(resident())}" if resident() else "memory unknown"


def resident() -> int:
    """Bytes of memory this process holds; 0 where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0


def megabytes(count: int) -> str:
    """A number of bytes for people."""
    return f"{count / 2**20:,.1f} MB" if count < 100 * 2**20 else f"{count / 2**20:,.0f} MB"
