"""Merge strings such as ``A:1:GP1,B:-1:GP2``, from text to opened files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from loratools.library.options import OneOrMore, PresetSource, StrPath, base_weights, key_rules, several

if TYPE_CHECKING:
    from loratools.adapter.files.lora_file import KeyRules
    from loratools.ops.merging.merge_string import TermSpec
    from loratools.ops.merging.terms import Term


@dataclass(frozen=True)
class TermReading:
    """How the names and the block vectors in a merge string are read.

    Args:
        lora_dirs: folders in which names are looked for, before the current folder.
        presets: named block vectors over the shipped ones: a file, or name -> numbers.
        missing: weight of the modules in blocks that a short vector does not list; None makes them an error.
        base: the base model, on whose weights the differences of a DoRA depend.
        allow_unknown: carry keys that no table knows through untouched, instead of refusing the file.
        drop: names or patterns of tensors that are read as if they were not there.
    """

    lora_dirs: OneOrMore = ()
    presets: PresetSource | None = None
    missing: float | None = None
    base: StrPath | None = None
    allow_unknown: bool = False
    drop: OneOrMore = ()

    @property
    def keys(self) -> KeyRules:
        """What is done about keys that no table knows."""
        return key_rules(self.allow_unknown, self.drop)

    def terms(self, text: str) -> list[Term]:
        """The terms of a merge string, their files opened.

        Raises:
            LoratoolsError: for text that is no merge string, a file that is none, or a vector that does not fit.
        """
        from loratools.ops.merging.merge_string import typed_merge_string

        return self.resolved(typed_merge_string(text))

    def resolved(self, specs: Sequence[TermSpec]) -> list[Term]:
        """As :meth:`terms`, of a merge string that is parsed."""
        from loratools.blocks.presets import load_presets
        from loratools.ops.merging.terms import resolve_terms
        from loratools.train.output.epoch_report import best_epoch
        from loratools.train.output.recorded_verdict import stale_note

        return resolve_terms(
            specs,
            lora_dirs=several(self.lora_dirs),
            presets=load_presets(self.presets),
            missing=None if self.missing is None else float(self.missing),
            best=best_epoch,
            best_note=stale_note,
            keys=self.keys,
            base=base_weights(self.base),
        )


def short_terms(text: str) -> str:
    """A merge string without folders.

    It goes into the name of a result's owner, so that the same merge may overwrite it after its files were moved.
    """
    from loratools.ops.merging.merge_string import typed_merge_string

    return ",".join(replace(spec, ref=Path(spec.ref).name).text() for spec in typed_merge_string(text))
