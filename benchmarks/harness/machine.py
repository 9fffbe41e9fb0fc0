"""The machine and the versions of a benchmark."""

import os
from datetime import UTC, datetime
from pathlib import Path

import torch

BF16 = ("avx512_bf16", "amx_bf16")
"""Flags of processors that multiply bfloat16."""


def machine() -> str:
    """Return processor, cores, memory, instructions for bf16 and GPU in one line, the heading of its results."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    values = dict(line.split(":", 1) for line in cpuinfo.splitlines() if ":" in line)
    names = {key.strip(): value.split() for key, value in values.items()}
    model = " ".join(names.get("model name", ["unknown processor"]))
    flags = [flag for flag in BF16 if flag in names.get("flags", [])]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    gpus = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
    bf16, gpu = f"bf16 by {' and '.join(flags)}" if flags else "no bf16", " and ".join(gpus) or "no GPU"
    return f"{model}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB, {bf16}, {gpu}"


def measured() -> str:
    """Return today's date and the version of torch."""
    return f"{datetime.now(UTC):%Y-%m-%d}, torch {torch.__version__}"
