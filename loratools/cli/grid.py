"""``loratools grid``"""

from __future__ import annotations

from pathlib import Path

import click

from loratools.cli.common import DTYPES, device_option, force_option, json_option, lora_options, print_json
from loratools.cli.shell import Command


@click.command("grid", cls=Command)
@click.argument("rows", nargs=-1, required=True, metavar="ROWS...")
@click.option("--base", required=True, help="A Diffusers folder, a .safetensors or .ckpt file, a hub id, or pocket.")
@click.option("--weights", default="0:1:0.25", show_default=True, help="START:END:STEP with the end in, or 0,0.5,1.")
@click.option("--prompt", "prompts", multiple=True, required=True, help="A prompt, or a .txt file of them. Repeatable.")
@click.option("--negative", default="", help="Negative prompt.")
@click.option("--seed", "seeds", default="1", show_default=True, help="1, or 1,2, or 1-4.")
@click.option("--steps", type=int, help="Sampler steps.  [default: the base's own]")
@click.option("--cfg", type=float, help="CFG scale.  [default: the base's own]")
@click.option("--sampler", help='As the WebUI spells it, such as "DPM++ 2M Karras".  [default: the base\'s own]')
@click.option("--size", metavar="WxH", help="Width x height in pixels.  [default: the base's own]")
@click.option("--clip-skip", type=int, default=1, show_default=True)
@click.option("--batch-size", type=int, default=8, show_default=True, help="Pictures at once.")
@click.option("--compile", "compiled", is_flag=True, help="By torch.compile: minutes to start; for hundreds of cells.")
@click.option("--offload", is_flag=True, help="Keep only the model that works on the device.")
@click.option("--sliced", is_flag=True, help="Decode pictures one by one.")
@click.option("--tiled", is_flag=True, help="Decode each picture in tiles.")
@click.option("-o", "--out", required=True, type=click.Path(), help="Folder for cells, grid.png, grid.html, grid.json.")
@click.option("--title", default="", help="Over the sheet.")
@lora_options
@device_option
@click.option("--dtype", type=DTYPES, help="Compute type.  [default: fp32 on a CPU, else fp16]")
@json_option
@force_option
def command(
    rows: tuple[str, ...], base: str, weights: str, prompts: tuple[str, ...], negative: str, seeds: str,
    steps: int | None, cfg: float | None, sampler: str | None, size: str | None, clip_skip: int, batch_size: int,
    compiled: bool, offload: bool, sliced: bool, tiled: bool,
    out: str, title: str, lora_dirs: tuple[str, ...], presets: str | None, missing: str | None, device: str,
    dtype: str | None, as_json: bool, force: bool,
) -> None:  # fmt: skip
    """Render every row at every weight, beside the base alone (weight 0).

    ROWS are LoRA files, stacks such as "A:1:GP1,B:-1:GP2", or a training run's folder, which gives a row for each
    epoch. Pictures that an interrupted run left are used again.

    \b
      loratools grid runs/style --base model.safetensors --prompt "1girl, smile" --seed 1,2 -o grid
      loratools grid a.safetensors "a:0.8:GP1" --base pocket --prompt prompts.txt --weights 0,0.5,1 -o grid
    """
    from loratools.adapter.run import find_lora
    from loratools.base.load import load_base
    from loratools.blocks.presets import load_presets
    from loratools.preview.cells import parse_seeds, parse_size, parse_weights
    from loratools.preview.engine import Options
    from loratools.preview.render import render_grid
    from loratools.preview.shard import Rank
    from loratools.recipe.references import best_epoch
    from loratools.recipe.rows import build_rows, read_prompts

    columns = parse_weights(weights)
    numbers = parse_seeds(seeds)
    pixels = parse_size(size) if size else None
    texts = read_prompts(prompts, lambda text: Path(text) if Path(text).is_file() else None)
    built = build_rows(rows, lambda ref: find_lora(ref, lora_dirs), presets=load_presets(presets),
                       missing=None if missing is None else float(missing), best=best_epoch)  # fmt: skip
    rank = Rank.here()
    model = load_base(base, device=rank.device(device), dtype=dtype)
    result = render_grid(
        model, built, columns, texts, out=Path(out), negative=negative, seeds=numbers, steps=steps, cfg=cfg,
        sampler=sampler, size=pixels, clip_skip=clip_skip, batch_size=batch_size, title=title, progress=True,
        force=force, options=Options(compiled=compiled, offload=offload, sliced=sliced, tiled=tiled),
    )  # fmt: skip
    if not rank.main:
        return
    facts = {"png": str(result.png), "html": str(result.html), "json": str(result.json),
             "rendered": result.rendered, "reused": result.reused}  # fmt: skip
    verdicts = {row.label: row.verdict[1] for row in result.grid.rows if row.verdict}
    if as_json:
        print_json({**facts, "verdicts": verdicts})
    else:
        for label, text in verdicts.items():
            click.echo(f"{label}: {text}")
        click.echo(f"{len(built)} rows, {result.rendered} pictures rendered, {result.reused} used again\n"
                   f"{result.png}\n{result.html}\n{result.json}")  # fmt: skip
