"""What a launched process makes of a step that was planned elsewhere: the same, or a refusal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loratools.errors import LaunchError, OptionError, RecipeError
from loratools.launch.launcher import Launcher
from loratools.recipe.plan.context import KeptModel, RunContext
from loratools.recipe.plan.planner import Planner
from loratools.recipe.plan.step import Outcome, Planned
from loratools.recipe.run import launched
from loratools.recipe.run.launched import Made, StepLauncher, _arguments, launching, make_launched
from loratools.recipe.run.runner import make_planner, run_steps
from loratools.tune.problem.effort import QUICK
from loratools.yamlio import Document
from tests.recipe.conftest import save_lora

HOUSE = "blocks: {SOFT: [0.5, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]}\nlora_dirs: kept\n"
RECIPE = """\
include: house/house.yaml
vars: {weight: 0.5}
processes: 2
steps:
  half: {merge: "a:${weight}:SOFT", out: half.safetensors}
  both: {merge: "half:1, a:-0.25", out: both.safetensors}
"""


@pytest.fixture
def planner(here: Path) -> Planner:
    (here / "house/kept").mkdir(parents=True)
    (here / "house/house.yaml").write_text(HOUSE)
    save_lora(here / "house/kept/a.safetensors", 0)
    (here / "r.yaml").write_text(RECIPE)
    planner = make_planner("r.yaml", Path("work"), "pocket", {"weight": "0.75"})
    planner.outs["both"] = (here / "elsewhere.safetensors").absolute()
    return planner


def sent(planner: Planner, name: str) -> dict[str, object]:
    """What a launched process reads from its job's file."""
    planned = planner.plan([name]) and planner.step(name)
    value: dict[str, object] = json.loads(json.dumps(_arguments(planned, planner, RunContext(device="cpu"))))
    return value


def test_the_same_recipe_gives_the_same_step_with_variables_includes_and_outs(planner: Planner, here: Path) -> None:
    arguments = sent(planner, "both")
    run_steps(planner.plan(["half"]), planner.work, RunContext())
    done = make_launched(**arguments)  # type: ignore[arg-type]
    planned = planner.step("both")
    assert done["summary"] and done["memory"] > 0 and (here / "elsewhere.safetensors").is_file()
    assert run_steps(planner.plan(), planner.work, RunContext(force=True))[-1].planned.key == planned.key


def test_other_files_on_another_machine_are_found_before_anything_is_made(planner: Planner, here: Path) -> None:
    arguments = sent(planner, "half")
    save_lora(here / "house/kept/a.safetensors", 1)
    with pytest.raises(LaunchError, match="the step 'half' reads other things here than in the process that started"):
        make_launched(**arguments)  # type: ignore[arg-type]
    (here / "house/kept/a.safetensors").unlink()
    with pytest.raises(RecipeError, match=r"r.yaml, line 5: steps.half.merge.*'a'"):
        make_launched(**arguments)  # type: ignore[arg-type]
    assert not (here / "work/half.safetensors").exists()


def test_the_steps_of_one_launched_process_share_the_base_that_is_loaded(
    planner: Planner, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[KeptModel] = []

    def make(planned: Planned, context: RunContext) -> Made:
        kept.append(context.kept)
        return Made(Outcome(""), 1)

    monkeypatch.setattr(launched, "make_here", make)
    for _ in range(2):
        make_launched(**sent(planner, "half"))  # type: ignore[arg-type]
    assert kept[0] is kept[1]


def test_a_document_comes_back_from_json_with_its_places(planner: Planner) -> None:
    document = planner.document
    again = Document.of_json(json.loads(json.dumps(document.json())))
    assert again == document and again.where(("steps", "both")) == document.where(("steps", "both"))


def test_processes_and_launch_are_no_part_of_what_a_file_says_of_itself(planner: Planner) -> None:
    lineage = planner.plan(["half"])[0].lineage
    assert lineage is not None and "processes" not in lineage.data


def test_one_process_launches_nothing_and_a_judge_of_ones_own_cannot_be_sent(planner: Planner) -> None:
    with launching(StepLauncher(Launcher(1), planner), RunContext(), print) as steps:
        assert steps is None
    with launching(None, RunContext(), print) as steps:
        assert steps is None
    context = RunContext(judge=lambda *given: None)  # type: ignore[arg-type,return-value]
    with (
        pytest.raises(LaunchError, match="a judge of one's own is a function of this process"),
        launching(StepLauncher(Launcher(2), planner), context, print),
    ):
        pass


def test_what_a_killed_run_left_of_its_jobs_is_deleted(planner: Planner) -> None:
    left = planner.work / ".loratools/launch/abcd/1"
    left.mkdir(parents=True)
    with launching(StepLauncher(Launcher(2), planner), RunContext(), print) as steps:
        assert steps is not None and steps.slots == (0, 1) and not left.exists()
        assert [steps.processes(step) for step in planner.plan()] == [0, 0]


def test_which_steps_are_launched(here: Path) -> None:
    save_lora(here / "a.safetensors", 0)
    (here / "r.yaml").write_text(
        "base: pocket\nsteps:\n"
        "  pictures: {draw: {style: ink, count: 3}}\n"
        "  style: {train: {images: pictures, batch_size: 4}}\n"
        "  base_style: {basestyle: {batch_size: 2}}\n"
        "  few: {grid: {rows: a, weights: 1, prompts: smile}}\n"
        "  many: {grid: {rows: a, weights: '0.5, 1', prompts: smile, seeds: [1, 2, 3, 4, 5, 6]}}\n"
        "  package: {publish: {lora: a}}\n"
        "  tuned: {tune: {lora: 'a:1:GP1', symptom: hands, prompts: [smile, hat, red hair, ink], quick: true}}\n"
    )
    planner = make_planner("r.yaml", Path("work"))
    for launcher, package in ((Launcher(2), 1), (Launcher(command=("x",)), 0)):
        with launching(StepLauncher(launcher, planner), RunContext(), print) as steps:
            assert steps is not None
            found = {step.name: steps.processes(step) for step in planner.plan()}
        assert found == {
            "pictures": 0,
            "style": 4,
            "base_style": 2,
            "few": 1,
            "many": 2,
            "package": package,
            "tuned": QUICK.population * QUICK.shots // 8,  # a process for every eight pictures of a generation
        }


@pytest.mark.parametrize("jobs", [0, -1])
def test_no_jobs_at_all_are_refused_and_not_waited_for(jobs: int, planner: Planner) -> None:
    with pytest.raises(OptionError, match=f"jobs {jobs}: write a whole number from 1"):
        run_steps(planner.plan(), planner.work, RunContext(), jobs=jobs)
