"""``loratools edit-header``"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import click

from loratools.cli.app import Command, fail_usage
from loratools.cli.each import batch_of, each_option, run_each
from loratools.cli.options import as_object, force_option, json_option, print_report


@dataclass(frozen=True)
class HeaderFlags:
    """What ``edit-header`` is asked for, by the names of its options."""

    files: tuple[str, ...]
    folders: tuple[str, ...]
    out: str | None
    title: str | None
    trigger: tuple[str, ...]
    tags: tuple[str, ...]
    description: str | None
    author: str | None
    license: str | None
    usage_hint: str | None
    preview: str | None
    entries: tuple[str, ...]
    remove: tuple[str, ...]
    as_json: bool
    force: bool

    def edit(self) -> dict[str, Any]:
        """What is changed, as the library takes it."""
        pairs = [entry.partition("=") for entry in self.entries]
        if wrong := next((entry for entry, (_, sign, _) in zip(self.entries, pairs, strict=True) if not sign), None):
            fail_usage(f"--set {wrong}: write KEY=TEXT, such as --set ss_clip_skip=2")
        named = {
            "title": self.title,
            "trigger": ", ".join(self.trigger) if self.trigger else None,
            "tags": ", ".join(self.tags) if self.tags else None,
            "description": self.description,
            "author": self.author,
            "license": self.license,
            "usage_hint": self.usage_hint,
            "preview": self.preview,
        }
        return {**named, "entries": {key: text for key, _, text in pairs}, "remove": self.remove}


@click.command("edit-header", cls=Command)
@click.argument("files", nargs=-1, metavar="IN...")
@each_option
@click.option("-o", "--out", type=click.Path(), help="The file to write; of several, a folder.  [default: IN itself]")
@click.option("--title", metavar="T", help="Its name for people.")
@click.option("--trigger", metavar="W", multiple=True, help="Trigger words. Repeatable.")
@click.option("--tags", metavar="TAGS", multiple=True, help='Tags, such as "style, ink". Repeatable.')
@click.option("--description", metavar="TEXT", help="What it does, in a sentence or more.")
@click.option("--author", metavar="NAME", help="Who made it.")
@click.option("--license", metavar="NAME", help="Its licence.")
@click.option("--usage-hint", metavar="TEXT", help="How it is meant to be used, in a few words.")
@click.option(
    "--preview", type=click.Path(), metavar="PICTURE", help="A PNG, JPG or WebP; it is scaled to 256 x 256 at most."
)
@click.option("--set", "entries", multiple=True, metavar="KEY=TEXT", help="Any modelspec.* or ss_* entry. Repeatable.")
@click.option("--remove", multiple=True, metavar="KEY", help="Take an entry away. Repeatable.")
@json_option
@force_option
@as_object(HeaderFlags)
def command(flags: HeaderFlags) -> None:
    """Change what a LoRA file says of itself; its tensors stay as they are, byte for byte.

    The entries are those of the ModelSpec (modelspec.title, .trigger_phrase, .tags, .thumbnail ...), which WebUIs and
    ComfyUI show; an empty text takes one away. The hashes in the header are made true (sshs_model_hash,
    sshs_legacy_hash, modelspec.hash_sha256). Without -o the file itself is changed, whole or not at all. How it was
    made, which `inspect` and `reproduce` read, stays.

    \b
      loratools edit-header ink.safetensors --title "Ink 2" --trigger inkstyle --tags "style, ink"
      loratools edit-header ink.safetensors --preview best.png -o published/ink.safetensors
      loratools edit-header ink.safetensors --set ss_clip_skip=2 --remove modelspec.author
      loratools edit-header --each loras --author me --license cc-by-4.0
    """
    from loratools.library.batches import edit_header_each
    from loratools.library.operations import edit_header

    given = {**flags.edit(), "force": flags.force}
    batch = batch_of(flags.files, flags.folders)
    if batch is None:
        print_report(edit_header(flags.files[0], flags.out, **given), flags.as_json)
        return
    if flags.title:
        fail_usage("--title is one file's name; leave it out where several are edited")
    run_each(lambda on_progress: edit_header_each(batch, flags.out, given, on_progress), len(batch), flags.as_json)
