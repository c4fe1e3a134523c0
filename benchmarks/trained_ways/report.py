"""The table of what each way came to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.trained_ways.case_run import KEEP, REPAIRED
from loratools.tune.report.columns import BASE, BEFORE


def report(done: Sequence[Mapping[str, Any]]) -> str:
    """The results as Markdown."""
    if not done:
        return "# Ways that train, after a search\n\nNothing has been measured yet.\n"
    taken = [way for one in done for way in one["then"] if way["helped"]]
    right = [way for way in taken if way["table"]["change"][_defect(done, way)]["mean"] < 0]
    lines = [
        "# Ways that train, after a search: measured on the pocket base",
        "",
        "LoRAs that are overfit to one defect (12 drawings, 10 epochs), tuned by `blocks tune`, then followed by "
        f"`--then`. Figures are the judge's means ± standard errors over {done[0]['pictures']} pictures of prompts and "
        "seeds that neither the search nor a way nor its acceptance saw. *Repaired*: at least "
        f"{100 * REPAIRED:.0f} % of the excess over the base is gone, {100 * KEEP:.0f} % of the style is kept, tags "
        "lose no more than two standard errors.",
        "",
        f"- Repaired by the search: {sum(one['search']['repaired'] for one in done)} of {len(done)}; with what "
        f"followed: {sum(one['judged']['repaired'] for one in done)}.",
        f"- Taken: {len(taken)} ways of {sum(len(one['then']) for one in done)}, of which {len(right)} were better "
        "here too.",
        "",
        "| LoRA | base | whole | search: defect / style / tags | way | way: defect / style / tags | taken | repaired |",
        "|---|---|---|---|---|---|---|---|",
        *(row for one in done for row in _rows(one)),
        "",
    ]
    return "\n".join(lines)


def line(one: Mapping[str, Any]) -> str:
    """A case in a line."""
    return f"{one['case']} {'+'.join(one['ways'])}: " + "; ".join(way["reason"] for way in one["then"])


def _defect(done: Sequence[Mapping[str, Any]], way: Mapping[str, Any]) -> str:
    return next(str(one["defect"]) for one in done if any(own is way for own in one["then"]))


def _rows(one: Mapping[str, Any]) -> list[str]:
    columns, defect = one["columns"], one["defect"]

    def cell(column: str, *names: str) -> str:
        if column not in columns:
            return "-"
        own = [columns[column][name] for name in names]
        return " / ".join(
            f"{each['mean']:.2f}" + ("" if each["standard_error"] is None else f" ± {each['standard_error']:.2f}")
            for each in own
        )

    rows = []
    for way in one["then"]:
        cells = [one["case"], cell(BASE, defect), cell(BEFORE, defect)]
        cells += [cell(one["search"]["answer"], defect, "style", "tags"), way["way"]]
        cells += [cell(way["column"] or "", defect, "style", "tags"), "yes" if way["helped"] else f"no: {_why(way)}"]
        own = way.get("table", one["search"])
        rows.append(f"| {' | '.join([*cells, 'yes' if own['repaired'] else 'no'])} |")
    return rows


def _why(way: Mapping[str, Any]) -> str:
    """The part of the reason that says what was lacking."""
    text = str(way["reason"]).rpartition(";")[0]
    return text.rpartition(": ")[2] if way["column"] is None else text.rpartition(", ")[2]
