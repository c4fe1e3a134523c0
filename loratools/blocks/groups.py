"""Words for blocks: a name (``OUT03``, ``MID``, ``TE``), a group (``IN``), a range (``OUT04-OUT08``), all (``*``).

Those of an unknown model are ``layers.03``, ``layers`` and ``layers.00-layers.09``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from loratools.blocks.scheme import DeclaredScheme, NumberedScheme, Scheme
from loratools.errors import BlockError, did_you_mean

_GROUPS = {"DOUBLE": "D", "SINGLE": "S", "DOUBLES": "D", "SINGLES": "S"}
_EVERYTHING = ("*", "ALL", "")


def expand(word: str, scheme: Scheme, within: Sequence[str] | None = None) -> tuple[str, ...]:
    """The blocks that ``word`` means, in the scheme's order.

    Args:
        scheme: the family's full scheme.
        within: what groups and ranges may reach; all blocks by default. A block's own name always counts.
    Raises:
        BlockError: if the scheme has no such block or group, or a range runs backwards.
    """
    reach = scheme.names if within is None else tuple(name for name in scheme.names if name in within)
    if word.strip().upper() in _EVERYTHING:
        if isinstance(scheme, NumberedScheme) and not scheme.names:
            raise BlockError(f"'{word}' of a model that no table knows is told by its file alone; name each block")
        return reach
    first, dash, last = word.partition("-")
    if dash:
        if isinstance(scheme, NumberedScheme):
            return _numbered_range(scheme, first, last, reach)
        return tuple(name for name in _range(scheme, first, last) if name in reach)
    if group := _group(word, scheme, reach):
        return group
    return (scheme.block_name(word if isinstance(scheme, NumberedScheme) else _near_group(word, scheme)),)


def is_group(word: str, scheme: Scheme) -> bool:
    """Whether ``word`` means several blocks: a group or a range, not one block's name."""
    return word.strip().upper() in _EVERYTHING or "-" in word or bool(_group(word, scheme, scheme.names))


def groups_of(scheme: Scheme) -> tuple[str, ...]:
    """The group words that the scheme has: what stands before the numbers of two blocks or more."""
    if isinstance(scheme, NumberedScheme):
        containers = [name.rpartition(".")[0] for name in scheme.names if "." in name]
        return tuple(dict.fromkeys(container for container in containers if containers.count(container) > 1))
    stems = [match[1] for name in scheme.names if (match := re.fullmatch(r"([A-Z]+)\d+", name))]
    return tuple(dict.fromkeys(stem for stem in stems if stems.count(stem) > 1))


def _group(word: str, scheme: Scheme, reach: Sequence[str]) -> tuple[str, ...]:
    if isinstance(scheme, NumberedScheme):
        container = word.strip().lower().replace(".", "_")
        container = scheme.container(container) if isinstance(scheme, DeclaredScheme) else container
        return tuple(name for name in reach if "." in name and name.rpartition(".")[0] == container)
    stem = _GROUPS.get(word.strip().upper(), word.strip().upper())
    if stem in scheme.names or stem not in groups_of(scheme):
        return ()
    return tuple(name for name in reach if re.fullmatch(rf"{stem}\d+", name))


def _range(scheme: Scheme, first: str, last: str) -> tuple[str, ...]:
    begin = scheme.block_name(first)
    stem = re.match(r"[A-Z]+", begin)
    last = f"{stem[0]}{int(last):02d}" if last.strip().isdigit() and stem else last
    finish = scheme.block_name(last)
    if begin not in scheme.names or finish not in scheme.names:
        raise BlockError(f"{scheme.title} lists no blocks in order, so '{first}-{last}' says nothing; name each block")
    start, end = scheme.names.index(begin), scheme.names.index(finish)
    if end < start:
        raise BlockError(f"the range '{first}-{last}' runs backwards; write {last.strip()}-{first.strip()}")
    return scheme.names[start : end + 1]


def _numbered_range(scheme: NumberedScheme, first: str, last: str, reach: Sequence[str]) -> tuple[str, ...]:
    """``layers.00-layers.09`` or ``layers.00-09``: of a file, the blocks of the range that it has, else all of it."""
    begin = scheme.block_name(first)
    container, _, number = begin.rpartition(".")
    finish = scheme.block_name(f"{container}.{last}" if last.strip().isdecimal() else last)
    if finish.rpartition(".")[0] != container or not container:
        raise BlockError(f"the range '{first}-{last}' should go from one number of a container to another of the same")
    start, end = int(number), int(finish.rpartition(".")[2])
    if end < start:
        raise BlockError(f"the range '{first}-{last}' runs backwards; write {last.strip()}-{first.strip()}")
    for name in (begin, finish):
        if scheme.names and name not in scheme.names:
            raise BlockError(
                f"the range '{first}-{last}' ends at {name}, which the file lacks; its blocks are {scheme.listing}"
            )
    if not scheme.names:
        return tuple(f"{container}.{index:02d}" for index in range(start, end + 1))
    return tuple(
        name for name in reach if name.rpartition(".")[0] == container and start <= int(name.rpartition(".")[2]) <= end
    )


def _near_group(word: str, scheme: Scheme) -> str:
    """``word`` itself; a word of letters alone that is near a group's name is an error that says so."""
    groups = groups_of(scheme)
    if word.strip().isalpha() and word.strip().upper() not in ("MID", "TE", *scheme.names):
        hint = did_you_mean(word, (*groups, *scheme.names, "MID", "TE"))
        raise BlockError(
            f"{scheme.title} has no block or group '{word}'{hint}; groups are {' '.join(groups) or 'none'}, "
            f"blocks are {' '.join(scheme.names)}"
        )
    return word
