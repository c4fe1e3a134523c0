"""``balance``: classes of pictures in ``N_name`` folders, shown as often as a guide's rules ask for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from loratools.recipe.plan.context import RunContext, bar
from loratools.recipe.plan.planner import StepRequest
from loratools.recipe.plan.step import Draft, Outcome, StepInput
from loratools.recipe.schema.fields import Above, Count, Strict
from loratools.recipe.schema.kinds import StepKind, UnitCost
from loratools.recipe.steps.dataset.source import pictures_input, units_of

if TYPE_CHECKING:
    from loratools.dataset.balance.plan import BalanceRequest


class BalanceOptions(Strict):
    """How often each class is shown: main pictures, faces, variants and others, by folders such as `10_main`."""

    images: str = Field(description="a folder of numbered folders, or the step that makes one")
    rule: Literal["guide-004", "guide-003"] = Field("guide-004", description="4 to 1 and a sum, or steps and epochs")
    mirrored: bool = Field(False, description="training shows mirrored copies too: the sum's factor is 2, not 4")
    factor: Above | None = Field(None, description="another factor of guide 004's sum")
    steps: Count = Field(3000, description="of guide-003")
    epochs: Count = Field(10, description="of guide-003")
    others: Literal["fewest", "even"] = Field("fewest", description="the rest: seldom, or each as often as a main one")
    kinds: Annotated[dict[str, Literal["main", "face", "variants", "other"]], Field()] = Field(
        default_factory=dict, description="what classes are, where their names do not say it: {portraits: face}"
    )


KIND = StepKind(
    "balance", BalanceOptions, "pictures", computes=False, made_for="train", guess=UnitCost(seconds=0.005, size=500_000)
)


def draft(request: StepRequest) -> Draft:
    """Check the options; the plan is found when the pictures are there."""
    options = request.options(BalanceOptions)
    source = pictures_input(request, options.images, "images")
    resolved = options.model_dump(mode="json", exclude={"images"}, exclude_defaults=True)
    return Draft(resolved, (source,), BalanceStep(request.owner, source, options).make, units=units_of(request, source))


@dataclass(frozen=True)
class BalanceStep:
    """Pictures to be balanced."""

    owner: str
    source: StepInput
    options: BalanceOptions

    def make(self, out: Path, context: RunContext) -> Outcome:
        """Write the balanced folders into the folder ``out``."""
        from loratools.dataset.balance.plan import balance
        from loratools.dataset.balance.write import write_folders
        from loratools.dataset.tags.store import DatasetFolder

        folder = DatasetFolder.open(self.source.path)
        plan = balance(folder, self._request())
        total = sum(len(each.filled()) for each in plan.classes)
        with bar(context, "balancing", total) as advance:

            def copied(done: int, total: int) -> None:
                advance(1)

            write_folders(folder, plan, out, force=context.force, owner=self.owner, on_progress=copied)
        repeats = ", ".join(f"{name} x {times}" for name, times in plan.repeats().items())
        broken = f"; but {'; '.join(plan.best.broken)}" if plan.best.broken else ""
        return Outcome(f"{repeats}: {plan.best.count} an epoch{broken}", plan.json())

    def _request(self) -> BalanceRequest:
        from loratools.dataset.balance.plan import BalanceRequest

        options = self.options
        return BalanceRequest(
            options.rule,
            options.mirrored,
            options.factor,
            options.steps,
            options.epochs,
            dict(options.kinds),
            others=options.others,
        )
