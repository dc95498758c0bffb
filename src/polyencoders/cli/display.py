"""What people see while they wait: one console, progress bars, and quiet libraries."""

import logging
import os
import shutil
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn, TimeRemainingColumn
from rich.text import Text


def is_first() -> bool:
    """Tell whether this is the first of the processes that torchrun started. Does not need PyTorch."""
    return os.environ.get("RANK", "0") == "0"


console = Console(quiet=not is_first())  # Prints in the first of several processes that train together, and in no other


def quieten() -> None:
    """Silence what libraries print of their own accord. Our own warnings stay."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    if "transformers" in sys.modules:  # which read the two when it was imported
        from transformers.utils import logging as transformers_logging

        transformers_logging.disable_progress_bar()
        transformers_logging.set_verbosity_error()
    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"torch|transformers|sentence_transformers|accelerate")


@contextmanager
def progress(*columns: ProgressColumn) -> Iterator[Progress]:
    """A progress bar with the time that is left; it disappears when it is done."""
    shown = (BarColumn(), *(columns or (MofNCompleteColumn(),)), TimeRemainingColumn())
    with Progress("{task.description}", *shown, console=console, transient=True, speed_estimate_period=60) as bar:
        yield bar


def document_progress() -> AbstractContextManager[Progress]:
    """A progress bar of documents, with their rate."""
    return progress(TextColumn("{task.completed:,} documents"), _Rate())


class _Rate(ProgressColumn):
    """Documents a second."""

    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:,.0f}/s" if task.speed else "")


def advancing(bar: Progress, description: str, total: int | None) -> Callable[[int], None]:
    """Return a function that advances a new bar by a number."""
    task = bar.add_task(description, total=total)
    return lambda number: bar.update(task, advance=number)


@contextmanager
def resumable() -> Iterator[None]:
    """Turn an interruption into one line that says that nothing is lost."""
    try:
        yield
    except KeyboardInterrupt:
        console.print("interrupted; the same command goes on where it stopped")
        raise SystemExit(130) from None


def shortened(text: str, most: int) -> str:
    """The text, cut to a number of characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def suggest(commands: Mapping[str, str]) -> None:
    """Print commands that may come next, each with what it does, as they can be copied."""
    called = Path(sys.argv[0])
    here = called.name == "polyencoders" and not shutil.which("polyencoders")  # as in an environment that is not active
    for command, what in commands.items():
        command = f"{called.parent}/{command}" if here and command.startswith("polyencoders ") else command
        console.print(f"  [bold]{escape(command)}[/]\n      {escape(what)}", highlight=False, soft_wrap=True)
