"""All that is settled before a tune draws its first picture; a dry run ends here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from loratools.base.model import Base, LoadedBase
from loratools.base.patching.patch import Patcher
from loratools.base.prompt.prompt_encoding import check_texts
from loratools.errors import TuneError
from loratools.measures.build import check_base, check_measures
from loratools.measures.pictures import images_in
from loratools.measures.request import asks_for_marks
from loratools.measures.sources import digest_of_sources
from loratools.ops.merging.merge import term_facts
from loratools.ops.merging.terms import Term
from loratools.preview.plan.plan import settings_on
from loratools.preview.record.cells import SamplingSettings
from loratools.preview.request.setting import CellSetting
from loratools.tune.drawing import coarse_settings
from loratools.tune.problem.counts import PictureCounts
from loratools.tune.problem.guide import column_count
from loratools.tune.problem.method import Choice, choose_method
from loratools.tune.problem.prompts import Split, exclusive_tags, prompts_from_header, split_prompts
from loratools.tune.problem.request import TuneRequest
from loratools.tune.problem.space import Space
from loratools.tune.problem.then import pictures_of
from loratools.tune.then.training import check_trainable


@dataclass(frozen=True, eq=False)
class TunePlan:
    """One tune, checked.

    Attributes:
        base: what pictures are drawn on; for a dry run without its weights.
        choice: what leads the search, and what it moves.
        fine: how the report's pictures are sampled, and ``coarse`` those of the search.
    """

    base: LoadedBase
    request: TuneRequest
    choice: Choice
    space: Space
    shots: Split
    fine: SamplingSettings
    coarse: SamplingSettings

    @property
    def trained(self) -> Base | None:
        """The base where it can be trained on, and its UNet sees pictures; else None."""
        return self.base if isinstance(self.base, Base) else None

    @property
    def weight(self) -> int:
        """Search pictures that one of the report costs."""
        return max(1, round(self.fine.steps / self.coarse.steps))

    @property
    def columns(self) -> int:
        """Of the report."""
        return column_count(self.space, self.request.symptoms)

    @property
    def counts(self) -> PictureCounts:
        """Pictures of the search and of the report."""
        return PictureCounts.of(
            self.request, self.shots, columns=self.columns, weight=self.weight, by_gradient=self.choice.gradient
        )

    @property
    def later(self) -> tuple[int, ...]:
        """What each way that follows costs, in search pictures, about."""
        pool, report = len(self.shots.search), self.weight * len(self.shots.held_out)
        return tuple(pictures_of(way, self.request.effort, pool, report) for way in self.request.then)

    @cached_property
    def key(self) -> str:
        """sha256 over all that decides what is drawn and chosen."""
        request, space = self.request, self.space
        sources = digest_of_sources(request.measures, request.training)
        content = {
            "terms": [term_facts(term) for term in space.terms],
            **({} if space.earlier is None else {"earlier": term_facts(space.earlier)}),
            "request": request.facts(),
            **({"sources": sources} if sources else {}),
            "base": self.base.drawn_by,
            "shots": repr(self.shots),
            "settings": repr((self.fine, self.coarse)),
        }
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def plan_tune(
    base: LoadedBase, terms: Sequence[Term], request: TuneRequest, earlier: Term | None = None, *, loaded: bool = True
) -> TunePlan:
    """What the tune of ``terms`` on ``base`` will do; arguments as for :func:`loratools.tune.tuning.tune`.

    Args:
        loaded: the base has its weights, which a dry run's has not.
    Raises:
        LoratoolsError: for all that shows before a picture is drawn.
    """
    check_base(request.measures, base)
    _check_sources(request, base)
    trains = isinstance(base, Base)  # it can be trained on, and its UNet sees pictures
    choice = choose_method(request, terms, earlier, unet=trains)
    space = Space.of(terms, amount=request.amount, earlier=earlier, weights=request.weights, kinds=choice.kinds)
    if request.then and not trains:
        raise TuneError(
            f"what follows a search trains, on SD 1.x, SD 2.x and SDXL alone, and {base.name} is none of them; leave "
            "`then` out"
        )
    if request.then:
        check_trainable([*terms, *([] if earlier is None else [earlier])])
    shots = shots_of(space, request, base)
    fine = settings_on(base, CellSetting.of_sampling(request.sampling))
    plan = TunePlan(base, request, choice, space, shots, fine, coarse_settings(fine, request.effort.steps))
    Patcher(base).check(space.stacks([space.start])[0].deltas, loaded=loaded)
    _check_texts(base, [fine.negative, *(shot.prompt for shot in (*shots.search, *shots.fresh, *shots.held_out))])
    return plan


def shots_of(space: Space, request: TuneRequest, base: LoadedBase | None = None) -> Split:
    """The pictures of the search and of the report.

    Raises:
        PromptError: if there are too few prompts, or none and nothing to make them of.
    """
    prompts: Sequence[str] = request.prompts
    if not prompts:
        apart = exclusive_tags("" if base is None else base.name)
        prompts = prompts_from_header(space.terms[space.tuned].adapter.metadata, request.seed, apart=apart)
    return split_prompts(prompts, request.seeds, request.effort, request.seed)


def _check_sources(request: TuneRequest, base: LoadedBase) -> None:
    """Raise before anything is drawn for measures and folders that cannot be used; see :func:`check_measures`."""
    if not asks_for_marks(request.measures):  # whose other marks are checked with those that a person gives
        check_measures(request.measures, base.name)
    if request.training is not None:
        images_in(request.training)


def _check_texts(base: LoadedBase, prompts: Sequence[str]) -> None:
    """Raise PromptError for a prompt that the base cannot be given."""
    own = list(dict.fromkeys(prompts))
    if isinstance(base, Base):
        check_texts(own)
    for prompt in own:
        base.check_prompt(prompt)
