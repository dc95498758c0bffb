"""The command line and the report of a stress test."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))
from report import Report, parser, table

Counts = dict[str, Any]
"""What one part counted, and under `problems` what went wrong, a line each."""


class Part(NamedTuple):
    """A part of a stress test, and its title in the report."""

    run: Callable[..., Counts]
    title: str


def run(
    name: str,
    title: str,
    documentation: str | None,
    parts: Mapping[str, Part],
    packages: Sequence[str],
    start: Callable[..., Counts],
    numbers: Sequence[str] = (),
) -> None:
    """Run the parts that the command line names, and report. Exits with 1 if there were problems.

    Parameters
    ----------
    name, packages
        Of the `Report`.
    title, documentation
        Of the report, and of the command.
    parts
        All parts, by name.
    start
        Runs a part, given a seed, whether to be quick, and `numbers`.
    numbers
        Names of options that are numbers; None where they are not given.
    """
    command = parser(documentation, parts)
    command.add_argument("--seed", type=int, default=0)
    for option in numbers:
        command.add_argument(f"--{option}", type=int)
    arguments = command.parse_args()
    given = {option: getattr(arguments, option) for option in numbers}
    report = Report(name, packages, arguments.quick, f"tests/stress/{name}.py")
    for part in arguments.parts:
        print(f"… {parts[part].title}", file=sys.stderr)
        started = time.monotonic()
        counts = start(parts[part], arguments.seed, arguments.quick, **given)
        report.keep({part: {**counts, "seconds": round(time.monotonic() - started)}})
    found = {part: report.results[part] for part in parts if part in report.results}
    lines = []
    for part, counts in found.items():
        rows = [(key, _shown(len(value) if key == "problems" else value)) for key, value in counts.items()]
        problems = [f"- {' '.join(problem.split())[-700:]}" for problem in counts["problems"]]
        lines += [f"## {parts[part].title}", "", *table(("", ""), rows), *problems, *[""] * bool(problems)]
    total = sum(len(counts["problems"]) for counts in found.values())
    summary = {part: {key: counts[key] for key in counts if key != "problems"} for part, counts in found.items()}
    report.publish(title, lines, {"problems": total, **summary})
    sys.exit(total > 0)


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}: {number:,}" for key, number in sorted(value.items()))
    return f"{value:,}" if isinstance(value, int) else str(value)
