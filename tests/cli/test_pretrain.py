"""`polyencoders pretrain` as people run it: a backbone that `train` takes, and one clear line for what goes wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., tuple[int, str, str]]


def test_pretrain_then_train(run: Run, tiny_backbone: str, tmp_path: Path) -> None:
    talks = [{"turns": [f"turn {i}", f"what is {i} and {i}?", f"it is {2 * i}"]} for i in range(20)]
    (tmp_path / "talks.jsonl").write_text("".join(json.dumps(talk) + "\n" for talk in talks))
    pretrain = ["pretrain", "--data", "talks.jsonl", "--backbone", tiny_backbone, "--output", "backbone"]
    pretrain[1:1] = ["--objective", "masked"]
    small = ["--steps", 3, "--batch-size", 4, "--max-length", 24]
    code, out, err = run(*pretrain, *small)
    assert code == 0, err
    assert "18 conversations to train on, 2 to validate on" in out
    assert "next utterance told" in out

    code, _, err = run(*pretrain, *small)
    assert code == 1
    assert "holds a backbone already" in err
    assert run(*pretrain, *small, "--overwrite", "--from-scratch")[0] == 0

    pairs = [{"query": talk["turns"][:2], "positive": talk["turns"][2]} for talk in talks]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    train = ["train", "--data", "pairs.jsonl", "--backbone", "backbone", "--output", "model", "--steps", 2]
    code, _, err = run(*train, "--batch-size", 4)
    assert code == 0, err
    assert (tmp_path / "model" / "modules.json").exists()

    code, _, err = run(*pretrain[:-1], "model")
    assert code == 1
    assert "other things in it" in err


def test_contexts_and_next_utterances_of_two_files(run: Run, tiny_backbone: str, tmp_path: Path) -> None:
    for name, what in (("one", "tea"), ("two", "rain")):
        talks = [[f"{what} {i}?", f"no, {i} and {i}", f"then {i + 1}"] for i in range(10)]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(talk) + "\n" for talk in talks))
    pretrain = ["pretrain", "--data", "one.jsonl", "--data", "two.jsonl", "--backbone", tiny_backbone]
    small = ["--output", "backbone", "--steps", 2, "--batch-size", 4, "--max-length", 24]
    code, out, err = run(*pretrain, *small)
    assert code == 0, err
    assert "18 conversations to train on, 2 to validate on" in out
    assert "next utterance" in out
    code, _, err = run(*pretrain, *small, "--from-scratch")
    assert code == 2
    assert "new weights are trained by --objective masked" in err
    code, _, err = run(*pretrain, *small, "--overwrite", "--objective", "masked", "--hard-negatives")
    assert code == 2
    assert "they are of --objective contrastive" in err
    train = ["train", "--data", "pairs.jsonl", "--backbone", "backbone", "--output", "model", "--steps", 2]
    (tmp_path / "pairs.jsonl").write_text("".join(f'{{"query": "{i}?", "positive": "{i}!"}}\n' for i in range(20)))
    code, _, err = run(*train, "--batch-size", 4)
    assert code == 0, err
    assert json.loads((tmp_path / "model" / "config_sentence_transformers.json").read_text())
