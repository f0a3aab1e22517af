"""Pages that are made from facts: status and parity."""

import json
import platform
from pathlib import Path

import torch

from reid_core.methods import PAPERS
from reid_core.runs.run import BOOK

ROOT = Path(__file__).resolve().parents[1]


def generated(records):
    """{file name: text} of the pages that no hand writes."""
    return {"status.md": status(records), "parity.md": parity()}


def status(records):
    """What ran for this book, what exists, and what does not yet."""
    lines = ["# Status", "", f"Built with torch {torch.__version__}, Python {platform.python_version()}.", ""]
    lines += ["## Pages", "", "| notebook | profile | seconds | state |", "|---|---|---|---|"]
    for source, record in records.items():
        lines.append(
            f"| {source} | {record['profile']} | {record['seconds']:.0f} | {record['failure'] or 'ran'} |"
        )
    lines += ["", "## Methods", "", "| method | state | committed runs |", "|---|---|---|"]
    for name, paper in PAPERS.items():
        state = "runs" if paper.complete else "stages planned and checked, losses to come"
        lines.append(
            f"| {name}: {', '.join(paper.variants)} | {state} | {len(BOOK.load(method=name)) or 'none'} |"
        )
    lines += ["", "## Committed runs", ""]
    return "\n".join(lines + committed_runs()) + "\n"


def committed_runs():
    runs = BOOK.load()
    if not runs:
        return ["None yet: no run is committed before the synthetic world has met its gates."]
    lines = [
        "| run | data | minutes | commit | clean tree | torch | machine |",
        "|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        where = run.provenance
        lines.append(
            f"| {run.spec.name} | {run.data['name']} ({run.data['origin']}) | {run.cost['minutes']} | "
            f"{where['commit'][:10]} | {'yes' if where['clean'] else 'no'} | {where['torch']} | "
            f"{where['device']} |"
        )
    return lines


def parity():
    """Largest difference from published code per golden file, as the tests last measured it."""
    path = ROOT / "results" / "parity.json"
    lines = [
        "# Parity with published code",
        "",
        "Golden inputs and outputs of published code, and float64 evaluations of printed equations where "
        "no code exists,",
        "lie in `tests/parity`. Each line is the largest difference between what the file says and what "
        "this library",
        "computes, relative to the largest magnitude in the array (at least 1).",
        "",
    ]
    if not path.exists():
        return "\n".join([*lines, "Not measured yet."]) + "\n"
    found = json.loads(path.read_text())
    lines += ["| golden file | largest difference | tests |", "|---|---|---|"]
    for name, (worst, tests) in sorted(found["covered"].items()):
        lines.append(
            f"| {name} | {'exact' if worst == 0 else 'facts' if worst is None else f'{worst:.1e}'} | "
            f"{tests} |"
        )
    lines += ["", "## Not covered", "", "| golden file | why |", "|---|---|"]
    lines += [f"| {name} | {why} |" for name, why in sorted(found["not covered"].items())]
    return "\n".join(lines) + "\n"
