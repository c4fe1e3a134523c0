"""Which picture is drawn next: the newest of a stream, quick ones first, and everybody in turn."""

from __future__ import annotations

import random

from loratools.studio.live.schedule import Job, Schedule
from loratools.studio.live.wish import PictureWish, Quality, SamplingWish


def job(stream: int, seq: int, quality: Quality = "drag", page: int = 1) -> Job:
    return Job(page, stream, seq, PictureWish((), "pocket", SamplingWish(), quality), f"{stream}-{seq}")


def begun(schedule: Schedule) -> Job:
    made = schedule.start()
    assert made is not None
    return made


def test_the_newest_wish_of_a_stream_is_the_only_one_that_waits() -> None:
    schedule = Schedule()
    first = job(2, 1)
    assert not schedule.put(first) and begun(schedule) is first and schedule.start() is None
    first.done, first.steps = 3, 6
    for seq in (2, 3, 4):
        assert not schedule.put(job(2, seq))  # half done: it is finished
    assert [own.seq for own in schedule.waiting()] == [4]
    assert schedule.finish() is first and begun(schedule).seq == 4


def test_a_quick_picture_gives_way_once_between_two_frames_while_less_than_half_done() -> None:
    schedule = Schedule()
    schedule.put(job(2, 1))
    first = begun(schedule)
    first.done, first.steps = 2, 6
    assert schedule.put(job(2, 2)) and not schedule.put(job(2, 3))  # it was told already
    assert schedule.stop() is first
    second = begun(schedule)
    assert second.seq == 3 and not schedule.put(job(2, 4))  # a hand that never rests sees this one
    schedule.finish()
    assert begun(schedule).seq == 4 and schedule.put(job(2, 5))


def test_whole_pictures_wait_behind_quick_ones_and_give_way_to_them_and_come_again() -> None:
    schedule = Schedule()
    schedule.put(job(0, 1, "rest"))
    whole = begun(schedule)
    assert schedule.put(job(2, 2))
    schedule.stop()
    assert begun(schedule).seq == 2
    schedule.finish()
    assert begun(schedule) is whole and not whole.leaving
    schedule.put(job(1, 3, "rest"))
    schedule.finish()
    schedule.put(job(2, 4))
    assert [begun(schedule).seq, schedule.finish().seq, begun(schedule).seq] == [4, 4, 3]


def test_another_pages_hand_cannot_keep_a_whole_picture_away_for_ever() -> None:
    schedule = Schedule()
    schedule.put(job(0, 1, "rest"))
    yields = 0
    for seq in range(2, 30):
        running = begun(schedule)
        if not schedule.put(job(2, seq, page=2)):
            break
        schedule.stop()
        assert begun(schedule).page == 2
        schedule.finish()
        yields += 1
    assert running.seq == 1 and yields == 3 and schedule.finish() is running


def test_a_newer_wish_ends_a_whole_picture_of_its_stream_but_a_whole_one_lets_the_quick_one_finish() -> None:
    schedule = Schedule()
    schedule.put(job(2, 1, "rest"))
    begun(schedule)
    assert schedule.put(job(2, 2, "rest"))
    assert schedule.stop().seq == 1 and begun(schedule).seq == 2
    schedule.finish()
    schedule.put(job(2, 3))
    begun(schedule)
    assert not schedule.put(job(2, 4, "rest"))
    schedule.finish()
    assert begun(schedule).seq == 4


def test_pages_take_turns_and_so_do_their_streams() -> None:
    schedule, order = Schedule(), []
    for page, stream in ((1, 2), (1, 3), (1, 4), (2, 2)):
        schedule.put(job(stream, 1, page=page))
    for seq in range(2, 10):
        own = begun(schedule)
        order.append((own.page, own.stream))
        schedule.finish()
        schedule.put(job(own.stream, seq, page=own.page))
    assert [page for page, _ in order] in ([1, 2] * 4, [2, 1] * 4)
    assert [stream for page, stream in order if page == 1] == [2, 3, 4, 2]


def test_what_is_cancelled_or_gone_is_not_drawn_again() -> None:
    schedule = Schedule()
    schedule.put(job(0, 1, "rest"))
    running = begun(schedule)
    assert schedule.skip(1, 0) and not schedule.skip(1, 0) and running.unwanted
    schedule.stop()
    assert schedule.start() is None
    schedule.put(job(0, 2, "rest"))
    schedule.put(job(1, 3, "rest"))
    begun(schedule)
    assert schedule.forget(1)
    schedule.stop()
    assert schedule.start() is None and not schedule.waiting()


def test_nothing_new_is_drawn_for_a_stream_whose_page_has_not_caught_up() -> None:
    schedule = Schedule()
    schedule.hold(1, 2, True)
    schedule.put(job(2, 1))
    assert schedule.start() is None
    schedule.put(job(3, 2))
    assert begun(schedule).stream == 3
    schedule.finish()
    schedule.hold(1, 2, False)
    assert begun(schedule).stream == 2


def test_any_order_of_events_ends_with_every_streams_last_wish() -> None:
    for seed in range(200):
        rng, schedule = random.Random(seed), Schedule()
        last: dict[tuple[int, int], int] = {}
        shown: dict[tuple[int, int], int] = {}
        for seq in range(1, 60):
            if rng.random() < 0.6:
                page, stream, quality = rng.randint(1, 2), rng.randint(0, 3), rng.choice(("drag", "rest"))
                last[page, stream] = seq
                schedule.put(job(stream, seq, "drag" if quality == "drag" else "rest", page))
            step(rng, schedule, shown)
        for _ in range(400):
            step(rng, schedule, shown)
        assert shown == last, seed


def step(rng: random.Random, schedule: Schedule, shown: dict[tuple[int, int], int]) -> None:
    if schedule.running is None:
        schedule.start()
    elif schedule.running.leaving and rng.random() < 0.7:
        schedule.stop()
    elif rng.random() < 0.5:
        own = schedule.finish()
        assert own.seq >= shown.get((own.page, own.stream), 0)
        shown[own.page, own.stream] = own.seq
    else:
        schedule.running.done, schedule.running.steps = schedule.running.done + 1, 6
