"""torch's build beside the graphics card and its driver: the usual reason why everything is slow."""

from __future__ import annotations

from collections.abc import Iterator

from loratools.doctor.facts import Facts, NvidiaCard, Version
from loratools.doctor.finding import GIB, Finding, without_variable
from loratools.doctor.torch_wheels import CUDA_13, ROCM, install, needed_driver, wheels_for

_SMALL_CARD = 5.5 * GIB  # of a card sold as 6 GB
_CROWDED = 0.5  # of a card's memory that others hold
_NO_PAGING_FILE, _NO_LIBRARY = "1455", "DLL"  # in what Windows says when torch cannot be loaded


def torch_itself(facts: Facts) -> Iterator[Finding]:
    """Whether torch is there, new enough, and can be imported."""
    torch = facts.torch
    if facts.system == "Darwin" and facts.processor == "x86_64" and not facts.translated:
        yield Finding(
            "wrong", "torch for Macs with Intel's processors ended with 2.2, and loratools needs 2.6 or newer"
        )
    elif torch.version is None:
        yield Finding("wrong", "torch is not installed", install(wheels_for(facts)))
    elif torch.error is not None:
        yield _unimportable(facts, torch.error)
    elif facts.needed_torch is not None:
        what = f"torch {torch.version} does not fit; loratools needs {facts.needed_torch}"
        yield Finding("wrong", what, install(wheels_for(facts)))
    elif torch.numpy_error is not None:
        what = f"torch and NumPy do not fit one another ({torch.numpy_error}); no picture can be written"
        yield Finding("wrong", what, 'python -m pip install --force-reinstall "numpy>=2"')
    wanted = facts.torchvision_wants
    if torch.version and wanted and not f"{torch.version}+".startswith(f"{wanted}+"):
        yield Finding(
            "wrong",
            f"torchvision was built for torch {wanted} and this is {torch.version}: importing transformers fails with "
            "it, and loratools does without it",
            "python -m pip uninstall -y torchvision",
        )


def _unimportable(facts: Facts, error: str) -> Finding:
    windows = facts.system == "Windows"
    if windows and _NO_PAGING_FILE in error:
        what = f"torch cannot be imported ({error}): let Windows choose the paging file's size, under virtual memory"
        return Finding("wrong", what, "SystemPropertiesPerformance")
    if windows and _NO_LIBRARY in error.upper():
        what = f"torch cannot be imported ({error}); it lacks Microsoft's C++ libraries"
        return Finding("wrong", what, "winget install Microsoft.VCRedist.2015+.x64")
    return Finding("wrong", f"torch cannot be imported: {error}", install(wheels_for(facts)))


def nvidia(facts: Facts) -> Iterator[Finding]:
    """Driver, build and kernels for NVIDIA's cards."""
    torch, cards = facts.torch, facts.nvidia
    if "nvidia" in facts.cards and not cards:
        yield Finding("wrong", "there is an NVIDIA card and no working driver for it", _driver(facts))
        return
    if not cards or torch.error is not None or torch.version is None:
        return
    if torch.cuda is None:
        built = "AMD's GPUs" if torch.hip else "CPUs"
        names = _names(cards)
        what = f"torch {torch.version} is built for {built}, so that {names} is not used: everything runs on the CPU"
        yield Finding("wrong", what, install(wheels_for(facts)))
        return
    yield from _cuda(facts, torch.cuda)
    yield from _card_memory(cards)


def _cuda(facts: Facts, cuda: str) -> Iterator[Finding]:
    torch, cards = facts.torch, facts.nvidia
    driver, needed = min(card.driver for card in cards), needed_driver(cuda)
    if driver < needed:
        what = (
            f"NVIDIA's driver {_dotted(driver)} is too old for torch {torch.version}, which was built for CUDA "
            f"{cuda} and needs {_dotted(needed)}"
        )
        wheels = wheels_for(facts)
        yield Finding("wrong", what, install(wheels) if wheels != "cpu" else _driver(facts))
    elif not torch.devices:
        what = (
            f"torch {torch.version} sees none of {_names(cards)}, though driver and build fit; CUDA_VISIBLE_DEVICES "
            "may hide it"
        )
        yield Finding("wrong", what, without_variable(facts, "CUDA_VISIBLE_DEVICES"))
    else:
        yield from _kernels(facts)


