"""Tagging a dataset folder: what a tagger or a captioner says of each picture becomes its caption.

Captions that nobody but a tagger (and the logged edits after it) wrote are written anew whenever that is asked for,
with the edits done again; those of a person stay, are added to, or are replaced, as asked. Everything goes through the
log of edits, so ``undo`` takes it back.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from loratools.dataset.edits.edit import CaptionEditor, Change, EditPlan
from loratools.dataset.edits.operations import SOURCE as EDITED
from loratools.dataset.edits.subject import TagCounts
from loratools.dataset.tagging.choose import Place, TagChoice, choose
from loratools.dataset.tagging.look import look_at
from loratools.dataset.tagging.probabilities import KeptProbabilities, Scores
from loratools.dataset.tagging.sentences import SentenceRequest, add_sentences
from loratools.dataset.tagging.tagger import find_tagger
from loratools.dataset.tagging.thresholds import Threshold, character_threshold, read_threshold
from loratools.dataset.tags.picture import Picture
from loratools.dataset.tags.store import DatasetFolder
from loratools.errors import OptionError
from loratools.progress import OnProgress

Existing = Literal["keep", "append", "replace"]
_LEVELS: Final = ("precise", "balanced", "many")
_SHOWN = 12


@dataclass(frozen=True)
class TagRequest:
    """How a folder is to be tagged.

    Attributes:
        tagger: a file or a hub id; None: the one that looked at the folder last, whose probabilities are kept.
        labels: its list of tags, where that does not lie beside it.
        threshold, character_threshold: a word or a number; see :mod:`.thresholds`.
        existing: what becomes of captions that a person or a site wrote.
        sentences: the captioner; None for tags alone.
    """

    tagger: str | None = None
    labels: str | None = None
    threshold: str | None = None
    character_threshold: str | None = None
    characters: Place = "first"
    rating: Place = "none"
    order: Literal["score", "model"] = "score"
    exclude: tuple[str, ...] = ()
    existing: Existing = "keep"
    sentences: SentenceRequest | None = None
    batch_size: int | None = None
    device: str = "auto"
    offline: bool = False

    @property
    def wants_tags(self) -> bool:
        """Whether tags are asked for, and not only sentences."""
        return self.tagger is not None or self.threshold is not None or self.sentences is None


@dataclass(frozen=True)
class TagReport:
    """What tagging did, or would do.

    Attributes:
        tagger: its name; empty where only sentences were asked for.
        looked_at: pictures that the tagger was shown now; of ``pictures`` the others' probabilities were kept.
        captions: that change.
        kept: captions of a person's that stay as they are.
        threshold: that was used; ``levels`` how many tags a picture gets at each of the named ones.
        tags: how many captions each tag is in.
        redone: logged edits that were done again on the new tags.
        notes: what went wrong with single pictures, a sentence each.
    """

    pictures: int
    captions: int
    tagger: str = ""
    looked_at: int = 0
    kept: int = 0
    threshold: str = ""
    levels: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    tags: Mapping[str, int] = field(default_factory=dict)
    sentences: int = 0
    redone: tuple[int, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def warnings(self) -> tuple[str, ...]:
        """What to mind."""
        return self.notes

    def json(self) -> dict[str, Any]:
        """As JSON values."""
        levels = {name: {"threshold": value, "tags": tags} for name, (value, tags) in self.levels.items()}
        return {**{name: getattr(self, name) for name in self.__dataclass_fields__}, "levels": levels}

    def text(self) -> str:
        """For a person."""
        lines = []
        if self.tagger:
            before = self.pictures - self.looked_at
            seen = f", {before} with probabilities from before" if before else ""
            lines.append(f"{self.tagger}: {self.looked_at} pictures looked at{seen}; threshold {self.threshold}")
        for name, (value, tags) in self.levels.items():
            lines.append(f"  {name:<9} {value:.3f}  about {tags:.0f} tags a picture")
        if self.sentences:
            lines.append(f"{self.sentences} sentences")
        lines.append(f"{self.captions} captions written")
        if self.kept:
            lines.append(
                f"{self.kept} captions that others wrote stay; `existing=append` or `existing=replace` is for them"
            )
        if self.redone:
            lines.append(f"{len(self.redone)} edits of the log were done again on them")
        if self.tags:
            common = Counter(self.tags).most_common(_SHOWN)
            lines.append(f"{len(self.tags)} different tags: {', '.join(f'{name} ({count})' for name, count in common)}")
        return "\n".join(lines)


def tag_folder(
    folder: DatasetFolder,
    request: TagRequest,
    *,
    dry_run: bool = False,
    on_progress: OnProgress | None = None,
    on_sentence: OnProgress | None = None,
) -> TagReport:
    """Tag the pictures of a folder.

    Args:
        dry_run: write no captions; probabilities are kept all the same.
        on_progress: of pictures shown to the tagger; ``on_sentence`` of those shown to the captioner.
    Raises:
        FileError, FormatError, UnavailableError, OptionError, DatasetError: before anything is written.
    """
    if request.existing not in ("keep", "append", "replace"):
        raise OptionError(f"`existing={request.existing}`: write keep, append or replace")
    editor = CaptionEditor(folder)
    read = folder.read()
    pictures = read.readable()
    left = editor.log.left_by_tagging([picture.file for picture in pictures])
    ours = {picture.file for picture in pictures if left.get(picture.file) == picture.caption()}
    chosen = [picture for picture in pictures if _is_chosen(picture, request, ours)]
    tagged, report = chosen, TagReport(len(chosen), 0)
    notes = list(read.notes)
    if request.wants_tags:
        tagged, report = _tagged(folder, chosen, ours, request, on_progress)
    redone = editor.redone(tagged if request.wants_tags else ())
    tagged = redone.pictures if request.wants_tags else tagged
    sentences = 0
    if request.sentences is not None:
        tagged, sentences, more = add_sentences(folder, tagged, request.sentences, request.existing, on_sentence)
        notes += more
    by_file = {picture.file: picture for picture in chosen}
    changes = tuple(Change(by_file[each.file], each) for each in tagged if each != by_file[each.file])
    if changes and not dry_run:
        met = tuple(change.before for change in changes if change.before.file in redone.met)
        plan = EditPlan(changes, met, TagCounts.of(pictures))
        editor.write(plan, tagged_by=report.tagger or "captioner", replays=redone.ids if met else ())
    captions = sum(change.before.caption() != change.after.caption() for change in changes)
    counts = Counter(tag.name for picture in tagged for tag in picture.tags)
    return replace(
        report,
        captions=captions,
        kept=len(pictures) - len(chosen),
        tags=dict(counts.most_common()) if request.wants_tags else {},
        sentences=sentences,
        redone=redone.ids,
        notes=(*notes, *report.notes, *editor.notes),
    )


def tag_pictures(
    folder: DatasetFolder,
    pictures: Sequence[Picture],
    request: TagRequest,
    on_progress: OnProgress | None = None,
) -> tuple[list[Picture], TagReport]:
    """Pictures with a tagger's tags and a captioner's sentences, of which nothing is written but probabilities.

    Args:
        folder: where the pictures lie, and their probabilities are kept.
    Raises:
        FileError, FormatError, UnavailableError, OptionError, DatasetError: if that cannot be had.
    """
    chosen = [picture for picture in pictures if _is_chosen(picture, request, set())]
    tagged, report = chosen, TagReport(len(chosen), 0)
    if request.wants_tags:
        tagged, report = _tagged(folder, chosen, set(), request, on_progress)
    if request.sentences is not None:
        tagged, count, notes = add_sentences(folder, tagged, request.sentences, request.existing, on_progress)
        report = replace(report, sentences=count, notes=(*report.notes, *notes))
    by_file = {picture.file: picture for picture in tagged}
    result = [by_file.get(picture.file, picture) for picture in pictures]
    changed = sum(one.caption() != two.caption() for one, two in zip(pictures, result, strict=True))
    return result, replace(report, captions=changed, kept=len(pictures) - len(chosen))


def _is_chosen(picture: Picture, request: TagRequest, ours: set[str]) -> bool:
    """Whether a picture's caption may be written."""
    if request.existing != "keep" or picture.file in ours:
        return True
    if not request.wants_tags:
        return not picture.sentence
    return not picture.caption()


