"""The ladder of quick pictures goes down after several slow ones, size by size, and never up again."""

from __future__ import annotations

from loratools.preview.record.cells import SamplingSettings
from loratools.studio.live.ladder import GPU_LIMITS, LIMITS, RUNGS, Ladder, smaller

SLOW, QUICK = 2.0, 0.1


def test_it_goes_down_after_two_slow_pictures_in_a_row_and_stays() -> None:
    ladder = Ladder()
    for seconds in (SLOW, QUICK, SLOW, QUICK):
        ladder.took((512, 512), seconds)
    assert ladder.rung((512, 512)) is RUNGS[0]
    for _ in range(20):
        ladder.took((512, 512), SLOW)
    assert ladder.rung((512, 512)) is RUNGS[-1]
    for _ in range(20):
        ladder.took((512, 512), QUICK)
    assert ladder.rung((512, 512)) is RUNGS[-1] and ladder.rung((1024, 1024)) is RUNGS[0]


def test_every_rung_but_the_last_has_a_limit_and_a_gpu_keeps_to_what_is_quick_there() -> None:
    assert len(LIMITS) == len(GPU_LIMITS) == len(RUNGS) - 1
    for limits, seconds, rung in ((LIMITS, 0.3, 0), (GPU_LIMITS, 0.09, 0), (GPU_LIMITS, 0.12, 1), (GPU_LIMITS, 0.3, 2)):
        ladder = Ladder(limits)
        for _ in range(20):
            ladder.took((512, 512), seconds)
        assert ladder.rung((512, 512)) is RUNGS[rung]


def test_a_small_picture_is_not_made_smaller() -> None:
    ladder = Ladder()
    for _ in range(20):
        ladder.took((128, 128), SLOW)
    assert ladder.rung((128, 128)) is RUNGS[-2]


def test_a_rung_takes_no_more_steps_than_the_whole_picture_and_whole_latents() -> None:
    whole = SamplingSettings(3, 7.0, "Euler", (520, 776))
    assert RUNGS[0].settings(whole, 8) == whole
    assert RUNGS[-1].settings(whole, 8).size == (256, 384)
    assert smaller((8, 64), 4, 8) == (8, 16)
