"""The LoRAs that a training step builds on: ``base_adapters`` and ``network_weights``, which may be earlier steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from loratools.recipe.plan.lora_refs import Terms, check_base, one_file, read_one, read_terms
from loratools.recipe.plan.planner import Planner
from loratools.recipe.plan.step import StepInput

if TYPE_CHECKING:
    from loratools.blocks.vector import Presets

KEYS = ("base_adapters", "network_weights")


@dataclass(frozen=True)
class BaseAdapters:
    """What a run stands on: merge terms that are part of its base, and a file that it starts from."""

    adapters: tuple[Terms, ...]
    start: Terms | None
    presets: Presets

    @property
    def inputs(self) -> tuple[StepInput, ...]:
        """Everything that has to be there before the run."""
        return tuple(source for terms in self._all() for source in terms.inputs)

    def options(self) -> dict[str, Any]:
        """What determines the result beside the sources' content; nothing where the step builds on nothing."""
        found: dict[str, Any] = {}
        if self.adapters:
            found["base_adapters"] = [terms.options(self.presets) for terms in self.adapters]
        if self.start is not None:
            found["network_weights"] = self.start.options(self.presets)
        return found

    def settings(self, family: str | None) -> dict[str, Any]:
        """The settings with places on disk for names, and numbers for the recipe's own vectors; steps must have run."""
        found: dict[str, Any] = {}
        if self.adapters:
            found["base_adapters"] = tuple(self._text(terms, family) for terms in self.adapters)
        if self.start is not None:
            found["network_weights"] = one_file(self.start)
        return found

    def _text(self, terms: Terms, family: str | None) -> str:
        from loratools.blocks.parse import parse_vector

        told = []
        for spec in terms.specs:
            vector = spec.vector_text and parse_vector(spec.vector_text, self.presets, family).text()
            told.append(replace(spec, ref=str(terms.places[spec.ref]), vector_text=vector).text())
        return ",".join(told)

    def _all(self) -> tuple[Terms, ...]:
        return self.adapters if self.start is None else (*self.adapters, self.start)


def read_base_adapters(body: Mapping[str, Any], name: str, kind: str, planner: Planner) -> BaseAdapters:
    """What the settings ``body`` of the step ``name``, a train or basestyle, build on.

    Raises:
        RecipeError: naming the line, for what is no step and no file, or a LoRA of another family than the base's.
    """
    presets = planner.paths.presets()
    given = body.get("base_adapters") or []
    texts = [given] if isinstance(given, str) else list(given)
    whole: tuple[str | int, ...] = (kind, "base_adapters")
    places = [whole if isinstance(given, str) else (*whole, number) for number in range(len(texts))]
    adapters = tuple(
        read_terms(str(text), name, planner, presets, *place) for text, place in zip(texts, places, strict=True)
    )
    start = body.get("network_weights")
    begun = read_one(str(start), name, planner, kind, "network_weights") if start else None
    for terms, place in zip(adapters, places, strict=True):
        check_base(terms, planner, name, *place)
    if begun is not None:
        check_base(begun, planner, name, kind, "network_weights")
    return BaseAdapters(adapters, begun, presets)
