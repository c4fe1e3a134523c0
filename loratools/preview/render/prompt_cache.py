"""Prompts encoded once for every state of the text encoders."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from contextlib import AbstractContextManager

from loratools.base.model import Base
from loratools.base.patching.patch import Patcher
from loratools.base.prompt.guidance import PromptConditioning
from loratools.base.prompt.prompt_encoding import PromptEncoder, encode_prompts
from loratools.preview.plan.jobs import Job, Stack

Encode = Callable[
    [Base, Sequence[str], int, int], Sequence[PromptConditioning]
]  # (base, texts, steps, clip skip) -> guides
Using = Callable[..., AbstractContextManager[None]]  # models -> they are on the device inside the block
_AT_ONCE = 64
_STATES = 512  # stacks whose state is known at least: more than a batch has


class PromptCache:
    """The conditioning of jobs' prompts, under the text encoders as each job's stack patches them.

    Args:
        encode: texts -> conditioning, by the text encoders as they are patched now.
        using: a context manager that has models on the device while they work.
        kept: encoded texts that are kept; more where the jobs at hand have more.
    """

    def __init__(self, base: Base, patcher: Patcher, encode: Encode, using: Using, kept: int = 4096) -> None:
        self._base, self._patcher, self._encode, self._using, self._kept = base, patcher, encode, using, kept
        self._guides: dict[Hashable, PromptConditioning] = {}
        self._states: OrderedDict[Hashable, Hashable] = OrderedDict()  # of the text encoders, by stack

    def of(self, job: Job) -> tuple[PromptConditioning, PromptConditioning]:
        """The conditioning of a job's prompt and negative prompt, which must have been read."""
        state = self._states[job.stack.key]
        positive, negative = (
            self._guides[state, job.settings.steps, job.settings.clip_skip, text]
            for text in (job.prompt, job.settings.negative)
        )
        return positive, negative

    def use(self, encode: Encode) -> None:
        """Encode by ``encode`` from now on; what another way of encoding gave is dropped."""
        if encode is not self._encode and not (_is_plain(encode) and _is_plain(self._encode)):
            self.forget()
        self._encode = encode

    def read(self, stack: Stack, jobs: Sequence[Job]) -> None:
        """Encode the prompts of ``jobs``, all of ``stack``, which must be patched."""
        wanted: dict[tuple[int, int], list[str]] = {}
        for job in jobs:
            wanted.setdefault((job.settings.steps, job.settings.clip_skip), []).extend(
                (job.prompt, job.settings.negative)
            )
        state = self._patcher.text_state
        self._note(stack, state)
        for (steps, skip), texts in wanted.items():
            missing = [text for text in dict.fromkeys(texts) if (state, steps, skip, text) not in self._guides]
            for start in range(0, len(missing), _AT_ONCE):
                part = missing[start : start + _AT_ONCE]
                with self._using(*self._base.text_encoders):
                    guides = self._encode(self._base, part, steps, skip)
                self._guides |= {(state, steps, skip, text): g for text, g in zip(part, guides, strict=True)}
        while len(self._guides) > max(self._kept, 2 * len(jobs)):
            del self._guides[next(iter(self._guides))]

    def read_alone(self, jobs: Sequence[Job]) -> None:
        """Encode the prompts of ``jobs``, all of one stack, unless all are known; patches the text encoders alone."""
        stack = jobs[0].stack
        if all(self._knows(job) for job in jobs):
            self._note(stack, self._states[stack.key])
            return
        self._patcher.patch(stack.text_part, stack.weight, stack.keys_by_module)
        self.read(stack, jobs)

    def _note(self, stack: Stack, state: Hashable) -> None:
        """Keep a stack's state as the last one used; those of long ago go."""
        self._states[stack.key] = state
        self._states.move_to_end(stack.key)
        while len(self._states) > max(self._kept, _STATES):
            self._states.popitem(last=False)

    def forget(self) -> None:
        """Drop everything."""
        self._guides.clear()
        self._states.clear()

    def _knows(self, job: Job) -> bool:
        state = self._states.get(job.stack.key)
        return state is not None and all(
            (state, job.settings.steps, job.settings.clip_skip, text) in self._guides
            for text in (job.prompt, job.settings.negative)
        )


def _is_plain(encode: Encode) -> bool:
    """Whether it gives what every base gives by itself, without embeddings."""
    return encode is encode_prompts or (isinstance(encode, PromptEncoder) and encode.embeddings is None)
