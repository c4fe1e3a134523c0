"""Which of torch's builds a machine takes, and how it is installed.

NVIDIA's drivers from 580 on run CUDA 13, from 525 on CUDA 12 (NVIDIA, "CUDA compatibility", minor versions). torch's
builds for CUDA 13 have kernels from Turing (7.5) on, those for 12.6 up to Hopper (9.0), those for 12.8 Blackwell's
(10.0 and 12.0) as well.
"""

from __future__ import annotations

from loratools.doctor.facts import Facts, Version

INDEX = "https://download.pytorch.org/whl"
CUDA_13, CUDA_12 = (580,), (525,)  # the oldest drivers
ROCM = "rocm6.4"
_TURING, _BLACKWELL = (7, 5), (10, 0)


def wheels_for(facts: Facts) -> str | None:
    """The name of torch's index for a machine, such as ``cu130``; None where PyPI has the right build."""
    if facts.system == "Darwin":
        return None
    if not facts.nvidia:
        return ROCM if "amd" in facts.cards and facts.system == "Linux" else "cpu"
    driver = min(card.driver for card in facts.nvidia)
    known = [card.capability for card in facts.nvidia if card.capability is not None]
    if driver < CUDA_12:
        return "cpu"
    if driver >= CUDA_13 and min(known, default=_TURING) >= _TURING:
        return "cu130"
    return "cu128" if max(known, default=_TURING) >= _BLACKWELL else "cu126"


def install(index: str | None) -> str:
    """The command that puts torch of that index in the place of what is there."""
    source = f" --index-url {INDEX}/{index}" if index else ""
    return f"python -m pip install --force-reinstall torch{source}"


def needed_driver(cuda: str) -> Version:
    """The oldest driver for a build such as ``12.8``."""
    return CUDA_13 if int(cuda.split(".")[0]) >= 13 else CUDA_12
