"""The command line: thin commands, imported only when they run, and one place that turns errors into exit codes."""

from __future__ import annotations

import click

from loratools import __version__
from loratools.cli.app import Entry, Shell

# command -> the folder of its code (loratools/cli/FOLDER/NAME.py, imported when it runs), what `loratools --help` says
COMMANDS = {
    "demo": Entry("recipe", "See the whole story on a small built-in model: train, subtract, merge, preview."),
    "run": Entry("recipe", "Run a recipe: every step that is not cached."),
    "cache": Entry("recipe", "List and remove finished results of recipes."),
    "recipe": Entry("recipe", "Write recipes: a starter, another tool's settings as one, every step and option."),
    "train": Entry("training", "Train a LoRA; one file for every epoch."),
    "epochs": Entry("training", "Show a run epoch by epoch: losses, norm, drift, and which epochs to look at."),
    "basestyle": Entry("training", "Make the LoRA of a base's own style, to subtract."),
    "merge": Entry("lora", "Add and subtract LoRAs exactly, with block weights; or run a recipe up to its merge."),
    "soup": Entry("lora", "Average LoRAs, such as the epochs of a run."),
    "subtract": Entry("lora", "Remove a style from a LoRA in one of four ways, and say what went and what stayed."),
    "resize": Entry("lora", "Change a LoRA's rank, with the loss stated."),
    "extract": Entry("lora", "Make a LoRA of what tuning did to a model."),
    "verify": Entry("lora", "Recompute a merge in float64 and say how far a file is from it."),
    "grid": Entry("pictures", "Render epochs, files and stacks x weights beside the base alone."),
    "convert": Entry("lora", "Rewrite a LoRA in kohya's or Diffusers' style, exactly."),
    "explain": Entry("recipe", "Tell in words how a LoRA file was made."),
    "reproduce": Entry("recipe", "Make a file again from the recipe in its header, and compare digests."),
    "inspect": Entry("lora", "Say what a LoRA file is and how it was made."),
    "analyze": Entry("lora", "Show where a LoRA's strength lies, and how alike two are."),
    "blocks": Entry(
        "blocks", "Show, convert, fix and suggest block vectors: the numbers that weigh each part of a LoRA."
    ),
}


@click.group(cls=Shell, commands=None, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, message="loratools %(version)s")
@click.option("--debug", is_flag=True, expose_value=False, help="Show the traceback of an error.")
def shell() -> None:
    """The post-training LoRA toolbox for Stable Diffusion.

    \b
      loratools demo                                          see it work, with nothing to download
      loratools merge "style.safetensors:1:GP1,base.safetensors:-1:GP2" -o out.safetensors
      loratools grid runs/style --base model.safetensors --prompt "1girl, smile" -o grid
      loratools run recipes/style.yaml                        from images to the merged file

    Exit codes: 0 done, 1 an error that says what to do, 2 a mistyped command.
    """


def main() -> None:
    """The ``loratools`` command."""
    shell.main(prog_name="loratools")
