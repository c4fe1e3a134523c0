"""A machine and its findings, for a person."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from loratools.doctor.facts import Facts
from loratools.doctor.finding import GIB, Finding

_WIDTH = 100


def lines(facts: Facts, found: Sequence[Finding]) -> Iterator[str]:
    """What this machine is, then what is wrong, then what is worth knowing."""
    yield from _about(facts)
    for level, title in (("wrong", "Wrong:"), ("note", "Worth knowing:")):
        own = [finding for finding in found if finding.level == level]
        if own:
            yield ""
            yield title
        for finding in own:
            yield from _wrapped(finding.what)
            if finding.command:
                yield f"      {finding.command}"
    yield ""
    wrong = sum(finding.level == "wrong" for finding in found)
    yield f"{wrong} thing{'s' * (wrong != 1)} to mend" if wrong else "nothing is wrong here"


def _about(facts: Facts) -> Iterator[str]:
    torch = facts.torch
    build = f"for CUDA {torch.cuda}" if torch.cuda else f"for ROCm {torch.hip}" if torch.hip else "for CPUs"
    version = (
        f"{torch.version or 'missing'}, {build}" if torch.version and not torch.error else torch.version or "missing"
    )
    cards = [
        f"{card.name}, {card.memory / GIB:.0f} GiB, driver {'.'.join(map(str, card.driver))}" for card in facts.nvidia
    ]
    others = sorted(facts.cards - {"nvidia"})
    used = ", ".join(torch.devices) or ("Apple's GPU" if torch.mps else "the CPU")
    rows = {
        "loratools": facts.loratools,
        "system": f"{facts.system}, {facts.processor}, Python {'.'.join(map(str, facts.python))}",
        "graphics": "; ".join([*cards, *others]) or "none found",
        "torch": version,
        "runs on": used,
        "memory": f"{facts.memory[0] / GIB:.0f} GiB, {facts.memory[1] / GIB:.0f} free"
        if facts.memory[0]
        else "unknown",
        "disk": "; ".join(f"{own.free / GIB:.0f} GiB free for {own.use}" for own in facts.folders if not own.error),
    }
    for name, text in rows.items():
        yield f"{name:<10} {text}"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(f"- {text}", _WIDTH, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False)
