"""``loratools dataset prepare``"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import click

from loratools.cli.app import Command
from loratools.cli.dataset.look import detector_options, encoding_option
from loratools.cli.options import as_object, force_option, json_option, print_report


@dataclass(frozen=True)
class _Options:
    """The command's arguments and flags."""

    folder: str
    out: str
    resolution: int
    text: str
    crops: bool
    upscaler: str | None
    most_ratio: float
    most_enlarged: float
    keep_copies: bool
    encoding: str
    detectors: tuple[str, ...]
    boxes: str | None
    device: str
    force: bool
    as_json: bool


@click.command("prepare", cls=Command)
@click.argument("folder", type=click.Path())
@click.option("-o", "--out", required=True, type=click.Path(), help="Folder of the prepared set.")
@click.option("--resolution", type=click.IntRange(64), default=512, show_default=True, help="At which you will train.")
@click.option(
    "--text",
    type=click.Choice(["keep", "mask", "crop", "fill"]),
    default="mask",
    show_default=True,
    help="Text that a detector finds: leave it, mask it out of the loss, cut it off, or fill it.",
)
@click.option(
    "--crops/--no-crops", default=True, help="Crop faces and figures out of larger pictures.  [default: crops]"
)
@click.option(
    "--upscaler",
    metavar="FILE",
    help="Super-resolution model: an .onnx file, or what spandrel reads.  [default: Lanczos]",
)
@click.option(
    "--max-ratio", "most_ratio", type=click.FloatRange(1), default=3.0, show_default=True, help="Long to short side."
)
@click.option(
    "--max-enlarge",
    "most_enlarged",
    type=click.FloatRange(1),
    default=4.0,
    show_default=True,
    help="Times a side; what would need more is left out.",
)
@click.option("--keep-copies", is_flag=True, help="Leave copies of a picture in.")
@encoding_option
@detector_options
@force_option
@json_option
@as_object(_Options)
def prepare(options: _Options) -> None:
    """Make a set of training pictures: upright, on white, in classes, without copies, each with a caption.

    OUT gets folders 1_face, 1_main, 1_full and 1_other, variants of one scene in folders of their own, masks where text
    was found, unused/ with reasons, and manifest.jsonl. Originals are never touched. Run it again after adding
    pictures: only these are worked on, and edited captions stay.

    \b
      loratools dataset prepare downloads -o pictures
      loratools dataset prepare downloads -o pictures --detector head=head.onnx --detector rapidocr --upscaler 4x.onnx
    """
    from loratools.dataset.detect.detectors import open_detectors
    from loratools.dataset.prepare.enlarge import open_upscaler
    from loratools.dataset.prepare.options import PrepareOptions
    from loratools.dataset.prepare.run import prepare as run
    from loratools.progress import shown_progress

    settings = PrepareOptions(
        resolution=options.resolution,
        most_enlarged=options.most_enlarged,
        most_ratio=options.most_ratio,
        crops=options.crops,
        text=options.text,  # type: ignore[arg-type]  # click's choices
        keep_copies=options.keep_copies,
    )
    detectors = open_detectors(options.detectors, Path(options.boxes) if options.boxes else None, options.device)
    upscaler = open_upscaler(options.upscaler, options.device) if options.upscaler else None
    with shown_progress("preparing", "picture") as bar:
        report = run(
            options.folder,
            options.out,
            settings,
            detectors,
            upscaler,
            encoding=options.encoding,
            force=options.force,
            on_progress=bar,
        )
    print_report(report, options.as_json)
