"""The table of commands, so that ``loratools --help`` imports none of them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Entry:
    """A command of the top level: the folder of ``loratools/cli`` that its module is in, and its line of help."""

    folder: str
    help: str


# command -> the folder of its code (loratools/cli/FOLDER/NAME.py, imported when it runs), what `loratools --help` says
COMMANDS = {
    "demo": Entry("recipe", "See the whole story on a small built-in model: train, subtract, merge, preview."),
    "run": Entry("recipe", "Run a recipe: every step that is not cached."),
    "cache": Entry("recipe", "List and remove finished results of recipes."),
    "recipe": Entry("recipe", "Write recipes: a starter, another tool's settings as one, every step and option."),
    "dataset": Entry("dataset", "Make a set of training pictures: look at a folder, crop, tag, edit, balance."),
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
    "studio": Entry("studio", "Open the page: live sliders for blocks, epochs to choose from, a queue of jobs."),
    "convert": Entry("lora", "Rewrite a LoRA in kohya's or Diffusers' style, exactly."),
    "edit-header": Entry("lora", "Change a LoRA's title, trigger words, tags or preview; its tensors stay."),
    "explain": Entry("recipe", "Tell in words how a LoRA file was made."),
    "reproduce": Entry("recipe", "Make a file again from the recipe in its header, and compare digests."),
    "inspect": Entry("lora", "Say what a LoRA file is and how it was made."),
    "analyze": Entry("lora", "Show where a LoRA's strength lies, how alike two are, and how several clash."),
    "doctor": Entry("machine", "Say what is wrong with this machine, and the command that mends it."),
    "blocks": Entry(
        "blocks", "Show, convert, fix and suggest block vectors: the numbers that weigh each part of a LoRA."
    ),
}
