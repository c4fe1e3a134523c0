"""Steps in processes of their own beside those in this one: who runs at once, who waits, and what a failure takes."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from loratools.recipe.observer import StepFailure
from loratools.recipe.plan.step import Draft, Outcome, Planned, StepInput
from loratools.recipe.run.scheduler import Places, run_in_order

PATIENCE = 10.0


def step(name: str, kind: str = "train", needs: Sequence[str] = (), most: int = 1) -> Planned:
    inputs = tuple(StepInput(need, Path(need), "", need) for need in needs)
    draft = Draft({}, inputs, lambda out, context: Outcome(""), most_processes=most)
    return Planned(name, kind, draft, Path(name), name, 1, "owner")


def places(count: int) -> Places:
    def processes(planned: Planned) -> int:
        return planned.draft.most_processes if planned.step_kind.loads_model else 0

    return Places(range(count), processes)


class Runs:
    """Notes in which places each step runs, and with which others at once.

    Args:
        together: steps that wait for each other, so that the test fails if they do not run at once.
    """

    def __init__(self, *together: str, failing: Sequence[str] = ()) -> None:
        self.places: dict[str, tuple[int, ...]] = {}
        self.threads: dict[str, threading.Thread] = {}
        self.order: list[str] = []
        self._failing, self._together = failing, together
        self._barrier = threading.Barrier(max(1, len(together)))

    def __call__(self, planned: Planned, slots: Sequence[int]) -> str:
        self.places[planned.name], self.threads[planned.name] = tuple(slots), threading.current_thread()
        if planned.name in self._together:
            self._barrier.wait(PATIENCE)
        self.order.append(planned.name)
        if planned.name in self._failing:
            raise ValueError(planned.name)
        return planned.name


def test_two_trainings_run_at_once_on_devices_of_their_own_and_a_grid_on_both() -> None:
    runs = Runs("one", "two")
    steps = [step("one", most=4), step("two", most=4), step("sheet", "grid", ["one", "two"], most=9)]
    done, failures = run_in_order(steps, runs, places=places(2))
    assert done == ["one", "two", "sheet"] and not failures
    assert sorted([runs.places["one"], runs.places["two"]]) == [(0,), (1,)] and runs.places["sheet"] == (0, 1)


def test_a_place_is_kept_for_a_training_whose_pictures_are_being_drawn() -> None:
    runs = Runs("style", "other")
    steps = [step("pictures", "draw"), step("style", needs=["pictures"], most=2), step("other", "basestyle", most=2)]
    run_in_order(steps, runs, places=places(2))
    assert runs.places["pictures"] == () and {runs.places["style"], runs.places["other"]} == {(0,), (1,)}


def test_a_merge_runs_here_while_a_training_runs_there() -> None:
    runs = Runs("style", "mix")
    done, _ = run_in_order([step("style"), step("mix", "merge")], runs, places=places(1))
    assert sorted(done) == ["mix", "style"] and runs.places["mix"] == () and runs.places["style"] == (0,)


def test_more_steps_than_places_take_turns() -> None:
    runs = Runs()
    done, _ = run_in_order([step(f"s{n}", most=3) for n in range(5)], runs, places=places(2))
    assert done == [f"s{n}" for n in range(5)] and all(len(own) == 1 for own in list(runs.places.values())[:4])


def test_a_launched_step_that_fails_takes_only_what_needs_it() -> None:
    told: list[StepFailure] = []
    steps = [step("hot"), step("after", needs=["hot"]), step("cool"), step("mix", "merge", ["cool"])]
    done, failures = run_in_order(steps, Runs(failing=["hot"]), on_fail=told.append, places=places(2))
    assert done == ["cool", "mix"] and failures == told
    assert failures[0].planned.name == "hot" and failures[0].skipped == ("after",)


def test_processes_are_made_ready_where_the_next_steps_will_run() -> None:
    ready: list[tuple[int, ...]] = []
    prepared = replace(places(2), prepare=ready.extend)
    trained = [step("one"), step("two")]
    run_in_order([*trained, step("sheet", "grid", ["one", "two"], most=9)], Runs("one", "two"), places=prepared)
    assert set(ready) == {(0, 1)}
    ready.clear()
    then = [step("sheet", "grid", ["one", "two"], most=9), step("other", "grid", ["one", "two"], most=9)]
    run_in_order([*trained, *then], Runs("one", "two"), places=prepared)
    assert (0,) in ready and (1,) in ready
    ready.clear()
    run_in_order(trained, Runs("one", "two"), places=prepared)
    assert not ready
    run_in_order([step("pictures", "draw"), step("style", needs=["pictures"])], Runs(), places=prepared)
    assert (0,) in ready  # while pictures are drawn here, although nothing runs there yet


def test_a_step_that_is_stopped_elsewhere_stops_the_run() -> None:
    """A launched training ends so when a file asks it to; the run is neither failed nor waits for ever."""

    def stopped(planned: Planned, slots: Sequence[int]) -> str:
        raise KeyboardInterrupt

    ended: list[type[BaseException]] = []

    def run() -> None:
        try:
            run_in_order([step("one"), step("two", needs=["one"])], stopped, places=places(1))
        except BaseException as error:
            ended.append(type(error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert ended == [KeyboardInterrupt]


def test_without_places_everything_runs_in_the_calling_thread() -> None:
    runs = Runs()
    run_in_order([step("style"), step("mix", "merge", ["style"])], runs)
    assert set(runs.places.values()) == {()} and set(runs.threads.values()) == {threading.current_thread()}
