"""`polyencoders export`, and `--export` of the commands that train: a directory that runs without PyTorch."""

from pathlib import Path
from typing import Annotated, Any

from rich.markup import escape
from typer import Option

from polyencoders.cli.architectures import resolve_backbone
from polyencoders.cli.display import console
from polyencoders.cli.options import Model

QUERIES = 200  # Held-out queries that a precision is tried on, at most


def export(
    model: Model,
    output: Annotated[Path, Option(help="The directory to write. It appears whole, or not at all.")],
    precision: Annotated[
        str,
        Option(
            help="`float32`: the same numbers. `int8`: a quarter of the size, and faster; of an encoder the query side "
            "alone, unless --document-precision says more. `bf16`: on OpenVINO."
        ),
    ] = "float32",
    document_precision: Annotated[
        str | None,
        Option(
            help="Of the document side. [default: float32, which makes the vectors that the model itself makes; any "
            "other wants an index of its own]"
        ),
    ] = None,
    engine: Annotated[str, Option(help="`onnx` (ONNX Runtime) or `openvino`.")] = "onnx",
    data: Annotated[
        str | None,
        Option(help="Examples to try a precision on: how many of the ten best documents of their queries stay."),
    ] = None,
    keep_at_least: Annotated[
        float, Option(help="Refuse a precision that keeps a smaller fraction of the ten best.", min=0, max=1)
    ] = 0.9,
) -> None:
    """Write a model as a directory that searches, reranks and serves without PyTorch.

    Its numbers are compared with PyTorch's before it is called done.

    Examples:

        polyencoders export models/mine --output models/mine-onnx

        polyencoders export models/mine --output models/mine-int8 --precision int8 --data held-out.jsonl
    """
    from polyencoders.encoders import load
    from polyencoders.encoders.calibration import Calibration
    from polyencoders.models import load_model

    queries, documents = _examples(data) if data is not None else ([], [])
    name = resolve_backbone(model)
    # Not `load`: it would take the graphs that lie beside the weights.
    loaded = load(name) if Path(name, "export.json").exists() else load_model(name)
    calibration = Calibration.read(name)
    write_export(
        loaded,
        output,
        precision=precision,
        document_precision=document_precision,
        engine=engine,
        queries=queries,
        documents=documents,
        keep_at_least=keep_at_least,
    )
    if calibration is not None:
        calibration.write(output)


def write_export(model: Any, output: Path, **options: Any) -> None:
    """Export a model, and print what came of it."""
    from polyencoders.errors import ModelError
    from polyencoders.export import export_model
    from polyencoders.runtime import ExportedEncoder, ExportedPairScorer

    if isinstance(model, ExportedEncoder | ExportedPairScorer):
        raise ModelError("this model is an exported one already: export the PyTorch model that it was made from")
    with console.status("exporting, and comparing with PyTorch"):
        done = export_model(model, output, **options)
    kept = (
        f"; {done.kept:.1%} of the ten best documents of {len(options['queries']):,} queries stay" if done.kept else ""
    )
    console.print(
        f"[green]✓[/] {escape(str(output))}: {done.bytes / 1e6:,.0f} MB, largest difference to PyTorch "
        f"{done.difference:.1e}{kept}",
        soft_wrap=True,
    )
    console.print(
        f"Next, without PyTorch: polyencoders rank {escape(str(output))} --query '...' --documents FILE", soft_wrap=True
    )


def _examples(data: str) -> tuple[list[Any], list[str]]:
    """Queries of the data, and the documents to rank for them: the corpus, or all answers and candidates there are."""
    from polyencoders.data import read_source

    source = read_source(data)
    examples = source.examples_of("test")[:QUERIES]
    answers = [text for one in examples for text in (*one.positives, *one.negatives, *(one.candidates or ()))]
    documents = list(source.corpus) if source.corpus else list(dict.fromkeys(answers))
    return [one.query for one in examples], documents
