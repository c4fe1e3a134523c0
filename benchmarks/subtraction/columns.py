"""The ways to subtract, as stacks that can be drawn."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loratools.adapter.files.file import Adapter
from loratools.blocks.parse import find_preset
from loratools.blocks.presets import load_presets
from loratools.ops.merging.combine import combine
from loratools.ops.merging.terms import Term
from loratools.ops.style_removal import Mode, StyleRemoval, SubtractMethod
from loratools.preview.plan.jobs import Stack, content_keys_of

BASE, WHOLE, WEAKER, GP1, GUIDE, GP2 = "base", "whole", "0.8", "GP1", "GP1, -1:GP2", "-1:GP2"
ADDED, DIRECT, TUNED = "+1:GP2", "-1", "tuned amount"
MODES: tuple[Mode, ...] = ("matched", "project", "soft")
AMOUNTS = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)  # times GP2, of which the tuned one is the best

_TRIED = ", ".join(f"{amount:g}" for amount in AMOUNTS)
SAYS = {
    BASE: "no LoRA",
    WHOLE: "`style:1`, which the others are compared with",
    WEAKER: "`style:0.8`: plain strength, as a control",
    GP1: "`style:1:GP1`: the guide's vector without any subtraction",
    GUIDE: "`style:1:GP1, base:-1:GP2`: the guide's merge",
    GP2: "`style:1, base:-1:GP2`: its subtraction alone",
    ADDED: "`style:1, base:1:GP2`: what a tool that squares weights makes of it",
    DIRECT: "`style:1, base:-1`: all of the base's LoRA",
    "matched": "`subtract --mode matched`",
    "project": "`subtract --mode project`",
    "soft": "`subtract --mode soft`",
    TUNED: f"`style:1, base:-A:GP2`, A the best of {_TRIED} on other prompts and seeds",
}


@dataclass(frozen=True, eq=False)
class Pair:
    """A style LoRA and the base's own."""

    style: Adapter
    base: Adapter

    def stacks(self) -> dict[str, Stack]:
        """Every column but the tuned one, which needs an amount."""
        presets = load_presets()
        gp1, gp2 = (find_preset(name, presets, "sd1") for name in ("GP1", "GP2"))
        style, base = Term(self.style, label="style"), Term(self.base, label="base")
        sums: dict[str, Sequence[Term]] = {
            WHOLE: [style],
            WEAKER: [Term(self.style, 0.8)],
            GP1: [Term(self.style, 1.0, gp1)],
            GUIDE: [Term(self.style, 1.0, gp1), Term(self.base, -1.0, gp2)],
            GP2: [style, Term(self.base, -1.0, gp2)],
            ADDED: [style, Term(self.base, 1.0, gp2)],
            DIRECT: [style, Term(self.base, -1.0)],
        }
        stacks = {BASE: Stack(), **{name: _stack(name, terms) for name, terms in sums.items()}}
        for mode in MODES:
            removal = StyleRemoval(combine([style]), combine([base]), SubtractMethod(mode), [base])
            stacks[mode] = Stack({name: removal[name] for name in removal}, 1.0, mode)
        return stacks

    def amount(self, amount: float) -> Stack:
        """``style:1, base:-amount:GP2``."""
        gp2 = find_preset("GP2", load_presets(), "sd1")
        return _stack(f"amount {amount:g}", [Term(self.style), Term(self.base, -amount, gp2)])


def _stack(name: str, terms: Sequence[Term]) -> Stack:
    summed = combine(terms)
    return Stack(summed, 1.0, name, content_keys_of(summed))
