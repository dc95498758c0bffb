"""Every architecture on the built-in conversations: all of the backbone tuned, and codes and maps on a frozen one.

    python benchmarks/compare.py            # about an hour on two cores; goes on where it stopped
    python benchmarks/compare.py --quick    # under a minute; shows that it runs, and nothing else

Writes benchmarks/results/compare.{json,jsonl,png,md}; the last line printed is the summary as one JSON object.
"""

from __future__ import annotations

from report import RESULTS, parser

# isort: split
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

from polyencoders.cli import compare
from polyencoders.cli.comparison_table import table
from polyencoders.training import TrainingOptions

TUNED = ("bi", "bi-attention", "poly-4", "poly-16", "poly-first-16", "arc-ii", "cross", "cross-warm")
FROZEN = ("bi", "bi-attention", "poly-4", "poly-16")


def markdown(summary: dict[str, Any]) -> str:
    """The table in Markdown, with the machine it was measured on."""
    shown = table(summary)
    header = [str(column.header) for column in shown.columns]
    cells = zip(*(column.cells for column in shown.columns), strict=True)
    lines = ["| " + " | ".join(map(str, line)) + " |" for line in (header, ["---"] * len(header), *cells)]
    where = ", ".join(f"{name} {value}" for name, value in summary["machine"].items())
    notes = f"\n{shown.caption}. (frozen): codes and maps alone were trained.\n\nMeasured on: {where}.\n"
    return "\n".join([*lines, notes])


def main() -> None:
    command = parser(__doc__)
    command.add_argument("--work", type=Path, default=Path("models/compare"), help="where models are kept")
    command.add_argument("--seeds", type=int, nargs="+", default=[0], help="every architecture is trained with each")
    arguments = command.parse_args()
    if arguments.quick:
        with tempfile.TemporaryDirectory() as folder:
            options = TrainingOptions(steps=2, batch_size=8, validation_queries=8, candidates=4)
            plan = compare.Plan(
                "chitchat",
                architectures=("bi", "poly-4"),
                options=options,
                train_examples=64,
                queries=20,
                corpus=100,
                sizes=(100,),
            )
            summary = compare.run(plan, Path(folder), plot=False)
        print(json.dumps(summary))
        return
    frozen = TrainingOptions(steps=1500, freeze="backbone", learning_rate=1e-4, validation_queries=300)
    tuned = TrainingOptions(steps=100, validation_queries=200, evaluate_every=25)
    plans = (
        compare.Plan("chitchat", architectures=FROZEN, seeds=arguments.seeds, options=frozen, train_examples=8_000),
        compare.Plan("chitchat", architectures=TUNED, seeds=arguments.seeds, options=tuned, cross_negatives=7),
    )
    for plan in plans:
        summary = compare.run(plan, arguments.work)
    RESULTS.mkdir(exist_ok=True)
    for name in ("compare.json", "compare.jsonl", "compare.png"):
        shutil.copy(arguments.work / name, RESULTS / name)
    (RESULTS / "compare.md").write_text(markdown(summary), encoding="utf-8")
    print(json.dumps(summary))


if __name__ == "__main__":
    main()
