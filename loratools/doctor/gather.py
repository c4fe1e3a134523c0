"""This machine's facts. Whatever cannot be asked is left out: a doctor does not fall ill."""

from __future__ import annotations

import contextlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from importlib import metadata, util
from pathlib import Path

from loratools.doctor.facts import Facts, Folder, Lack, NvidiaCard, TorchBuild, Version
from loratools.version import __version__

_MIB = 1 << 20
_PATIENCE = 15  # seconds for another program's answer
_SMI = "name,driver_version,memory.total,memory.used,compute_cap"
_VENDORS = {"10de": "nvidia", "1002": "amd", "8086": "intel"}  # PCI's numbers


def graphics() -> Facts:
    """What decides which of torch's builds fits; it needs the standard library alone, and no torch."""
    system = platform.system()
    nvidia = nvidia_cards(_output(["nvidia-smi", f"--query-gpu={_SMI}", "--format=csv,noheader,nounits"]))
    return Facts(
        system=system,
        processor=platform.machine(),
        python=tuple(sys.version_info[:3]),
        loratools=__version__,
        torch=TorchBuild(),
        cards=frozenset(_cards(system)) | ({"nvidia"} if nvidia else set()),
        nvidia=nvidia,
    )


def gather() -> Facts:
    """Look at this machine; takes the seconds that importing torch does."""
    known = graphics()
    system = known.system
    return replace(
        known,
        torch=_torch(),
        bits=64 if sys.maxsize > 2**32 else 32,
        translated=system == "Darwin" and _output(["sysctl", "-n", "sysctl.proc_translated"]).strip() == "1",
        isolated=sys.prefix != sys.base_prefix or bool(os.environ.get("CONDA_PREFIX")),
        torchvision_wants=_torchvision_wants(),
        lacks=_lacks(),
        folders=tuple(_folders()),
        memory=_memory(),
        long_paths=_long_paths() if system == "Windows" else None,
        encoding=(getattr(sys.stdout, "encoding", None) or "utf-8").lower(),
        hub_offline=hub_offline(os.environ),
        proxy_lacks=proxy_lacks(os.environ, _installed("huggingface_hub"), util.find_spec),
    )


def nvidia_cards(text: str) -> tuple[NvidiaCard, ...]:
    """The cards of ``nvidia-smi``'s table; lines that are none are left out."""
    cards = []
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split(",")]
        if len(cells) == 5 and cells[2].isdigit():
            name, driver, memory, used, capability = cells
            whole = re.fullmatch(r"(\d+)\.(\d+)", capability)
            cards.append(
                NvidiaCard(
                    name,
                    version(driver),
                    int(memory) * _MIB,
                    int(used) * _MIB if used.isdigit() else 0,
                    (int(whole[1]), int(whole[2])) if whole else None,
                )
            )
    return tuple(cards)


def version(text: str) -> Version:
    """The numbers that a version begins with: ``2.13.0+cu130`` -> (2, 13, 0)."""
    whole = re.match(r"\d+(\.\d+)*", text.strip())
    return tuple(int(part) for part in whole[0].split(".")) if whole else ()


def _lacks() -> dict[str, tuple[Lack, ...]] | None:
    """None where it cannot be told: the package is not installed, or ``packaging`` is not."""
    with contextlib.suppress(ImportError):  # PackageNotFoundError is one too
        return lacks(metadata.requires("loratools") or [])
    return None


def lacks(requirements: Sequence[str]) -> dict[str, tuple[Lack, ...]]:
    """What is missing or of a wrong version, by extra.

    Args:
        requirements: as a package's metadata have them, ``diffusers>=0.36`` or ``onnx>=1.17; extra == "test"``.
    """
    from packaging.requirements import Requirement

    found: dict[str, list[Lack]] = {}
    for requirement in map(Requirement, requirements):
        extra = _extra(str(requirement.marker or ""))
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": extra}):
            continue
        installed = _installed(requirement.name)
        if installed is None or not requirement.specifier.contains(installed, prereleases=True):
            found.setdefault(extra, []).append(Lack(f"{requirement.name}{requirement.specifier}", installed))
        else:
            found.setdefault(extra, [])
    return {extra: tuple(own) for extra, own in found.items()}


def _extra(marker: str) -> str:
    named = re.search(r"""extra == ['"]([^'"]+)['"]""", marker)
    return named[1] if named else ""


def _installed(name: str) -> str | None:
    with contextlib.suppress(metadata.PackageNotFoundError):
        return metadata.version(name)
    return None


def _torch() -> TorchBuild:
    try:
        import torch
    except Exception as error:  # a missing library of Windows, a broken build: whatever it raises is the finding
        return TorchBuild(_installed("torch"), error=f"{type(error).__name__}: {error}".splitlines()[0])
    usable = torch.cuda.is_available()
    names = [torch.cuda.get_device_name(n) for n in range(torch.cuda.device_count())] if usable else []
    return TorchBuild(
        torch.__version__,
        cuda=torch.version.cuda,
        hip=torch.version.hip,
        devices=tuple(names),
        architectures=tuple(torch.cuda.get_arch_list()) if usable else (),
        mps=torch.backends.mps.is_available(),
        triton=util.find_spec("triton") is not None,
        numpy_error=_numpy_error(),
    )


