"""The LoRAs that a training step builds on: ``base_adapters`` and ``network_weights``, which may be earlier steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from loratools.recipe.plan.lora_refs import Terms, check_base, one_file, read_one, read_terms
from loratools.recipe.plan.planner import StepRequest
from loratools.recipe.plan.step import StepInput

if TYPE_CHECKING:
    from loratools.blocks.vector import Presets

KEYS = ("base_adapters", "network_weights")


@dataclass(frozen=True)
class BaseAdapters:
    """What a run builds on.

    Attributes:
        adapters: merge strings that are added to its base.
        start: the file whose weights its network starts from.
        presets: the named block vectors that ``adapters`` may use.
        family: of the base, or None where it is not known.
    """

    adapters: tuple[Terms, ...]
    start: Terms | None
    presets: Presets
    family: str | None

    @property
    def inputs(self) -> tuple[StepInput, ...]:
        """Everything that has to be there before the run."""
        return tuple(item for terms in self._all() for item in terms.inputs)

    def options(self) -> dict[str, Any]:
        """What determines the result beside the inputs' content; nothing where the step builds on nothing."""
        options: dict[str, Any] = {}
        if self.adapters:
            options["base_adapters"] = [terms.options(self.presets) for terms in self.adapters]
        if self.start is not None:
            options["network_weights"] = self.start.options(self.presets)
        return options

    def settings(self) -> dict[str, Any]:
        """Training's settings, with paths for names and numbers for the recipe's own vectors; the steps must have
        run."""
        settings: dict[str, Any] = {}
        if self.adapters:
            settings["base_adapters"] = tuple(self._text(terms) for terms in self.adapters)
        if self.start is not None:
            settings["network_weights"] = one_file(self.start)
        return settings

    def _text(self, terms: Terms) -> str:
        from loratools.blocks.parse import parse_vector

        texts = []
        for spec in terms.specs:
            vector = spec.vector_text and parse_vector(spec.vector_text, self.presets, self.family).text()
            texts.append(replace(spec, ref=str(terms.paths[spec.ref]), vector_text=vector).text())
        return ",".join(texts)

    def _all(self) -> tuple[Terms, ...]:
        return self.adapters if self.start is None else (*self.adapters, self.start)


def read_base_adapters(settings: Mapping[str, Any], request: StepRequest) -> BaseAdapters:
    """What the ``settings`` of a train or basestyle step build on.

    Raises:
        RecipeError: at the line, for what is no step and no file, or a LoRA of another family than the base's.
    """
    presets = request.presets()
    given = settings.get("base_adapters") or []
    texts = [given] if isinstance(given, str) else list(given)
    places: list[tuple[str | int, ...]] = [
        ("base_adapters",) if isinstance(given, str) else ("base_adapters", number) for number in range(len(texts))
    ]
    adapters = tuple(read_terms(str(text), request, presets, *place) for text, place in zip(texts, places, strict=True))
    weights = settings.get("network_weights")
    start = read_one(str(weights), request, "network_weights") if weights else None
    for terms, place in zip(adapters, places, strict=True):
        check_base(terms, request, *place)
    if start is not None:
        check_base(start, request, "network_weights")
    return BaseAdapters(adapters, start, presets, request.paths.base_family)
