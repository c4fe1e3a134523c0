"""``loratools dataset tag``"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import click

from loratools.cli.app import Command, flag_speller
from loratools.cli.options import as_object, device_option, json_option, print_report

if TYPE_CHECKING:
    from loratools.dataset.tagging.tag_folder import TagRequest

_PLACES = click.Choice(["first", "last", "none"])


@dataclass(frozen=True)
class TagFlags:
    """What ``dataset tag`` is asked for, by the names of its options."""

    folder: str
    tagger: str | None
    labels: str | None
    threshold: str | None
    character_threshold: str | None
    characters: Literal["first", "last", "none"]
    rating: Literal["first", "last", "none"]
    order: Literal["score", "model"]
    exclude: str
    existing: Literal["keep", "append", "replace"]
    captioner: str | None
    sentence: Literal["after", "instead"]
    timeout: float
    batch_size: int | None
    offline: bool
    dry_run: bool
    device: str
    as_json: bool


@click.command("tag", cls=Command)
@click.argument("folder", type=click.Path())
@click.option("--tagger", metavar="FILE|HUB-ID", help="An .onnx file, its folder, or a hub id; needed once.")
@click.option("--labels", type=click.Path(), help="The tagger's list of tags, where it does not lie beside the model.")
@click.option("--threshold", metavar="T", help="precise, balanced, many, mcut or a number.  [default: balanced]")
@click.option("--character-threshold", metavar="T", help="Of characters and series: a number, or mcut.")
@click.option("--characters", type=_PLACES, default="first", show_default=True, help="Where their names go.")
@click.option("--rating", type=_PLACES, default="none", show_default=True, help="Where the rating goes.")
@click.option("--order", type=click.Choice(["score", "model"]), default="score", show_default=True)
@click.option("--exclude", default="", metavar="TAGS", help="Tags that are never written; * and ? are any letters.")
@click.option(
    "--existing",
    type=click.Choice(["keep", "append", "replace"]),
    default="keep",
    show_default=True,
    help="Captions that people or sites wrote: keep them as they are, append to them, or replace them.",
)
@click.option("--captioner", metavar="COMMAND", help='A program that reads {"file", "tags"} and writes {"caption"}.')
@click.option("--sentence", type=click.Choice(["after", "instead"]), default="after", show_default=True)
@click.option("--timeout", type=float, default=600, show_default=True, help="Seconds for one answer of --captioner.")
@click.option("--batch-size", type=click.IntRange(1), help="Pictures at once.  [default: 4, on a GPU 32]")
@click.option("--offline", is_flag=True, help="Take a hub model from the cache, and never ask the hub.")
@click.option("--dry-run", is_flag=True, help="Write no captions; say what thresholds would give.")
@device_option
@json_option
@as_object(TagFlags)
def tag(flags: TagFlags) -> None:
    """Tag the pictures in FOLDER by a model, and say sentences by a program of your own.

    Taggers are those of the WD family (v2, v3, EVA02), CL and DeepDanbooru, as ONNX files. What is written is decided
    by a threshold; the probabilities are kept, so that another one costs nothing: leave --tagger out then. Captions
    that only a tagger and `dataset edit` wrote are always written anew, with the edits done again; undo takes it back.

    \b
      loratools dataset tag pictures --tagger SmilingWolf/wd-swinv2-tagger-v3
      loratools dataset tag pictures --threshold precise
      loratools dataset tag pictures --tagger models/wd-eva02-large-tagger-v3/model.onnx --existing append
      loratools dataset tag pictures --captioner "python say.py"
    """
    from loratools.dataset.tagging.tag_folder import tag_folder
    from loratools.dataset.tags.store import DatasetFolder
    from loratools.progress import shown_progress

    folder = DatasetFolder.open(flags.folder)
    with shown_progress("tagging", "picture") as bar, shown_progress("captioner", "picture") as said:
        report = tag_folder(folder, _request(flags), dry_run=flags.dry_run, on_progress=bar, on_sentence=said)
    if not flags.as_json and flags.dry_run:
        click.echo("nothing was written (--dry-run)")
    print_report(_Spelled(report, flag_speller()), flags.as_json)


def _request(flags: TagFlags) -> TagRequest:
    from loratools.dataset.edits.operations import tag_list
    from loratools.dataset.tagging.sentences import SentenceRequest
    from loratools.dataset.tagging.tag_folder import TagRequest

    sentences = None
    if flags.captioner is not None:
        sentences = SentenceRequest(flags.captioner, flags.sentence, flags.timeout)
    return TagRequest(
        tagger=flags.tagger,
        labels=flags.labels,
        threshold=flags.threshold,
        character_threshold=flags.character_threshold,
        characters=flags.characters,
        rating=flags.rating,
        order=flags.order,
        exclude=tag_list(flags.exclude),
        existing=flags.existing,
        sentences=sentences,
        batch_size=flags.batch_size,
        device=flags.device,
        offline=flags.offline,
    )


@dataclass(frozen=True)
class _Spelled:
    """A report whose options are spelled as this command's flags."""

    report: Any
    spell: Any

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to mind."""
        return tuple(map(self.spell, self.report.warnings))

    def json(self) -> dict[str, Any]:
        """As JSON values."""
        value: dict[str, Any] = self.report.json()
        return value

    def text(self) -> str:
        """For a person."""
        return str(self.spell(self.report.text()))
