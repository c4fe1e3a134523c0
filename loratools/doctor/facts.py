"""What is known of a machine: plain values, so that any machine can be judged, also one that is not here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

Version = tuple[int, ...]  # (2, 13, 0)


@dataclass(frozen=True)
class NvidiaCard:
    """A card that NVIDIA's driver knows, as ``nvidia-smi`` tells of it.

    Args:
        driver: such as (580, 65, 6).
        memory: bytes in all.
        used: bytes that are taken now.
        capability: such as (8, 9); None where the driver is too old to say.
    """

    name: str
    driver: Version
    memory: int
    used: int
    capability: tuple[int, int] | None


@dataclass(frozen=True)
class TorchBuild:
    """The installed torch.

    Args:
        error: why it cannot be imported; everything else is then unknown.
        numpy_error: why it cannot hand a tensor to NumPy.
        cuda, hip: what it was built for, such as ``12.8`` and ``6.4``; None where it was not.
        devices: names of the GPUs that it can use.
        architectures: CUDA architectures that it has kernels for, such as ``sm_89``.
        mps: whether Apple's GPU can be used.
        triton: whether Triton, which fuses kernels on a GPU, can be imported.
    """

    version: str | None = None
    error: str | None = None
    cuda: str | None = None
    hip: str | None = None
    devices: tuple[str, ...] = ()
    architectures: tuple[str, ...] = ()
    mps: bool = False
    triton: bool = False
    numpy_error: str | None = None


@dataclass(frozen=True)
class Folder:
    """A folder that is written to: what for, its free bytes, and why nothing can be written there, if so."""

    use: str
    path: str
    free: int
    error: str | None = None


@dataclass(frozen=True)
class Lack:
    """A package that is needed and missing, or of a version that does not fit.

    Args:
        needed: such as ``diffusers>=0.36``.
        installed: its version; None where it is missing.
    """

    needed: str
    installed: str | None

    @property
    def is_torch(self) -> bool:
        """Whether it is torch itself, whose builds differ by machine."""
        return self.needed.startswith(("torch>", "torch<", "torch=", "torch!", "torch~")) or self.needed == "torch"


@dataclass(frozen=True)
class Facts:
    """A machine.

    Args:
        system: ``Linux``, ``Windows`` or ``Darwin``.
        processor: such as ``x86_64`` or ``arm64``.
        translated: whether an Intel Python runs on Apple silicon.
        bits: of a pointer.
        isolated: whether this is a virtual environment.
        cards: vendors of display adapters, ``nvidia``, ``amd``, ``intel``, however little is installed for them.
        nvidia: what NVIDIA's driver tells; empty where it is not there.
        torchvision_wants: the torch that an installed torchvision was built for; None where there is none.
        lacks: by extra, what it lacks; what every command needs stands under the empty name.
        memory: bytes of main memory, and of it what is free.
        long_paths: whether Windows takes paths of over 260 characters; None elsewhere.
        encoding: of what is printed.
        hub_offline: the environment's variable that keeps the hub from being asked; None where none does.
        proxy_lacks: the package that a SOCKS proxy of the environment needs and that is missing.
    """

    system: str
    processor: str
    python: Version
    loratools: str
    torch: TorchBuild
    bits: int = 64
    translated: bool = False
    isolated: bool = True
    cards: frozenset[str] = frozenset()
    nvidia: tuple[NvidiaCard, ...] = ()
    torchvision_wants: str | None = None
    lacks: Mapping[str, tuple[Lack, ...]] | None = None
    folders: tuple[Folder, ...] = ()
    memory: tuple[int, int] = (0, 0)
    long_paths: bool | None = None
    encoding: str = "utf-8"
    hub_offline: str | None = None
    proxy_lacks: str | None = None

    @property
    def needed_torch(self) -> str | None:
        """What is asked of torch, such as ``torch>=2.6``, where the installed one is another; None where it fits."""
        return next((own.needed for own in (self.lacks or {}).get("", ()) if own.is_torch), None)

    def as_json(self) -> dict[str, Any]:
        """Its fields."""
        return {**asdict(self), "cards": sorted(self.cards)}
