"""The demo, in small: the story it tells, and the model it leaves."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from polyencoders import PolyEncoder
from polyencoders.cli import demo
from polyencoders.data import Splits, chitchat
from polyencoders.index import Index, verify

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_backbone: str) -> Splits:
    splits = chitchat()
    few = Splits(splits.train[:200], splits.validation[:60], splits.test[:80])
    monkeypatch.setattr("polyencoders.data.chitchat", lambda: few)
    monkeypatch.setattr(demo, "DEFAULT_BACKBONE", tiny_backbone)
    monkeypatch.setenv("POLYENCODERS_CACHE", str(tmp_path / "cache"))
    return few


def test_the_demo_tells_its_story_and_leaves_a_model(
    few: Splits, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "model"
    demo.run(output, train_examples=64, steps=4, test_queries=40)
    said = capfd.readouterr().out
    for part in ("R@1/20", "MRR", "as it comes", "bi-encoder, trained", "poly-encoder, trained"):
        assert part in said
    assert "where the time went" in said
    assert f"polyencoders train --data {tmp_path}/model-pairs.jsonl" in said
    assert "polyencoders train --data chitchat" in said
    assert len(re.findall(r"^    -?\d+\.\d{3}  ", said, re.MULTILINE)) == 3 * demo.CONVERSATIONS
    assert PolyEncoder(output).m == 4
    index = tmp_path / "model-index"
    assert f"polyencoders search {index}" in said
    exported = tmp_path / "model-onnx"
    assert f"polyencoders search {index} --model {exported} --query" in said
    assert "exporting the model" in said.partition("where the time went")[2]
    assert verify(index) == []
    found, again = (Index.open(index, model).search("Any plans?", k=3) for model in (None, str(exported)))
    assert [hit.id for hit in again] == [hit.id for hit in found]
    assert Index.open(index).search("Any plans?", k=1)[0].text in {text for one in few.test for text in one.positives}


def test_its_next_steps_work_when_copied(
    few: Splits, run: Run, tmp_path: Path, capfd: pytest.CaptureFixture[str], tiny_backbone: str
) -> None:
    demo.run(Path("model"), train_examples=64, steps=4, test_queries=40)
    said = capfd.readouterr().out
    steps = [shlex.split(line) for line in re.findall(r"^  polyencoders (.+)$", said, re.MULTILINE)]
    assert [step[0] for step in steps] == ["search", "search", "serve", "index", "train", "train", "compare"]
    for step in [*steps[:2], steps[3], [*steps[4], "--steps", "4", "--backbone", tiny_backbone]]:
        code, _, err = run(*step)
        assert code == 0, f"{step}: {err}"
