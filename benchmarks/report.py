"""What the benchmarks share: options, the machine line, Markdown tables, figures, and files in `benchmarks/results`.

It sets environment variables that PyTorch and the model hub read when they are imported, so import it before them.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
CACHE = ROOT / "benchmarks" / "cache"


def parser(documentation: str | None, parts: Iterable[str] = ()) -> argparse.ArgumentParser:
    """A command line with `--quick` and, if the benchmark has parts, `--parts`."""
    made = argparse.ArgumentParser(description=documentation, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--quick", action="store_true", help="a small run of less than a minute; writes no results")
    if names := list(parts):
        made.add_argument("--parts", nargs="*", choices=names, default=names, help="none: only write the report again")
    return made


class Report:
    """The results of one benchmark.

    Parameters
    ----------
    name
        The name of the files in `benchmarks/results`.
    packages
        The installed packages whose versions are reported.
    quick
        Whether to write nothing, and to ignore earlier results.
    script
        The path of the command, from the project's root. By default `benchmarks/NAME.py`.
    """

    def __init__(self, name: str, packages: Sequence[str] = (), quick: bool = False, script: str | None = None) -> None:
        self.path, self.packages, self.quick = RESULTS / name, packages, quick
        self.script = script or f"benchmarks/{name}.py"
        kept = self.path.with_suffix(".json")
        self.results: dict[str, Any] = json.loads(kept.read_text("utf-8")) if kept.exists() and not quick else {}

    def keep(self, results: Mapping[str, Any]) -> None:
        """Add results, with the machine they come from, and write all of them to NAME.json."""
        self.results |= results
        if not self.quick:
            self.results["machine"] = machine(self.script, *self.packages)
            self.path.parent.mkdir(exist_ok=True)
            self.path.with_suffix(".json").write_text(json.dumps(self.results, indent=1) + "\n", encoding="utf-8")

    def publish(
        self,
        title: str,
        lines: Iterable[str],
        summary: Any,
        figure: Callable[[Path], object] | None = None,
        blocks: Callable[[], object] | None = None,
    ) -> None:
        """Print the report, and the summary as the last line. A full run also writes NAME.md.

        Parameters
        ----------
        title, lines
            The report, in Markdown. The machine line is added below the title.
        summary
            What the last line shows, as JSON.
        figure
            Draws into a path, NAME.png.
        blocks
            Writes tables into the documentation; see `put`.
        """
        about = [machine_line(self.results["machine"]), ""] if "machine" in self.results else []
        text = "\n".join([f"# {title}", "", *about, *lines]).rstrip() + "\n"
        print(text)
        if not self.quick:
            self.path.with_suffix(".md").write_text(text, encoding="utf-8")
            if figure:
                figure(self.path.with_suffix(".png"))
            if blocks:
                blocks()
        print(json.dumps(summary))


def machine(script: str, *packages: str) -> dict[str, str]:
    """The command, the processor, the kernel and the versions of packages that results depend on."""
    from polyencoders.scoring import search_path

    cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8").split("model name\t: ")[1].split("\n")[0]
    return {
        "command": f"python {script}",
        "processor": f"{cpu}, {os.cpu_count()} cores",
        "kernel": search_path(),
        "python": platform.python_version(),
    } | {name: version(name) for name in packages}


def machine_line(about: Mapping[str, str]) -> str:
    """The machine, in Markdown."""
    return ", ".join(f"`{name}: {value}`" for name, value in about.items())


def table(header: Sequence[object], rows: Iterable[Sequence[object]]) -> list[str]:
    """The lines of a Markdown table, and an empty one after it."""
    lines = ["|" + "|".join(f" {cell} " if cell != "" else " " for cell in cells) + "|" for cells in (header, *rows)]
    return [lines[0], "|" + "---|" * len(header), *lines[1:], ""]


def put(name: str, lines: Sequence[str], *pages: str) -> None:
    """Replace what stands between `<!-- NAME:begin -->` and `<!-- NAME:end -->` in pages of the project."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    text = "\n".join(lines).rstrip("\n")
    for page in pages:
        path = ROOT / page
        before, rest = path.read_text(encoding="utf-8").split(begin)
        after = rest.split(end)[1]
        path.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")


@contextmanager
def figure(path: Path, panels: int, width: float, height: float, **options: Any) -> Iterator[tuple[Any, Sequence[Any]]]:
    """A figure and its panels, side by side, each `width` inches wide. It is saved to the path when the block ends."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    size = (panels * width, height)
    drawn, axes = pyplot.subplots(1, panels, figsize=size, layout="constrained", squeeze=False, **options)
    yield drawn, axes[0]
    drawn.savefig(path, dpi=130)
    pyplot.close(drawn)
