"""The progress of a training run on the terminal."""

from typing import Any

from rich.progress import Progress, TaskID
from transformers import TrainerCallback


class TrainingProgress(TrainerCallback):
    """One bar for each kind of text encoded before the run, then one for its steps, which restarts at each rate."""

    def __init__(self, bar: Progress, description: str = "training") -> None:
        self.bar = bar
        self.description = description
        self.tasks: dict[str, TaskID] = {}
        self.latest = ""

    def on_texts(self, what: str, done: int, total: int) -> None:
        """Called by `train` for the texts that it encodes."""
        self._count(f"encoding {what}", done, total)

    def on_pairs(self, done: int, total: int) -> None:
        """Called by `distill` for the pairs that the teacher scores."""
        self._count("pairs scored by the teacher", done, total)

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self.latest = ""
        self._count("steps", 0, state.max_steps)
        self.bar.reset(self.tasks["steps"], completed=state.global_step)
        self.on_step_end(args, state, control)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        doing = f"{self.description}, learning rate {args.learning_rate:g}{self.latest}"
        self.bar.update(self.tasks["steps"], completed=state.global_step, description=doing)

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any = None, **kwargs: Any) -> None:
        for name, value in (metrics or {}).items():
            if name == args.metric_for_best_model:
                self.latest = f" ({name.removeprefix('eval_')} {value:.3f})"

    def remove(self) -> None:
        """Remove the bars."""
        for task in self.tasks.values():
            self.bar.remove_task(task)

    def _count(self, what: str, done: int, total: int) -> None:
        if what not in self.tasks:
            self.tasks[what] = self.bar.add_task(what, total=total)
        self.bar.update(self.tasks[what], completed=done, total=total)
