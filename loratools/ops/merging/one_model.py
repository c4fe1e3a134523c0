"""Whether LoRA files are for one model, as far as names, shapes and headers tell, and what is said if not."""

from __future__ import annotations

from collections.abc import Sequence

from loratools.adapter.architectures.header_words import may_be_same
from loratools.adapter.architectures.names import UNKNOWN
from loratools.adapter.files.base_facts import StatedBase, disagreement, disagreement_message
from loratools.adapter.files.file import Adapter
from loratools.errors import FormatError
from loratools.ops.merging.one_spelling import spelling_note


def read_alike(adapters: Sequence[Adapter], family: str | None = None) -> list[Adapter]:
    """The adapters, in their order, with their modules named by one family's table where all can be read by it.

    Args:
        family: the family of the model that they are meant to change, where it is known.
    """
    families = {adapter.family for adapter in adapters}
    if len(families) == 1 and family in (None, *families):
        return list(adapters)
    choices = [*([family] if family else []), *sorted(families - {UNKNOWN.name}), UNKNOWN.name]
    common = next((name for name in choices if all(name in a.identity.readable for a in adapters)), None)
    if common is None:
        return list(adapters)
    return [adapter if adapter.family == common else adapter.read_as(common) for adapter in adapters]


def check_models(adapters: Sequence[Adapter]) -> None:
    """Raise FormatError if two files are for models that are known to be different ones."""
    known = [adapter for adapter in adapters if adapter.identity.model]
    for adapter in known:
        first, second = known[0].identity, adapter.identity
        if not may_be_same(first.model, second.model):
            raise FormatError(
                f"{known[0].path} is for {first.title} and {adapter.path} for {second.title}; LoRAs of different "
                "model families cannot be merged"
            )


def warnings_of(adapters: Sequence[Adapter]) -> tuple[str, ...]:
    """What a merge of these files should say beside its result: one sentence each."""
    files = list({adapter.path: adapter for adapter in adapters}.values())
    if len(files) < 2:
        return ()
    warnings = []
    uncertain = [adapter for adapter in files if adapter.identity.uncertain]
    if uncertain:
        names = ", ".join(adapter.path.name for adapter in uncertain)
        warnings.append(
            f"{names} could be for {uncertain[0].identity.title}: neither names, shapes nor header tell Flux.1 from "
            "Chroma, Flux.2 and others here; the sum means something only if all files are for one model"
        )
    if several := [adapter for adapter in files if adapter.identity.several]:
        names = ", ".join(adapter.path.name for adapter in several)
        warnings.append(
            f"{names} could be for {several[0].identity.title}, whose names and shapes are the same here, and no "
            "header says which; the sum means something only if all files are for one model"
        )
    if note := spelling_note(files):
        warnings.append(note)
    differing = disagreement([StatedBase.of(adapter.path.name, adapter.metadata) for adapter in files])
    if differing:
        warnings.append(disagreement_message(differing))
    return tuple(warnings)
