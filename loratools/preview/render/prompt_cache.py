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
        kept: encoded texts that are kept, those used last; more where the jobs at hand have more.
    """

    def __init__(self, base: Base, patcher: Patcher, encode: Encode, using: Using, kept: int = 4096) -> None:
        self._base, self._patcher, self._encode, self._using, self._kept = base, patcher, encode, using, kept
        self._guides: OrderedDict[Hashable, PromptConditioning] = OrderedDict()  # the one used last at the end
        self._states: OrderedDict[Hashable, Hashable] = OrderedDict()  # of the text encoders, by stack

    def of(self, job: Job) -> tuple[PromptConditioning, PromptConditioning]:
        """The conditioning of a job's prompt and negative prompt, which must have been read."""
        positive, negative = (self._guides[key] for key in self._keys(job))
        return positive, negative

    def use(self, encode: Encode) -> None:
        """Encode by ``encode`` from now on; what another way of encoding gave is dropped."""
        if encode is not self._encode and not (_is_plain(encode) and _is_plain(self._encode)):
            self.forget()
        self._encode = encode

    def read(self, stack: Stack, jobs: Sequence[Job], together: int = 0) -> None:
        """Encode the prompts of ``jobs``, all of ``stack``, which must be patched.

        Args:
            together: pictures of one batch, whose prompts all stay, where the batch has other stacks too.
        """
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
        self._used(jobs)
        while len(self._guides) > max(self._kept, 2 * max(together, len(jobs))):
            self._guides.popitem(last=False)

    def read_alone(self, jobs: Sequence[Job], together: int = 0) -> None:
        """Encode the prompts of ``jobs``, all of one stack, unless all are known; patches the text encoders alone.

        Args:
            together: as for :meth:`read`.
        """
        stack = jobs[0].stack
        if all(self._knows(job) for job in jobs):
            self._note(stack, self._states[stack.key])
            self._used(jobs)
            return
        self._patcher.patch(stack.text_part, stack.weight, stack.keys_by_module)
        self.read(stack, jobs, together)

    def _used(self, jobs: Sequence[Job]) -> None:
        """What these pictures need goes last, were it encoded long ago: a negative prompt is that of many pictures."""
        for job in jobs:
            for key in self._keys(job):
                self._guides.move_to_end(key)

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
        return job.stack.key in self._states and all(key in self._guides for key in self._keys(job))

    def _keys(self, job: Job) -> tuple[Hashable, Hashable]:
        """Of a job's prompt and negative prompt; the state of its stack's text encoders must be known."""
        state, settings = self._states[job.stack.key], job.settings
        positive, negative = (
            (state, settings.steps, settings.clip_skip, text) for text in (job.prompt, settings.negative)
        )
        return positive, negative


def _is_plain(encode: Encode) -> bool:
    """Whether it gives what every base gives by itself, without embeddings."""
    return encode is encode_prompts or (isinstance(encode, PromptEncoder) and encode.embeddings is None)
