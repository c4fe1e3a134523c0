"""Pairs joined to groups: copies of one picture, and variants of one scene."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from loratools.dataset.similar.pairs import Pair


@dataclass(frozen=True)
class Groups:
    """Groups of indices, each in order, the first member's order being that of the groups.

    Attributes:
        duplicates: the same picture several times.
        variants: the same scene with something changed; of copies only the first is in it.
        said_by: of each group of variants, who says so: a site's id, or ``look``.
    """

    duplicates: tuple[tuple[int, ...], ...]
    variants: tuple[tuple[int, ...], ...]
    said_by: tuple[str, ...]


def find_groups(count: int, pairs: Iterable[Pair], sites: Mapping[int, str], first_of: Sequence[int]) -> Groups:
    """Join pairs.

    Args:
        count: of pictures.
        sites: of pictures that a site names as variants of one another, the group's id by index.
        first_of: rank of each picture: of copies the lowest stands for all.
    """
    copies = _Joined(count)
    scenes = _Joined(count)
    pairs = list(pairs)
    for pair in pairs:
        if pair.kind == "duplicate":
            copies.join(pair.first, pair.second)
    kept = {min(group, key=lambda one: first_of[one]) for group in copies.groups()}
    stands_for = {one: min(group, key=lambda each: first_of[each]) for group in copies.groups() for one in group}
    for pair in pairs:
        if pair.kind == "variant":
            scenes.join(stands_for[pair.first], stands_for[pair.second])
    by_site: Mapping[str, list[int]] = defaultdict(list)
    for index, name in sorted(sites.items()):
        by_site[name].append(stands_for[index])
    for members in by_site.values():
        for other in members[1:]:
            scenes.join(members[0], other)
    duplicates = tuple(group for group in copies.groups() if len(group) > 1)
    variants = [group for group in scenes.groups() if len(group) > 1 and set(group) <= kept]
    names = (next((sites[one] for one in group if one in sites), "look") for group in variants)
    return Groups(duplicates, tuple(variants), tuple(names))


class _Joined:
    """Union-find over ``count`` indices."""

    def __init__(self, count: int) -> None:
        self._parent = list(range(count))

    def root(self, one: int) -> int:
        while self._parent[one] != one:
            self._parent[one] = self._parent[self._parent[one]]
            one = self._parent[one]
        return one

    def join(self, one: int, other: int) -> None:
        first, second = sorted((self.root(one), self.root(other)))
        self._parent[second] = first

    def groups(self) -> list[tuple[int, ...]]:
        members: Mapping[int, list[int]] = defaultdict(list)
        for one in range(len(self._parent)):
            members[self.root(one)].append(one)
        return [tuple(group) for group in members.values()]
