"""``loratools dataset import``"""

from __future__ import annotations

import click

from loratools.cli.app import Command
from loratools.cli.dataset.look import encoding_option
from loratools.cli.options import json_option, print_report

_KEPT = ("artist", "meta", "rating", "model", "quality")


@click.command("import", cls=Command)
@click.argument("folder", type=click.Path())
@click.option(
    "--keep",
    multiple=True,
    type=click.Choice(_KEPT),
    help="A category that stays in captions. Repeatable.  [default: none of these]",
)
@click.option("--again", is_flag=True, help="Read sidecars anew of pictures that were imported already.")
@click.option("--dry-run", is_flag=True, help="Say what would be read, and write nothing.")
@encoding_option
@json_option
def import_(folder: str, keep: tuple[str, ...], again: bool, dry_run: bool, encoding: str, as_json: bool) -> None:
    """Read what downloaders and taggers left beside pictures, and write clean captions.

    Understood are imgbrd-grabber, gallery-dl (Danbooru, Gelbooru, Moebooru, e621, pixiv), waifuc, sd-scripts' JSON,
    Hugging Face's metadata.jsonl, .caption, dataset-tag-editor and text in any of their ways. Categories, scores and
    ids go into FOLDER/.dataset; captions that are written over are copied there first.

    \b
      loratools dataset import downloads
      loratools dataset import downloads --keep artist --dry-run
    """
    from loratools.dataset.sidecars.import_folder import import_folder
    from loratools.progress import shown_progress

    with shown_progress("reading", "picture") as bar:
        report = import_folder(folder, keep, again=again, dry_run=dry_run, encoding=encoding, on_progress=bar)
    print_report(report, as_json)