def _numpy_error() -> str | None:
    """Why torch cannot hand a tensor to NumPy: one was built for another version of the other, or NumPy is broken."""
    import torch

    try:
        torch.zeros(1).numpy()
    except (
        Exception
    ) as error:  # ImportError and RuntimeError among others, by version: whatever it is, it is the finding
        return f"{type(error).__name__}: {error}".splitlines()[0]
    return None


def hub_offline(environment: Mapping[str, str]) -> str | None:
    """The variable that keeps the hub from being asked, if one does."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    return next((name for name in names if environment.get(name, "").upper() in ("1", "ON", "YES", "TRUE")), None)


def proxy_lacks(environment: Mapping[str, str], hub: str | None, find: Callable[[str], object | None]) -> str | None:
    """The package that a SOCKS proxy of the environment needs and that is missing.

    Args:
        hub: the version of huggingface_hub, which fetches by httpx from 1.0 on and by requests before.
        find: whether a module is there: :func:`importlib.util.find_spec`.
    """
    named = [environment.get(name) or environment.get(name.lower(), "") for name in ("ALL_PROXY", "HTTPS_PROXY")]
    if not any(text.lower().startswith("socks") for text in named):
        return None
    module, package = ("socksio", "socksio") if version(hub or "1.0") >= (1,) else ("socks", "PySocks")
    return package if find(module) is None else None


def _torchvision_wants() -> str | None:
    """The torch that torchvision's metadata ask for, such as ``2.13.0``."""
    with contextlib.suppress(metadata.PackageNotFoundError):
        for text in metadata.requires("torchvision") or []:
            whole = re.fullmatch(r"torch\s*\(?==\s*([\d.]+)\)?.*", text)
            if whole:
                return whole[1]
    return None


def _cards(system: str) -> Iterator[str]:
    """Vendors of the display adapters that the system knows."""
    if system == "Linux":
        for file in Path("/sys/class/drm").glob("card*/device/vendor"):
            with contextlib.suppress(OSError):
                yield from vendors(file.read_text(encoding="ascii", errors="replace"))
    elif system == "Windows":
        ask = "(Get-CimInstance Win32_VideoController).PNPDeviceID"
        yield from vendors(_output(["powershell", "-NoProfile", "-Command", ask]))


def vendors(text: str) -> Iterator[str]:
    """The makers whose PCI numbers stand in ``0x10de`` or ``PCI\\VEN_10DE&DEV_2684``."""
    for number in re.findall(r"(?:0x|VEN_)([0-9a-f]{4})", text, re.IGNORECASE):
        if number.lower() in _VENDORS:
            yield _VENDORS[number.lower()]


def _folders() -> Iterator[Folder]:
    from loratools.files import user_cache

    places = {
        "this folder": Path.cwd(),
        "the cache": user_cache("grids").parent,
        "temporary files": Path(tempfile.gettempdir()),
        "models of the hub": _hub_cache(),
    }
    for use, path in places.items():
        there = next((own for own in (path, *path.parents) if own.is_dir()), path)
        try:
            free = shutil.disk_usage(there).free
            with tempfile.TemporaryFile(dir=there):
                pass
        except OSError as error:
            yield Folder(use, str(path), 0, error.strerror or str(error))
        else:
            yield Folder(use, str(path), free)


def _hub_cache() -> Path:
    """Where huggingface_hub keeps what it fetched; it is not imported, since it may be what is broken."""
    home = os.environ.get("HF_HOME") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "huggingface"
    return Path(os.environ.get("HF_HUB_CACHE") or Path(home) / "hub").expanduser()


def _memory() -> tuple[int, int]:
    with contextlib.suppress(ImportError):
        import psutil

        memory = psutil.virtual_memory()
        return int(memory.total), int(memory.available)
    return 0, 0


def _long_paths() -> bool | None:
    """What Windows' registry says; None where it cannot be read."""
    text = _output(["reg", "query", r"HKLM\SYSTEM\CurrentControlSet\Control\FileSystem", "/v", "LongPathsEnabled"])
    whole = re.search(r"LongPathsEnabled\s+REG_DWORD\s+0x(\d+)", text)
    return int(whole[1], 16) == 1 if whole else None


def _output(command: Sequence[str]) -> str:
    """What another program prints; nothing where it is not there, fails or hangs."""
    with contextlib.suppress(OSError, subprocess.SubprocessError):
        done = subprocess.run(command, capture_output=True, timeout=_PATIENCE, encoding="utf-8", errors="replace")
        return done.stdout if done.returncode == 0 else ""
    return ""
