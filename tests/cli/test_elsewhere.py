"""What is answered to another tool's options, and to a command of a group without the group's name."""

from __future__ import annotations

import importlib

import pytest
from click.testing import CliRunner

from loratools.cli.app import Command, LazyGroup


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "merge --models A B --ratios 0.5 0.5 --save_to=o",
            'no such option: --models (LoRAs and weights are one text, "A:0.5,B:0.5"), --ratios (a weight follows each '
            "LoRA's name and a colon), --save_to (write -o);",
        ),
        (
            "resize --model A --save_to o --new_rank 8",
            "--model (write the file alone), --save_to (write -o), --new_rank",
        ),
        ("resize A -o o --dynamic_method sv_fro --dynamic_param 0.95", "write --rank energy=0.9025 for sv_fro 0.95"),
        ("extract --model_org A --model_tuned B --dim 8", "--model_org (write --base), --model_tuned (write --tuned)"),
        ("merge --weigths A", "no such option '--weigths'"),
        ("tune A", "there is no command 'tune' (write `loratools blocks tune`); there are"),
        ("balance A", "(write `loratools dataset balance`)"),
        ("publish out", "there is no command 'publish' (it is a step of a recipe, which `loratools run RECIPE` does)"),
        ("train --rank 32", "no such option: --rank (write --dim)"),
        ("insepct A", "(did you mean 'inspect'?)"),
    ],
)
def test_what_other_tools_call_it_is_answered_with_what_to_write(words: str, message: str) -> None:
    result = CliRunner().invoke(LazyGroup("loratools"), words.split(), prog_name="loratools")
    assert result.exit_code == 2
    assert message in " ".join(result.output.split())


@pytest.mark.parametrize("name", ["merge", "resize", "extract"])
def test_the_answers_name_options_that_are_there_and_hide_none(name: str) -> None:
    command = importlib.import_module(f"loratools.cli.lora.{name}").command
    assert isinstance(command, Command) and command.elsewhere
    flags = {flag for option in command.params for flag in option.opts}
    assert not flags & set(command.elsewhere)
    written = {answer.split()[1] for answer in command.elsewhere.values() if answer.startswith("write -")}
    assert written <= flags
