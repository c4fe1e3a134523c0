"""``grid``: every row at every weight beside the base alone, as pictures, a labelled sheet and a page."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loratools.errors import LoratoolsError, RecipeError
from loratools.recipe.kinds import Grid
from loratools.recipe.plan import Draft, Outcome, Planner, Source
from loratools.recipe.references import Terms, best_epoch, check_base, read_terms
from loratools.recipe.rows import build_rows, read_prompts
from loratools.recipe.schema import Step
from loratools.recipe.session import Session, shipped_judge

if TYPE_CHECKING:
    from loratools.base.model import Base

REVISION = 1


def default_out(name: str) -> Path:
    """A folder."""
    return Path(name)


def draft(name: str, step: Step, planner: Planner) -> Draft:
    """Read rows, weights, prompts, seeds and size, and find what the rows name."""
    settings = step.options(Grid)
    presets = planner.presets()
    rows = [read_terms(text, name, planner, presets, "grid", "rows", i) for i, text in enumerate(settings.rows)]
    axes = read_axes(name, settings, planner)
    options = {
        **settings.model_dump(exclude={"weights", "seeds", "size", "prompts", "rows", "sampler"}),
        **axes,
        "rows": [[text, terms.options(presets)] for text, terms in zip(settings.rows, rows, strict=True)],
    }
    if settings.judge is not None:
        _check_style(settings.judge, planner, name)
    vae = planner.vae()
    sources: list[Source] = [planner.base_source(), *([vae] if vae else [])]
    for index, terms in enumerate(rows):
        check_base(terms, planner, name, "grid", "rows", index)
        sources += terms.sources
    return Draft(options, tuple(sources), lambda out, session: _make(out, session, settings, axes, rows, name, planner),
                 in_place=True, check=lambda session: _check_judge(name, settings, planner, session),
                 units=_pictures(rows, axes, planner) * (settings.steps or 20))  # fmt: skip


def _pictures(rows: Sequence[Terms], axes: dict[str, Any], planner: Planner) -> int:
    """About how many pictures there will be: a bare run is a row for each of its epochs."""
    count = 0
    for terms in rows:
        step = terms.sources[0].step
        bare = len(terms.specs) == 1 and terms.specs[0].epoch is None and step is not None
        count += (planner.step(step).draft.epochs or 1) if bare and step else 1
    weights = [weight for weight in axes["weights"] if weight != 0]
    return (count * len(weights) + 1) * len(axes["prompts"]) * len(axes["seeds"])


def read_axes(name: str, settings: Grid, planner: Planner) -> dict[str, Any]:
    """The axes and the sampler by value; each mistake is told with its own line."""
    from loratools.base.samplers import find_sampler
    from loratools.preview.cells import parse_seeds, parse_size, parse_weights

    readers: dict[str, Callable[[], Any]] = {
        "weights": lambda: list(parse_weights(settings.weights)),
        "seeds": lambda: list(parse_seeds(settings.seeds or str(planner.recipe.seed))),
        "size": lambda: list(parse_size(settings.size)) if settings.size else None,
        "prompts": lambda: read_prompts(settings.prompts, planner.find),
        "sampler": lambda: find_sampler(settings.sampler).name if settings.sampler else None,
    }
    found: dict[str, Any] = {}
    for key, reader in readers.items():
        try:
            found[key] = reader()
        except LoratoolsError as error:
            raise planner.fail(name, "grid", key, message=str(error)) from error
    return found


def _check_judge(name: str, settings: Grid, planner: Planner, session: Session) -> None:
    if settings.judge is not None and planner.base != "pocket" and session.judge is shipped_judge:
        told = "the judge reads pictures of the pocket base only; remove `judge` for other bases"
        raise planner.fail(name, "grid", "judge", message=told)


def _check_style(style: str, planner: Planner, name: str) -> None:
    from loratools.recipe.steps.draw import check_style

    check_style(style, planner, name, "grid", "judge")


def _make(out: Path, session: Session, settings: Grid, axes: dict[str, Any], rows: list[Terms], name: str,
          planner: Planner) -> Outcome:  # fmt: skip
    from loratools.base.load import load_base
    from loratools.preview.render import render_grid

    places = {ref: path for terms in rows for ref, path in terms.places.items()}
    built = build_rows(settings.rows, lambda ref: places[ref], presets=planner.presets(), missing=settings.missing,
                       best=best_epoch)  # fmt: skip
    base = load_base(planner.base, device=session.device, dtype=settings.dtype)
    if (vae := planner.vae()) is not None:
        base.vae = load_vae(vae.path, base)
    result = render_grid(
        base, built, axes["weights"], axes["prompts"], out=out, negative=settings.negative, seeds=axes["seeds"],
        steps=settings.steps, cfg=settings.cfg, sampler=axes["sampler"],
        size=tuple(axes["size"]) if axes["size"] else None, clip_skip=settings.clip_skip or 1,
        batch_size=settings.batch_size or 8, progress=session.progress, owner=planner.owner(name),
        force=session.force,
    )  # fmt: skip
    facts: dict[str, Any] = {"rows": [row.label for row in built], "rendered": result.rendered, "png": str(result.png)}
    if settings.judge is not None:
        from loratools.recipe.score import score_grid

        facts["scores"] = score_grid(out, settings.judge, session.judge).json()
    pictures = result.rendered + result.reused
    return Outcome(f"{len(built)} rows, {pictures} pictures, {result.rendered} of them rendered now", facts)


def load_vae(folder: Path, base: Base) -> Any:
    """A Diffusers VAE on the base's device and in its VAE's dtype.

    Raises:
        RecipeError: if its latents have another depth than the base's.
    """
    from diffusers import AutoencoderKL

    weight = next(base.vae.parameters())
    vae = AutoencoderKL.from_pretrained(folder, torch_dtype=weight.dtype).to(weight.device).eval().requires_grad_(False)
    if vae.config.latent_channels != base.vae.config.latent_channels:
        raise RecipeError(f"the VAE {folder} has latents of {vae.config.latent_channels} channels, and the base's have "
                          f"{base.vae.config.latent_channels}; take a VAE of the base's family")  # fmt: skip
    return vae