def _tagged(
    folder: DatasetFolder,
    pictures: Sequence[Picture],
    ours: set[str],
    request: TagRequest,
    on_progress: OnProgress | None,
) -> tuple[list[Picture], TagReport]:
    """The pictures with a tagger's tags."""
    if request.tagger is None:
        kept = KeptProbabilities.last(folder.record_folder)
        files = None
    else:
        files = find_tagger(request.tagger, request.labels, offline=request.offline)
        kept = KeptProbabilities.open(folder.record_folder, files.facts())
    facts = kept.facts
    choice = TagChoice(
        read_threshold(request.threshold, facts.name, facts.family),
        character_threshold(request.character_threshold, facts.family),
        request.characters,
        request.rating,
        request.order,
        request.exclude,
    )
    paths = [folder.path_of(picture) for picture in pictures]
    looked = look_at(paths, kept, files, request.device, request.batch_size, on_progress)
    result = []
    for picture, path in zip(pictures, paths, strict=True):
        scores = looked.scores.get(path)
        result.append(picture if scores is None else _with_tags(picture, scores, choice, facts.name, request, ours))
    report = TagReport(
        len(pictures),
        0,
        facts.name,
        looked.shown,
        threshold=choice.threshold.text(),
        levels=_levels(list(looked.scores.values()), choice, facts.name, kept),
        notes=looked.notes,
    )
    return result, report


def _with_tags(
    picture: Picture, scores: Scores, choice: TagChoice, source: str, request: TagRequest, ours: set[str]
) -> Picture:
    """A picture with a tagger's tags: alone, or after those that it had from elsewhere."""
    chosen = choose(scores, choice, source)
    own = list(picture.tags)
    if picture.file in ours:  # what the tagger and the edits wrote is made anew
        own = [tag for tag in own if tag.score is None and tag.source != EDITED]
    if request.existing == "replace":
        own = []
    aside = [tag for tag in picture.set_aside if tag.score is None]
    with_tags = picture.with_tags([*own, *chosen.tags])
    names = with_tags.names()
    left = tuple(tag for tag in (*aside, *chosen.set_aside) if tag.name.lower() not in names)
    return replace(with_tags, set_aside=left)


def _levels(
    scores: Sequence[Scores], choice: TagChoice, source: str, kept: KeptProbabilities
) -> dict[str, tuple[float, float]]:
    """(threshold, tags a picture) of each named threshold, where the model has them."""
    levels: dict[str, tuple[float, float]] = {}
    for name in _LEVELS:
        try:
            threshold: Threshold = read_threshold(name, kept.facts.name, kept.facts.family)
        except OptionError:
            return {}
        each = replace(choice, threshold=threshold)
        count = sum(len(choose(one, each, source).tags) for one in scores)
        levels[name] = (threshold.value or 0.0, count / max(len(scores), 1))
    return levels
