"""A tune is asked for in one way: as flags, in a recipe's step, and from a program."""

from __future__ import annotations

import dataclasses
import inspect

import loratools as lt
from loratools.cli.blocks.tune import tune as command
from loratools.library.tuning import tune as function
from loratools.recipe.steps.lora.tune import Tune

SAMPLING = {"negative", "steps", "cfg", "sampler", "size", "frames"}
OUTSIDE = {
    *("what", "out", "base", "merge", "terminal", "processes", "launch", "device"),
    *("dry_run", "as_json", "force", "help"),
}
NAMES = {"symptom": "symptoms", "measure": "measures", "batch_size": "batch", "search_seed": "seed", "lora": "terms"}
ONLY_HERE_AND_NOW = {"budget", "votes", "drop", "lora_dirs", "debug"}  # of no use to a recipe's step


def renamed(names: set[str]) -> set[str]:
    return {NAMES.get(name, name) for name in names}


def test_the_command_the_step_and_the_function_take_the_same() -> None:
    flags = renamed({str(parameter.name) for parameter in command.params} - OUTSIDE - SAMPLING)
    step = renamed(set(Tune.model_fields) - SAMPLING)
    program = set(inspect.signature(function).parameters) | {field.name for field in dataclasses.fields(lt.TuneOptions)}
    assert flags <= program, sorted(flags - program)
    assert flags - ONLY_HERE_AND_NOW <= step, sorted(flags - ONLY_HERE_AND_NOW - step)
    stored = {"rank", "dora"}  # how the step's own file is written and its LoRAs are read
    assert step - stored - {"terms"} <= flags, sorted(step - stored - flags)
    sampling = {field.name for field in dataclasses.fields(lt.SamplingRequest)}
    assert sampling >= SAMPLING and set(Tune.model_fields) >= SAMPLING
