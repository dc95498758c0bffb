"""What people see while they wait: one console, one kind of progress bar, and quiet libraries.

Knows the terminal and the trainer's callbacks; nothing of models.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback
from transformers.utils import logging as transformers_logging

from polyencoders.cli import is_first

console = Console(quiet=not is_first())
"""Of several processes that train together, the first's alone speaks."""


def quieten() -> None:
    """Silence what libraries print of their own accord; warnings of ours stay."""
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"torch|transformers|sentence_transformers|accelerate")


@contextmanager
def progress() -> Iterator[Progress]:
    """A progress bar with what is left of the time; it goes when it is done."""
    columns = (
        TextColumn("[progress.description]{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        yield bar


@contextmanager
def resumable() -> Iterator[None]:
    """Turn an interruption into a word of comfort: what was done is kept."""
    try:
        yield
    except KeyboardInterrupt:
        console.print("interrupted; the same command goes on where it stopped")
        raise SystemExit(130) from None


class TrainingProgress(TrainerCallback):
    """A run's progress: a bar for each kind of text encoded before it, then one for its steps, at each rate anew."""

    def __init__(self, bar: Progress, description: str = "training") -> None:
        self.bar = bar
        self.description = description
        self.encoding: dict[str, TaskID] = {}
        self.pairs: TaskID | None = None
        self.steps: TaskID | None = None
        self.latest = ""

    def on_texts(self, what: str, done: int, total: int) -> None:
        """As `train` calls it."""
        if what not in self.encoding:
            self.encoding[what] = self.bar.add_task(f"encoding {what}", total=total)
        self.bar.update(self.encoding[what], completed=done, total=total)

    def on_pairs(self, done: int, total: int) -> None:
        """As `distill` calls it."""
        if self.pairs is None:
            self.pairs = self.bar.add_task("pairs scored by the teacher", total=total)
        self.bar.update(self.pairs, completed=done, total=total)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.latest = ""
        if self.steps is None:
            self.steps = self.bar.add_task(self._doing(args), total=state.max_steps)
        self.bar.reset(self.steps, total=state.max_steps, completed=state.global_step, description=self._doing(args))

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if self.steps is not None:
            self.bar.update(self.steps, completed=state.global_step, description=self._doing(args))

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        for name, value in (metrics or {}).items():
            if name == args.metric_for_best_model:
                self.latest = f" ({name.removeprefix('eval_')} {value:.3f})"

    def _doing(self, args: Any) -> str:
        return f"{self.description}, learning rate {args.learning_rate:g}{self.latest}"


def advancing(bar: Progress, description: str, total: int) -> Callable[[int], None]:
    """A function that moves a new bar on by a number."""
    task = bar.add_task(description, total=total)
    return lambda number: bar.update(task, advance=number)