def _kernels(facts: Facts) -> Iterator[Finding]:
    """Whether torch has kernels for every card; an older one beside a card that works is only a note."""
    known = [own for own in facts.torch.architectures if own.startswith("sm_")]
    rated = {card: card.capability for card in facts.nvidia if card.capability is not None}
    works = {card: any(_runs_on(own, capability) for own in known) for card, capability in rated.items()}
    newest = max((capability for card, capability in rated.items() if works[card]), default=(0, 0))
    for card, capability in rated.items():
        if works[card] or not known:
            continue
        what = f"torch {facts.torch.version} has no kernels for {card.name} (sm_{capability[0]}{capability[1]})"
        if capability < newest:
            yield Finding("note", f"{what}: the newer card is used alone, as `--device cuda:0`")
        else:
            yield Finding("wrong", what, install(wheels_for(facts)))


def _runs_on(architecture: str, capability: tuple[int, int]) -> bool:
    """Whether kernels of ``sm_86`` run on a card: those of its own major version up to its minor one do."""
    major, minor = capability
    number = "".join(each for each in architecture.removeprefix("sm_") if each.isdigit())
    return int(number[:-1]) == major and int(number[-1]) <= minor


def _card_memory(cards: tuple[NvidiaCard, ...]) -> Iterator[Finding]:
    for card in cards:
        size, used = f"{card.memory / GIB:.0f} GiB", f"{card.used / GIB:.1f} GiB"
        if card.used > _CROWDED * card.memory:
            yield Finding(
                "note", f"other programs hold {used} of {card.name}'s {size}; close a WebUI that is not needed"
            )
        if card.memory < _SMALL_CARD:
            yield Finding("note", f"{card.name} has {size}: SD 1.5 fits, SDXL only with `--offload` and slowly")


def other_gpus(facts: Facts) -> Iterator[Finding]:
    """AMD's and Apple's GPUs, and Triton for those that CUDA runs on."""
    torch = facts.torch
    if torch.version is None or torch.error is not None:
        return
    if "amd" in facts.cards and "nvidia" not in facts.cards:
        yield from _amd(facts)
    if facts.system == "Darwin" and facts.processor == "arm64" and not torch.mps:
        yield Finding("wrong", f"torch {torch.version} does not see Apple's GPU", install(None))
    if torch.devices and torch.cuda and not torch.triton:
        package = "triton-windows" if facts.system == "Windows" else "triton"
        yield Finding(
            "note",
            "Triton is not installed: grids are drawn without fused kernels, somewhat slower",
            f"python -m pip install {package}",
        )


def _amd(facts: Facts) -> Iterator[Finding]:
    torch, linux = facts.torch, facts.system == "Linux"
    if torch.hip is None and linux:
        what = f"torch {torch.version} is not built for AMD's GPUs: everything runs on the CPU"
        yield Finding("wrong", what, install(ROCM))
    elif torch.hip is None:
        yield Finding(
            "note",
            "torch's own index has builds for AMD's GPUs for Linux alone: everything runs on the CPU, unless you use "
            "WSL or AMD's own wheels",
        )
    elif not torch.devices and linux:
        yield Finding(
            "wrong",
            f"torch {torch.version} is built for ROCm {torch.hip} and sees no GPU; usually this user may not open it "
            "(log in again after the command)",
            "sudo usermod -aG render,video $USER",
        )


def _driver(facts: Facts) -> str:
    """Where NVIDIA's driver comes from."""
    if facts.system == "Windows":
        return "winget install Nvidia.GeForceExperience"
    return f"sudo ubuntu-drivers install nvidia:{CUDA_13[0]}"


def _names(cards: tuple[NvidiaCard, ...]) -> str:
    return " and ".join(dict.fromkeys(card.name for card in cards))


def _dotted(number: Version) -> str:
    return ".".join(map(str, number))
