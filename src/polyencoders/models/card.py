"""Writes the model card: what a model is, how it scores, how to use it, and how it was trained.

No path of the machine gets into a card.
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
pip install polyencoders
```

```python
from polyencoders import {architecture}

model = {architecture}("{name}")
model.rank(["Any plans for the weekend?", "Hiking, if it stays dry."], ["Which trail?", "I like tea."], top_k=1)
```

A query is a text or a list of turns, the oldest first; what does not fit is cut from the oldest end.
{training}
## Sources

- Samuel Humeau, Kurt Shuster, Marie-Anne Lachaux, Jason Weston: *Poly-encoders: Transformer Architectures and
  Pre-training Strategies for Fast and Accurate Multi-sentence Scoring*, ICLR 2020, arXiv 1905.01969.
"""


def write_card(model: Any, path: Path, model_name: str | None) -> None:
    """Write `README.md` into a model's directory. A card that was loaded with the model stays until it is trained."""
    text = model.card_text
    if text is None or model.training_record is not None:
        text = _card(model, model_name)
    elif name := _hub_name(model_name):
        text = text.replace(_UNNAMED, name)
    (path / "README.md").write_text(text, encoding="utf-8")


def _card(model: Any, model_name: str | None) -> str:
    base_model, record = _hub_name(model.model_card_data.base_model), model.training_record
    return _TEMPLATE.format(
        tag=model.architecture.lower(),
        base_model_entry=f"base_model: {base_model}\n" if base_model else "",
        name=_hub_name(model_name) or model.model_card_data.model_id or _UNNAMED,
        architecture=model.architecture,
        built_on=f" built on [{base_model}](https://huggingface.co/{base_model})" if base_model else "",
        summary=model.summary,
        properties=_rows(model.card_properties()),
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
