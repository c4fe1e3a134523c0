"""What ``blocks tune`` is asked for, and what it reads by that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from loratools.cli.app import fail_usage

if TYPE_CHECKING:
    from loratools.library.terms import TermReading
    from loratools.ops.merging.terms import Term
    from loratools.tune.problem.request import TuneRequest


@dataclass(frozen=True)
class TuneFlags:
    """What ``blocks tune`` is asked for, by the names of its options."""

    what: str
    base: str | None
    symptom: tuple[str, ...]
    out: str
    measure: tuple[str, ...]
    prompts: tuple[str, ...]
    seeds: str | None
    keep: float
    lowest: float | None
    highest: float | None
    method: str
    parts: str
    amount: bool
    epochs_by_block: str | None
    budget: str | None
    quick: bool
    then: tuple[str, ...]
    merge: str | None
    training: str | None
    votes: str | None
    terminal: bool
    negative: str | None
    steps: int | None
    cfg: float | None
    sampler: str | None
    frames: int | None
    size: str | None
    batch_size: int
    search_seed: int
    lora_dirs: tuple[str, ...]
    presets: str | None
    missing: str | None
    allow_unknown: bool
    drop: tuple[str, ...]
    processes: str | None
    launch: str | None
    device: str
    dtype: str | None
    dry_run: bool
    as_json: bool
    force: bool

    @property
    def is_recipe(self) -> bool:
        """Whether a recipe's merge is tuned, and no file."""
        return self.what.lower().endswith((".yaml", ".yml"))


def request_of(flags: TuneFlags) -> TuneRequest:
    """What is to be repaired, and how.

    Raises:
        LoratoolsError: for what makes no sense.
    """
    from loratools.library.tune_options import TuneOptions
    from loratools.measures.request import parse_measures
    from loratools.preview.request.numbers import parse_seeds, parse_size
    from loratools.preview.request.request import SamplingRequest
    from loratools.tune.problem.request import parse_duration
    from loratools.tune.problem.weight_range import HIGHEST, LOWEST

    size = parse_size(flags.size) if flags.size else None
    options = TuneOptions(
        seeds=parse_seeds(flags.seeds) if flags.seeds else (),
        keep=flags.keep,
        lowest=LOWEST if flags.lowest is None else flags.lowest,
        highest=HIGHEST if flags.highest is None else flags.highest,
        method=flags.method,
        parts=flags.parts,
        amount=flags.amount,
        quick=flags.quick,
        budget=None if flags.budget is None else parse_duration(flags.budget),
        then=flags.then,
        seed=flags.search_seed,
        training=flags.training,
        batch=flags.batch_size,
    )
    sampling = SamplingRequest(flags.negative, flags.steps, flags.cfg, flags.sampler, size, frames=flags.frames)
    return options.request(flags.symptom, flags.prompts, parse_measures(flags.measure), sampling)


def base_of(flags: TuneFlags) -> str:
    """The base of a file's pictures; exits where none is given, or an option that a recipe alone has."""
    if flags.base is None:
        fail_usage("which base are the pictures drawn with? give --base, such as --base pocket")
    if flags.merge:
        fail_usage("--merge goes with a recipe")
    return flags.base


def owner_of(flags: TuneFlags) -> str:
    """Who writes the files of a tune that is of no recipe."""
    from loratools.library.terms import short_terms
    from loratools.tune.tuning import OWNER

    return f"{OWNER} {short_terms(flags.what)}"


def read_terms(flags: TuneFlags) -> tuple[list[Term], Term | None]:
    """The stack, and the earlier epoch of its tuned LoRA, if one is asked for.

    Raises:
        LoratoolsError: for a file that cannot be read, or a run that lacks the epoch.
    """
    from loratools.library.terms import TermReading

    missing = None if flags.missing is None else float(flags.missing)
    reading = TermReading(flags.lora_dirs, flags.presets, missing, allow_unknown=flags.allow_unknown, drop=flags.drop)
    terms = reading.terms(flags.what)
    return terms, _earlier(flags, reading) if flags.epochs_by_block else None


def _earlier(flags: TuneFlags, reading: TermReading) -> Term:
    """The earlier epoch that ``--epochs-by-block`` names, of the run whose blocks are tuned."""
    from loratools.library.tuning import earlier_epoch

    if not str(flags.epochs_by_block).isdecimal():
        fail_usage("--epochs-by-block takes the number of an epoch of the run whose blocks are tuned, such as 4")
    return earlier_epoch(flags.what, int(str(flags.epochs_by_block)), reading)


def check_recipe_flags(flags: TuneFlags) -> None:
    """Exit for an option that does not go with a recipe."""
    if flags.lora_dirs or flags.presets or flags.missing:
        fail_usage("--lora-dir, --presets and --missing stand in the recipe itself")
    if flags.allow_unknown or flags.drop:
        fail_usage("--allow-unknown and --drop go with a file; a recipe's merge reads its LoRAs strictly")
    if flags.then:
        fail_usage(
            "--then trains, and no number of a recipe's vector can hold what was learnt; give the LoRA itself, or a "
            "`tune` step with `then:` in the recipe"
        )
    if flags.epochs_by_block:
        fail_usage("--epochs-by-block goes with a run; a recipe's merge has no place for a second epoch of each block")
