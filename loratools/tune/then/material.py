"""What a LoRA is drawn with to be learnt from: prompts like its captions, and its training pictures where they are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from loratools.adapter.files.epoch_files import Epoch
from loratools.adapter.files.file import Adapter
from loratools.errors import PromptError
from loratools.tune.epochs.evaluation_set import CaptionedPicture, pictures_of_folders, pictures_of_run
from loratools.tune.problem.prompts import Shot, Split, exclusive_tags, prompts_from_header
from loratools.tune.problem.request import TuneRequest
from loratools.tune.problem.space import Space

_APART = 1000  # seeds of candidates begin so far above those of the search and the report


@dataclass(frozen=True)
class Material:
    """Prompts that the report does not have, and the LoRA's own training pictures (none where they are not known)."""

    prompts: tuple[str, ...]
    taught: tuple[CaptionedPicture, ...]

    def shots(self, count: int, split: Split, number: int, turn: int = 0) -> tuple[Shot, ...]:
        """``count`` shots or a few less, every prompt with as many seeds, none of which any other picture has.

        Args:
            number: of the answer whose pictures they are, and ``turn`` of the round: each has seeds of its own.
        """
        seeds = max(1, count // len(self.prompts))
        first = max(shot.seed for shot in (*split.search, *split.held_out)) + _APART * number + seeds * turn
        return tuple(Shot(prompt, seed) for prompt, seed in product(self.prompts, range(first, first + seeds)))


def material_of(space: Space, request: TuneRequest, split: Split, base_name: str, count: int) -> Material:
    """Prompts for candidates, and training pictures.

    Prompts are made of the tags in the LoRA's header, as captions have them; where it has none they are the training
    pictures' captions, else the search's own prompts. No prompt of the report is among them.

    Args:
        count: of prompts, at most.
    """
    adapter = space.terms[space.tuned].adapter
    taught = _taught(adapter, request)
    held_out = {shot.prompt for shot in split.held_out}
    sources = (
        _made(adapter, request, base_name, count + len(held_out)),
        [own.prompt for own in taught],
        [shot.prompt for shot in split.search],
    )
    for prompts in sources:
        own = [prompt for prompt in dict.fromkeys(prompts) if prompt and prompt not in held_out]
        if len(own) > 1:
            return Material(tuple(own[:count]), tuple(taught))
    return Material(tuple(dict.fromkeys(shot.prompt for shot in split.search)), tuple(taught))


def _made(adapter: Adapter, request: TuneRequest, base_name: str, count: int) -> Sequence[str]:
    try:
        made = prompts_from_header(
            adapter.metadata, request.seed + _APART, apart=exclusive_tags(base_name), count=count
        )
    except PromptError:
        return ()
    return made


def _taught(adapter: Adapter, request: TuneRequest) -> list[CaptionedPicture]:
    if request.training is not None:
        return pictures_of_folders([request.training], "training")
    return pictures_of_run(Epoch(0, adapter.path), [])[0]
