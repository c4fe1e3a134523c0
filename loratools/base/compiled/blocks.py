"""A UNet whose repeated blocks are compiled: one function for each structure and size of block, not one for the whole.

Compiling a whole UNet takes most of a minute for every number of rows. Its transformer blocks are many of a few kinds,
and hold most of what a compiler can fuse.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from loratools.base.compiled.store import Compiled, CompiledStore
from loratools.base.compiled.trace import Arguments, BlockFunction, structure
from loratools.base.model import Base
from loratools.base.sampling.sample import AddedConditions, plain_unet

_log = logging.getLogger(__name__)
KINDS = ("BasicTransformerBlock",)
_FAR = 0.02  # of the output's norm: a compiled block that differs more from torch's is wrong, not rounded


class CompiledUNet:
    """The base's UNet as a function, its blocks compiled when they are first called.

    Where compiling fails, blocks run by torch from then on; that is said once, and logged with the reason.

    Args:
        store: what was compiled before, and where more is kept.
        say: called with a line of text when compiling begins, when it is done, and where it fails.
        kinds: class names of the modules that are compiled.
    """

    def __init__(
        self, base: Base, store: CompiledStore, say: Callable[[str], None], *, kinds: tuple[str, ...] = KINDS
    ) -> None:
        self._unet, self._store, self._say = plain_unet(base), store, say
        self._blocks = [module for module in base.unet.modules() if type(module).__name__ in kinds]
        self._structures = {id(block): structure(block) for block in self._blocks}
        self._functions: dict[str, Compiled] = {}
        self._seconds, self._count = 0.0, 0
        self.failed = False

    def __call__(self, latents: Tensor, time: Tensor, hidden: Tensor, added: AddedConditions) -> Tensor:
        """As :data:`~loratools.base.sampling.sample.UNet`."""
        with self._installed():
            predicted = self._unet(latents, time, hidden, added)
        if self._count and not self.failed:
            self._say(
                f"compiled {self._count} kinds of blocks in {self._seconds:.0f} s; "
                f"the next start reads them from {self._store.folder}"
            )
            self._count, self._seconds = 0, 0.0
        return predicted

    @contextlib.contextmanager
    def _installed(self) -> Iterator[None]:
        if self.failed:
            yield
            return
        before = [vars(block).get("forward") for block in self._blocks]
        for block in self._blocks:
            block.forward = partial(self._run, block)
        try:
            yield
        finally:
            for block, earlier in zip(self._blocks, before, strict=True):
                if earlier is None:
                    del block.forward
                else:
                    block.forward = earlier

    def _run(self, block: nn.Module, *args: Any, **kwargs: Any) -> Any:
        if not self.failed:
            own, arguments = BlockFunction(block, self._structures[id(block)]), Arguments.of(args, kwargs)
            function = self._function(own, arguments)
            if function is not None:
                output = function(*own.tensors, *arguments.tensors)[0]
                return output if kwargs.get("return_dict", True) else (output,)
        return type(block).forward(block, *args, **kwargs)

    def _function(self, own: BlockFunction, arguments: Arguments) -> Compiled | None:
        """A block's compiled function for such arguments; None where compiling fails."""
        key = own.key(arguments)
        if key not in self._functions:
            try:
                self._functions[key] = self._made(key, own, arguments)
            except torch.OutOfMemoryError:
                raise
            except Exception as error:  # the compiler raises what it likes; torch's own kernels do the same work
                self.failed = True
                _log.warning("compiling failed, and blocks run without: %s", error, exc_info=True)
                self._say(f"compiling failed ({_short(error)}); going on without it")
                return None
        return self._functions[key]

    def _made(self, key: str, own: BlockFunction, arguments: Arguments) -> Compiled:
        """The compiled function, kept on disk or made now, and compared with torch's."""
        start = time.perf_counter()
        function = self._store.get(key)
        if function is None:
            if not self._count:
                self._say("compiling the UNet's blocks, once for this size; it takes up to a minute")
            function = self._compiled(own, arguments)
            self._store.put(key, function)
            self._count += 1
            self._seconds += time.perf_counter() - start
        self._check(function, own, arguments)
        return function

    @staticmethod
    def _compiled(own: BlockFunction, arguments: Arguments) -> Compiled:
        from torch._inductor import standalone_compile

        tensors: list[Any] = [*own.tensors, *arguments.tensors]
        with _without_hints():
            made: Compiled = standalone_compile(own.trace(arguments), tensors, dynamic_shapes="from_example_inputs")
        return made

    @staticmethod
    def _check(function: Compiled, own: BlockFunction, arguments: Arguments) -> None:
        """Raise ArithmeticError if the compiled function is not what torch computes."""
        expected = own(arguments).float()
        far = (function(*own.tensors, *arguments.tensors)[0].float() - expected).norm()
        if not float(far) <= _FAR * max(float(expected.norm()), 1e-6):
            raise ArithmeticError(f"a compiled block's output is {float(far / expected.norm()):.2g} off")


@contextlib.contextmanager
def _without_hints() -> Iterator[None]:
    """The compiler is silent about kernels that it may not choose among: a line for each convolution."""
    logger = logging.getLogger("torch._inductor.select_algorithm")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)


def _short(error: Exception) -> str:
    """The first line of an error's text, for a person."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]
