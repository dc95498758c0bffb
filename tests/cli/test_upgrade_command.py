"""`polyencoders upgrade`: an index told to use the new model, or left alone, with the figures either way."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from polyencoders import BiEncoder
from polyencoders.index import Index
from polyencoders.training import TrainingOptions

Run = Callable[..., tuple[int, str, str]]
WORDS = ["amber", "birch", "cedar", "delta", "ember", "fjord", "grove", "heath"]
TEXTS = [f"{first} {second}" for first in WORDS for second in WORDS]


def _write(path: Path, pairs: list[tuple[str, str]]) -> None:
    path.write_text("".join(json.dumps({"query": query, "positive": text}) + "\n" for query, text in pairs))


def test_upgraded_or_refused(run: Run, tiny_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # So small a model has far to go.
    options = TrainingOptions(steps=60, learning_rate=2e-2, evaluate_every=30, patience=None)
    monkeypatch.setattr(
        "polyencoders.training.upgrade.ways", lambda freeze, seed, steps: [replace(options, steps=steps)]
    )
    torch.manual_seed(0)
    model = BiEncoder(tiny_backbone, query_map=True, normalize=True)
    with torch.no_grad():  # turned away from the answers, which training can undo
        model.route("query")[2].linear.weight.copy_(torch.linalg.qr(torch.randn(16, 16))[0])  # type: ignore
    model.save_pretrained("bi")
    (tmp_path / "answers.txt").write_text("\n".join(TEXTS))
    assert run("index", "create", "answers", "--data", "answers.txt", "--model", "bi")[0] == 0
    pairs = [(f"{before} {text}", text) for text in TEXTS for before in ("hello", "please")]
    _write(tmp_path / "pairs.jsonl", pairs)
    _write(tmp_path / "held-out.jsonl", [(f"now {text}", text) for text in TEXTS])
    _write(tmp_path / "wrong.jsonl", [(f"now {text}", TEXTS[63 - i]) for i, text in enumerate(TEXTS)])

    arguments = ("upgrade", "--index", "answers", "--data", "pairs.jsonl", "--steps", 90)
    code, out, err = run(*arguments, "--held-out", "wrong.jsonl")
    assert code == 1
    assert err.startswith("polyencoders: not upgraded: on 64 held-out queries MRR@100 differs by ")
    assert "answers is as it was" in err
    assert "before" in out
    assert Index.open("answers").maker.name == str(tmp_path / "bi")  # type: ignore[union-attr]
    assert not list(tmp_path.glob("answers-model*"))

    code, out, err = run(*arguments, "--held-out", "held-out.jsonl", "--output", "new")
    assert code == 0, err
    assert "answers is searched with new from now on" in out
    assert Index.open("answers").maker.name == str(tmp_path / "new")  # type: ignore[union-attr]
    assert run("search", "answers", "--query", "amber birch")[0] == 0


def test_without_labels(run: Run, tiny_backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = TrainingOptions(steps=60, learning_rate=2e-2, evaluate_every=30, patience=None)
    monkeypatch.setattr("polyencoders.training.upgrade.ways", lambda freeze, seed, steps: [options])
    torch.manual_seed(0)
    model = BiEncoder(tiny_backbone, query_map=True, normalize=True)
    model.save_pretrained("teacher")  # a bi-encoder can teach too, and is quick
    with torch.no_grad():
        model.route("query")[2].linear.weight.copy_(torch.linalg.qr(torch.randn(16, 16))[0])  # type: ignore
    model.save_pretrained("bi")
    (tmp_path / "answers.txt").write_text("\n".join(TEXTS))
    assert run("index", "create", "answers", "--data", "answers.txt", "--model", "bi")[0] == 0
    (tmp_path / "log.txt").write_text("".join(f"{word} {text}\n" for text in TEXTS for word in ("hello", "please")))

    arguments = ("upgrade", "--index", "answers", "--queries", "log.txt")
    code, out, err = run(*arguments, "--teacher", "teacher")
    assert code == 0, err
    assert "What is right is the judgement of teacher, not of people." in out
    assert "26 held-out queries" in " ".join(out.split())
    assert "answers is searched with" in out

    assert "give --data FILE, or --teacher MODEL" in run(*arguments)[2]
    both = (*arguments, "--teacher", "teacher", "--held-out", "log.txt")
    assert "--held-out with --data" in run(*both)[2]
    assert "10 held-out queries can confirm nothing" in run(*arguments, "--teacher", "teacher", "--most-queries", 50)[2]
