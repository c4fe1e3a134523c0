"""``loratools grid``"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from loratools.cli.app import Command
from loratools.cli.launched import launched
from loratools.cli.options import (
    DTYPES,
    as_object,
    device_option,
    force_option,
    json_option,
    key_options,
    launch_options,
    lora_options,
    print_json,
)
from loratools.cli.pictures.grid_request import GridFlags, grid_request, name_lookup, score_request, sheet_options

if TYPE_CHECKING:
    from loratools.preview.request.options import ScoreRequest, SheetOptions
    from loratools.preview.run import GridResult

FORMATS = ("webp", "jpg", "png")
# base/sampling/noise_kinds.py has these too; a command imports no room before it runs
NOISE = ("own", "webui-cpu", "webui-gpu")


@click.command("grid", cls=Command, together=True)
@click.argument("rows", nargs=-1, metavar="ROWS...")
@click.option(
    "--base",
    help="A Diffusers folder of any family, an SD .safetensors or .ckpt file, a hub id, or pocket.  [required]",
)
@click.option(
    "--weights",
    metavar="NUMBERS",
    help="0:1:0.25 with the end in, 0-1 (+0.25), 0-1 [5], or 0,0.5,1."
    "  [default: 0:1:0.25, across, if no axis is given]",
)
@click.option("--x", metavar="AXIS", help='What differs across: "KIND: VALUES", such as "cfg: 4,7,10".')
@click.option("--y", metavar="AXIS", help="What differs down.")
@click.option("--z", metavar="AXIS", help="What differs between sub-grids.")
@click.option("--no-base", is_flag=True, help="Leave the base alone out; it stands first otherwise.")
@click.option("--most", type=click.IntRange(1), help="Pictures that are allowed.  [default: 5000]")
@click.option("--prompt", "prompts", multiple=True, help="A prompt, or a .txt file with one a line. Repeatable.")
@click.option("--negative", help="Negative prompt.")
@click.option("--seed", "seeds", metavar="NUMBERS", help="1, or 1,2, or 1-4.  [default: 1]")
@click.option("--steps", type=int, help="Sampler steps.  [default: the base's own]")
@click.option("--cfg", type=float, help="CFG scale.  [default: the base's own]")
@click.option(
    "--sampler", help="The WebUI's sampler and schedule type, such as \"DPM++ 2M Karras\".  [default: the base's own]"
)
@click.option("--size", metavar="WxH", help="Width x height in pixels.  [default: the base's own]")
@click.option("--frames", type=int, help="Of a video base's videos, whose middle is shown.  [default: the base's own]")
@click.option("--clip-skip", type=int, help="1 is the last layer.  [default: 1]")
@click.option(
    "--noise",
    type=click.Choice(NOISE),
    default=NOISE[0],
    show_default=True,
    help="webui-gpu, webui-cpu: the WebUI's noise and noise levels, by its setting of RNG.",
)
@click.option(
    "--embeddings", metavar="DIR", type=click.Path(), help="Textual-inversion embeddings for prompts to name."
)
@click.option("--batch-size", type=int, default=8, show_default=True, help="Pictures at once.")
@click.option(
    "--compile/--no-compile",
    "compiled",
    default=None,
    help="Compile the UNet's blocks: up to a minute at first, seconds later on.  [default: where it pays]",
)
@click.option(
    "--mixed/--no-mixed",
    default=None,
    help="LoRAs and weights share batches.  [default: on a GPU, where each has few pictures]",
)
@click.option("--offload", is_flag=True, help="Keep only the model that works on the device.")
@click.option("--sliced", is_flag=True, help="Decode pictures one by one.")
@click.option("--tiled", is_flag=True, help="Decode each picture in tiles.")
@click.option("-o", "--out", required=True, type=click.Path(), help="Folder for cells, grid.png, grid.html, grid.json.")
@click.option("--title", default="", help="Over the sheet.")
@click.option("--label", "labels", multiple=True, metavar="VALUE=TEXT", help="What a value is called. Repeatable.")
@click.option("--caption", "captions", multiple=True, help="A line under the sheet. Repeatable.")
@click.option("--sheet", "formats", multiple=True, type=click.Choice(FORMATS), help="Draw the sheet so as well.")
@click.option("--full-size", is_flag=True, help="Pictures unreduced in --sheet's files; past 200 megapixels several.")
@click.option(
    "--embed/--no-embed",
    default=None,
    help="A grid.html that carries its pictures: one file to send.  [default: if they are no more than 64 MiB]",
)
@click.option("--score", is_flag=True, help="Figures under each picture: how far from the base and what follows.")
@click.option("--score-images", metavar="DIR", type=click.Path(), help="Training images: the nearest one (copy risk).")
@click.option(
    "--held-out", metavar="DIR", type=click.Path(), help="Images that were not trained on: closeness to them."
)
@click.option(
    "--score-model",
    "score_models",
    multiple=True,
    metavar="DIR",
    type=click.Path(),
    help="A CLIP or DINO on this machine, to compare by. Repeatable.",
)
@click.option("--redraw", is_flag=True, help="Render nothing: draw the grid in --out again, with other words or files.")
@lora_options
@key_options
@launch_options
@device_option
@click.option("--dtype", type=DTYPES, help="Compute type.  [default: fp32 on a CPU; else SD fp16, others bf16]")
@json_option
@force_option
@as_object(GridFlags)
def command(flags: GridFlags) -> None:
    """Render every row at every weight, or any two or three things against each other, beside the base alone.

    ROWS are LoRA files, stacks such as "A:1:GP1,B:-1:GP2", or a training run's folder, which gives a row for each
    epoch; a folder of several runs gives those of all of them, FOLDER/NAME those of one. Pictures that an interrupted
    run left are used again.

    \b
      loratools grid runs/style --base model.safetensors --prompt "1girl, smile" --seed 1,2 -o grid
      loratools grid a.safetensors "a:0.8:GP1" --base pocket --prompt prompts.txt --weights 0,0.5,1 -o grid

    --x, --y and --z take "KIND: VALUES". Kinds of axes:

    \b
      adapter    a.safetensors; runs/ink; "A:1:GP1,B:-1:GP2"    (in ROWS' place)
      epoch      1-8 (+2), or 2, best      of the run in ROWS
      weight     0-1 (+0.1)                "weight of NAME": of one LoRA of a stack
      vector     GP1; ALL; "1,0.5,..."     block vectors; "vector of NAME" too
      block OUT04                          one block's weight, or a group's: 0, 0.5, 1
      te, unet   0-1 [3]                   strength in the text encoder, the UNet
      prompt     a cat, red; a dog         or a .txt file; parted by ";"
      negative   lowres; lowres, blurry
      s/r        red hair, blue hair, "long, green hair"        Prompt S/R
                 NUM, 000001, 000002; STRENGTH, 0.5, 1          places in <lora:ink-NUM:STRENGTH>
      seed, cfg, steps, clip skip          numbers
      sampler    Euler a, DPM++ 2M Karras, Euler SGM Uniform        (sampler and schedule type)
      size       512x768, 768x512
      base       model.safetensors; other.safetensors           (in --base's place)

    Prompts are read as the WebUI reads them: (a:1.2), [a], [a:b:0.5], [a|b], BREAK and AND.

    \b
    Numbers are 0:1:0.25, 0-1 (+0.25), 0-1 [5] (five of them), 1-4, or lists. LoRAs in prompts as the
    WebUI writes them, <lora:NAME:0.8:lbw=GP1>, are added; ROWS may then be left out.

    A votes.json that grid.html exported into the folder marks stars and the winner on the sheet; --redraw draws
    them, or other words, on pictures that are there.

    \b
      loratools grid -o grid --redraw --title "Ink, third try" --label "runs/ink@8=epoch 8" --embed
      loratools grid runs/ink --base pocket --prompt 1girl --x "epoch: 1-8" --y "block OUT03: 0-1 [3]" -o grid
      loratools grid style.safetensors --base m.safetensors --prompt 1girl --x "cfg: 4,7,10" \\
          --y "sampler: Euler a, DPM++ 2M Karras" -o grid
      loratools grid --base m.safetensors --prompt "1girl, <lora:ink-000001:0.2>" \\
          --x "s/r: 000001, 000002, 000003" --y "s/r: 0.2>, 0.6>, 1>" -o grid
    """
    from loratools.launch import Rank
    from loratools.preview.request.read_axes import build_arrangement
    from loratools.preview.run import GridOutput, render_request

    sheet, scores, out = sheet_options(flags), score_request(flags), Path(flags.out)
    if flags.redraw:
        _check_redraw()
        _redraw(flags, sheet, scores)
        return
    request = grid_request(flags, sheet, scores)
    names = name_lookup(flags)
    if launched(flags.processes, flags.launch, flags.device, flags.out, finish_alone=True):
        return
    arrangement = build_arrangement(request, names)
    for axis in arrangement.axes:
        if axis.placeholder and Rank.here().main:
            click.echo(
                f"axis {axis.slot}: '{axis.placeholder}' marks the place of the others, and is left out", err=True
            )
    result = render_request(request, arrangement, names, GridOutput(out, force=flags.force, progress=True))
    if not Rank.here().main:
        return
    _report(result, flags)


def _report(result: GridResult, flags: GridFlags) -> None:
    """What was rendered, what the 0.9 test says, and where the files lie."""
    verdicts = {row.tested: row.verdict[1] for row in result.grid.rows if row.verdict}
    if flags.as_json:
        facts = {
            "png": str(result.png),
            "html": str(result.html),
            "json": str(result.json),
            "rendered": result.rendered,
            "reused": result.reused,
            "verdicts": verdicts,
        }
        print_json(facts | ({"elsewhere": result.elsewhere} if result.elsewhere else {}))
        return
    for label, text in verdicts.items():
        click.echo(f"{label}: {text}")
    if flags.no_base and not verdicts and any(row.loras for row in result.grid.rows):
        click.echo("no 0.9 test: it compares with the base, which --no-base leaves out")
    shape = " x ".join(f"{len(axis.labels)} {axis.name}" for axis in result.grid.shown if len(axis.labels) > 1)
    click.echo(f"{shape or 'one picture'}: {result.counted}\n{result.png}\n{result.html}\n{result.json}")


_REDRAWN = {"out", "title", "labels", "captions", "formats", "full_size", "embed", "score", "score_images", "held_out",
            "score_models", "redraw", "as_json", "force"}  # fmt: skip


def _check_redraw() -> None:
    """Raise a usage error for options that only a rendering reads."""
    context = click.get_current_context()
    given = [
        param
        for param in context.command.params
        if param.name
        and param.name not in _REDRAWN
        and context.get_parameter_source(param.name) is click.core.ParameterSource.COMMANDLINE
    ]
    if given:
        names = ", ".join(param.opts[0] if isinstance(param, click.Option) else "rows" for param in given)
        raise click.UsageError(f"--redraw renders nothing: leave {names} out.")


def _redraw(flags: GridFlags, sheet: SheetOptions, scores: ScoreRequest | None) -> None:
    from loratools.pocket.judge import shipped_judge
    from loratools.preview.judge.score_request import check_scores
    from loratools.preview.redraw import draw_scores, redraw

    folder = Path(flags.out)
    if scores is None:
        grid = redraw(folder, title=flags.title, options=sheet)
    else:
        check_scores(scores)
        grid = draw_scores(folder, scores, shipped_judge, sheet, flags.title)
    facts = {name: str(folder / f"grid.{name}") for name in ("png", "html", "json")}
    if flags.as_json:
        print_json({**facts, "rendered": 0, "reused": len({picture.key for picture in grid.pictures})})
    else:
        click.echo("\n".join(facts.values()))
