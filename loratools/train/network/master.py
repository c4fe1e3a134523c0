"""One weight of a base that is trained whole: what the optimiser moves, and what the base computes with.

Three cases. In float32 they are one tensor. With mixed precision the optimiser moves a float32 master, and the base
holds its rounded copy. With ``weights: bf16`` the base's bfloat16 is all there is: it is widened to float32 for the
moment of its own step, and rounded stochastically afterwards.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor, nn

from loratools.train.network.rounding import round_stochastically


class Master:
    """A trained weight.

    Args:
        live: the base's own parameter, on its device, in the type that is computed in.
        exact: the same weight in float32, where ``live`` is a rounded copy and the exact one is to be trained; None
            where ``live`` is what is trained.

    Attributes:
        leaf: what the optimiser holds, float32 of the weight's shape. With bfloat16 weights it has no memory of its
            own between :meth:`widen` and :meth:`narrow`.
        live: what the base computes with, and what gets gradients.
    """

    def __init__(self, live: nn.Parameter, exact: Tensor | None) -> None:
        self.live = live
        self.narrow_weights = exact is None and live.dtype != torch.float32
        if self.narrow_weights:
            self.leaf = nn.Parameter(self._nothing(), requires_grad=True)
        elif exact is None or live.dtype == torch.float32:
            self.leaf = live
        else:
            self.leaf = nn.Parameter(exact.to(live.device, torch.float32, copy=True), requires_grad=True)

    @property
    def held(self) -> Tensor:
        """The tensor that holds the weight between steps."""
        return self.live if self.narrow_weights else self.leaf

    @torch.no_grad()
    def take_gradient(self) -> None:
        """Move the gradient of ``live`` to ``leaf``, in float32, added to what is there."""
        gradient = self.live.grad
        if gradient is None or self.leaf is self.live:
            return
        self.live.grad = None
        if self.leaf.grad is None:
            self.leaf.grad = gradient.to(torch.float32)
        else:
            self.leaf.grad.add_(gradient)

    @torch.no_grad()
    def widen(self) -> None:
        """Give ``leaf`` the weight, for an optimiser's step."""
        if self.narrow_weights:
            self.leaf.data = self.live.float()

    @torch.no_grad()
    def narrow(self) -> None:
        """Have the base compute with what the optimiser has made of ``leaf``."""
        if self.narrow_weights:
            round_stochastically(self.live, self.leaf)
            self.leaf.data = self._nothing()
        elif self.leaf is not self.live:
            self.live.copy_(self.leaf)

    def _nothing(self) -> Tensor:
        """A tensor of the weight's shape and of no memory to speak of."""
        return torch.zeros((), dtype=torch.float32, device=self.live.device).expand(self.live.shape)


class Masters(Mapping[str, Master]):
    """The weights of one training by name, and what is heard of their gradients.

    Attributes:
        after_gradient: called with a weight whose gradient is complete, while the others' are still computed.
    """

    def __init__(self, masters: Mapping[str, Master]) -> None:
        self._masters = dict(masters)
        self._by_leaf = {id(master.leaf): master for master in self._masters.values()}
        self.after_gradient: Callable[[Master], None] | None = None

    def __getitem__(self, name: str) -> Master:
        return self._masters[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._masters)

    def __len__(self) -> int:
        return len(self._masters)

    def of(self, leaf: nn.Parameter) -> Master:
        """The weight whose ``leaf`` an optimiser holds."""
        return self._by_leaf[id(leaf)]

    @property
    def narrow(self) -> bool:
        """Whether weights are held in bfloat16 alone."""
        return any(master.narrow_weights for master in self.values())

    @torch.no_grad()
    def weights_changed(self) -> None:
        """Have the base compute with the masters as they are now."""
        copies = [master for master in self.values() if master.held is not master.live]
        if copies:
            torch._foreach_copy_([master.live for master in copies], [master.held.detach() for master in copies])

    @contextlib.contextmanager
    def attached(self) -> Iterator[None]:
        """Inside the block a backward pass gives the leaves gradients."""
        hooks = []
        try:
            for master in self.values():
                master.live.requires_grad_(True)
                hook = master.live.register_post_accumulate_grad_hook(self._hear(master))  # type: ignore[no-untyped-call]
                hooks.append(hook)
            yield
        finally:
            for hook in hooks:
                hook.remove()
            for master in self.values():
                master.live.requires_grad_(False)
                master.live.grad = None

    def _hear(self, master: Master) -> Callable[[Tensor], None]:
        def complete(_: Tensor) -> None:
            master.take_gradient()
            if self.after_gradient is not None:
                self.after_gradient(master)

        return complete
