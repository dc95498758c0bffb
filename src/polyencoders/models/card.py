"""Writes the model card: what a model is and is for, how it scores, how to use it, and how it was trained.

No path of the machine gets into a card. `polyencoders evaluate --card` fills in the results.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

_UNNAMED = "path/to/this/model"

_TEMPLATE = """\
---
library_name: polyencoders
pipeline_tag: text-ranking
tags:
- sentence-transformers
- polyencoders
- {tag}
- text-ranking
- retrieval
{base_model_entry}---

# {name}

A {architecture}{built_on}, made with [polyencoders](https://pypi.org/project/polyencoders/). {summary}

| | |
|---|---|
{properties}

## Usage

```bash
pip install "polyencoders[train]"
```

```python
from polyencoders import {architecture}

model = {architecture}("{name}")
model.rank(["Any plans for the weekend?", "Hiking, if it stays dry."], ["Which trail?", "I like tea."], top_k=1)
```

A query is a text or a list of turns, the oldest first; what does not fit is cut from the oldest end.

Without PyTorch, {without}:

```bash
{commands}
```

## What it is for

{good_for}

It is not for decisions about people; nor for languages or kinds of text that it was not trained on, unless you measure
it there; nor for saying whether any document answers at all: a score compares documents of one query, and is no
probability.

## Results

<!-- results:begin -->
On held-out data none yet: `polyencoders evaluate DIRECTORY --data held-out.jsonl --card` puts them here.
<!-- results:end -->
{training}
## Sources

- Samuel Humeau, Kurt Shuster, Marie-Anne Lachaux, Jason Weston: *Poly-encoders: Architectures and
  Pre-training Strategies for Fast and Accurate Multi-sentence Scoring*, ICLR 2020, arXiv 1905.01969.
"""
_EXPORT = "pip install polyencoders\npolyencoders rank {where} --query 'Any plans?' --documents answers.txt"
_STORED = """\
Finding the best of many documents, which are encoded once and stored, for a question or a conversation; and reranking
what a search engine found. It is not for comparing texts of one kind with each other, as in clustering: queries and
documents are encoded differently."""
_READ = """\
Reranking some dozens of documents that another model or a search engine found. It reads every pair, so it is not for
searching many."""


def write_card(model: Any, path: Path, model_name: str | None) -> None:
    """Write `README.md` into a model's directory. A card that was loaded with the model stays until it is trained."""
    text = model.card_text
    if text is None or model.training_record is not None:
        text = _card(model, model_name, exported=(path / "onnx").is_dir())
    elif name := _hub_name(model_name):
        text = text.replace(_UNNAMED, name)
    (path / "README.md").write_text(text, encoding="utf-8")


def _card(model: Any, model_name: str | None, exported: bool) -> str:
    base_model, record = _hub_name(model.model_card_data.base_model), model.training_record
    name = _hub_name(model_name) or model.model_card_data.model_id or _UNNAMED
    export = "" if exported else f"polyencoders export {name} --output exported    # once, where PyTorch is\n"
    return _TEMPLATE.format(
        tag=model.architecture.lower(),
        base_model_entry=f"base_model: {base_model}\n" if base_model else "",
        name=name,
        architecture=model.architecture,
        built_on=f" built on [{base_model}](https://huggingface.co/{base_model})" if base_model else "",
        summary=model.summary,
        properties=_rows(model.card_properties()),
        without="the graphs in `onnx/` are taken" if exported else "from an exported copy",
        commands=export + _EXPORT.format(where=name if exported else "exported"),
        good_for=_STORED if hasattr(model, "encode_documents") else _READ,
        training="" if record is None else f"\n## Training\n\n| | |\n|---|---|\n{_rows(record)}\n",
    )


def _rows(properties: Mapping[str, Any]) -> str:
    cells = ((name, str(value).replace("\n", "\\n").replace("|", "\\|")) for name, value in properties.items())
    return "\n".join(f"| {name} | {value} |" for name, value in cells)


def _hub_name(name: str | None) -> str | None:
    """Return the name if it can be one on a hub: `owner/model`, and not a path of this machine."""
    if not name or Path(name).is_absolute() or Path(name).exists() or name.count("/") > 1 or name.startswith("."):
        return None
    return name
