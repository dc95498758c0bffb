"""The commands as people run them: what they print, what they leave, and one clear line for what goes wrong."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from polyencoders import BiEncoder, WarmCrossEncoder
from polyencoders.cli import compare
from polyencoders.errors import ModelError

Run = Callable[..., tuple[int, str, str]]

PAIRS = [{"query": [f"turn {i}", f"what is {i} and {i}?"], "positive": f"it is {2 * i}"} for i in range(120)]


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.jsonl"
    path.write_text("".join(json.dumps(pair) + "\n" for pair in PAIRS))
    return path


def test_train_evaluate_and_rank_on_a_file_of_pairs(run: Run, pairs: Path, tiny_backbone: str, tmp_path: Path) -> None:
    model = tmp_path / "model"
    train = ["train", "--data", pairs, "--backbone", tiny_backbone, "--output", model, "--steps", 4, "--batch-size", 8]
    code, out, err = run(*train)
    assert code == 0, err
    assert "validation MRR/24 before" in out
    assert "polyencoders rank" in out
    assert not (model / "checkpoints").exists()

    code, out, err = run("evaluate", model, "--data", pairs, "--candidates", 5, "--output", tmp_path / "report.json")
    assert code == 0, err
    assert "R@1/5" in out
    assert json.loads((tmp_path / "report.json").read_text())["queries"] == 120

    (tmp_path / "documents.txt").write_text("it is 4\nit is 6\nit is 8\n")
    rank = [
        "rank",
        model,
        "--query",
        "turn 2",
        "--query",
        "what is 2 and 2?",
        "--documents",
        tmp_path / "documents.txt",
    ]
    code, out, err = run(*rank, "--top-k", 2, "--json")
    assert code == 0, err
    hits = [json.loads(line) for line in out.splitlines()]
    assert len(hits) == 2
    assert hits[0]["score"] >= hits[1]["score"]
    assert run(*rank)[1].count("it is") == 3

    code, _, err = run(*train)
    assert code == 1
    assert "holds a model already" in err


def test_evaluate_with_a_reranker(run: Run, pairs: Path, tiny_backbone: str, tmp_path: Path) -> None:
    from polyencoders import CrossEncoder

    CrossEncoder(tiny_backbone).save_pretrained(str(tmp_path / "reader"))
    means = []
    for options in ([], ["--rerank", "reader", "--rerank-top", 5, "--rerank-weight", 1e9]):
        report = ["--data", pairs, "--candidates", 5, "--output", "report.json", *options]
        code, out, err = run("evaluate", tiny_backbone, *report)
        assert code == 0, err
        means.append(json.loads(Path("report.json").read_text())["metrics"]["MRR"]["mean"])
    assert "reader has read the best 5 of each query" in out
    run("evaluate", "reader", "--data", pairs, "--candidates", 5, "--output", "report.json")
    alone = json.loads(Path("report.json").read_text())["metrics"]["MRR"]["mean"]
    assert means[1] == pytest.approx(alone), "so large a weight leaves the order to the reader"


def test_a_frozen_backbone_leaves_its_document_vectors(
    run: Run, pairs: Path, tiny_backbone: str, tmp_path: Path
) -> None:
    train = ["train", "--data", pairs, "--backbone", tiny_backbone, "--steps", 3, "--freeze", "backbone"]
    code, out, err = run(*train, "--output", tmp_path / "model")
    assert code == 0, err
    assert "the best of 0.0001 (" in out
    assert "Learning rates tried | 0.0001 (" in (tmp_path / "model" / "README.md").read_text()
    code, out, err = run(*train, "--output", tmp_path / "two", "--learning-rate", 0.002, "--learning-rate", 0.02)
    assert code == 0, err
    assert "the best of 0.002 (" in out
    code, out, err = run(*train, "--output", tmp_path / "one", "--learning-rate", 0.002)
    assert code == 0, err
    assert "the best of" not in out.split("saved")[0]
    # The default: codes averaged into one vector.
    trained, plain = BiEncoder(tmp_path / "model"), BiEncoder(tiny_backbone)
    assert (trained.reduction, trained.m) == ("attention", 4)
    assert abs(trained.encode_document(["it is 4"]) - plain.encode_document(["it is 4"])).max() < 1e-6


def test_a_poly_encoder_is_told_when_one_vector_would_do(
    run: Run, pairs: Path, tiny_backbone: str, tmp_path: Path
) -> None:
    train = ["train", "--data", pairs, "--backbone", tiny_backbone, "--steps", 2]
    code, out, err = run(*train, "--output", tmp_path / "one", "--architecture", "poly-1")
    assert code == 0, err
    assert "its codes averaged" in out
    # Of a single code, the average is the code.
    assert "--architecture bi-attention-1 trains them so" in out
    assert "With its codes averaged" in (tmp_path / "one" / "README.md").read_text()
    code, out, err = run(*train, "--output", tmp_path / "first", "--architecture", "poly-first-1")
    assert code == 0, err
    assert "its codes averaged" in out
    assert "bi-attention" not in out  # which has learnt codes


def test_of_models_that_read_every_pair_a_step_is_smaller(
    run: Run, pairs: Path, tiny_backbone: str, tmp_path: Path
) -> None:
    train = ["train", "--data", pairs, "--backbone", tiny_backbone, "--steps", 2, "--architecture", "cross-warm"]
    code, _, err = run(*train, "--output", tmp_path / "warm")
    assert code == 0, err
    assert "| Steps | 2 of 8 |" in (tmp_path / "warm" / "README.md").read_text()
    assert WarmCrossEncoder(tmp_path / "warm").cross_bias == -2
    code, _, err = run(*train, "--output", tmp_path / "given", "--batch-size", 4)
    assert code == 0, err
    assert "| Steps | 2 of 4 |" in (tmp_path / "given" / "README.md").read_text()


def test_compare_goes_on_where_it_stopped(run: Run, pairs: Path, tiny_backbone: str, tmp_path: Path) -> None:
    output = tmp_path / "compare"
    compare = ["compare", "--data", pairs, "--backbone", tiny_backbone, "--output", output, "--steps", 2]
    compare += ["--batch-size", 8, "--candidates", 3, "--queries", 4]
    code, out, err = run(*compare, "--architectures", "bi,arc-ii")
    assert code == 0, err
    assert "arc-ii" in out
    assert "R@10/12" in out
    before = (output / "compare.jsonl").read_text()
    code, out, err = run(*compare, "--architectures", "bi,arc-ii,poly-2", "--seeds", "0,1")
    assert code == 0, err
    assert (output / "compare.jsonl").read_text().startswith(before)
    summary = json.loads((output / "compare.json").read_text())
    assert {row["name"]: row["seeds"] for row in summary["rows"]} == {
        "as it comes": [0], "bi": [0, 1], "arc-ii": [0, 1], "poly-2": [0, 1],
    }  # fmt: skip
    for row in summary["rows"]:
        assert 0 <= row["metrics"]["R@1/3"]["mean"] <= 1
        assert ("R@10/12" in row["metrics"]) == (row["name"] != "arc-ii")
    assert (output / "compare.png").read_bytes().startswith(b"\x89PNG")

    # Another set's runs into the same folder are no other seeds of these.
    other = tmp_path / "other.jsonl"
    other.write_text("".join(pairs.read_text().splitlines(keepends=True)[:-1]))
    code, out, err = run(*compare, "--data", other, "--architectures", "bi")
    assert (code, err) == (0, "")
    assert "runs on other data or another backbone" in out
    summary = json.loads((output / "compare.json").read_text())
    assert (summary["data"], [row["seeds"] for row in summary["rows"]]) == (str(other), [[0], [0]])


def test_compare_has_cross_warm_by_default() -> None:
    """The documentation and the changelog say so. The command and the library have one default."""
    assert compare.Plan.architectures == ("bi", "bi-attention", "poly-4", "poly-16", "poly-first-16", "cross-warm")
    assert inspect.signature(compare.compare).parameters["architectures"].default.split(",") == [
        *compare.Plan.architectures
    ]


def _fails(run: Run, *arguments: object) -> str:
    """The one line that a failing command says."""
    code, _, err = run(*arguments)
    assert code == 1
    assert err.startswith("polyencoders: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", ":37: "),
        ('{"query": "", "positive": "b"}', ":37: query: the text is empty"),
        ('{"query": 7, "positive": "b"}', ":37: query: expected text or a list of texts, given int 7"),
        ('{"query": "a", "positiv": "b"}', "positiv"),
        ('{"query": "a", "positive": "b", "candidates": ["c"]}', ":37: candidates lack the right answer"),
        (b'{"query": "\xff", "positive": "b"}', ":37: not UTF-8"),
    ],
)
def test_a_bad_line_is_named(run: Run, tmp_path: Path, line: str | bytes, said: str) -> None:
    path = tmp_path / "pairs.jsonl"
    good = b"".join(json.dumps(pair).encode() + b"\n" for pair in PAIRS[:36])
    path.write_bytes(good + (line.encode() if isinstance(line, str) else line) + b"\n")
    said_line = _fails(run, "train", "--data", path, "--output", tmp_path / "model")
    assert said in said_line
    assert "pairs.jsonl" in said_line
    assert not (tmp_path / "model").exists()


def test_what_is_not_there_is_named(run: Run, pairs: Path, tiny_backbone: str, tmp_path: Path) -> None:
    assert "absent.jsonl" in _fails(run, "train", "--data", "absent.jsonl")
    assert "absent/model: no such model" in _fails(run, "evaluate", "./absent/model", "--data", pairs)
    assert "absent.txt" in _fails(run, "rank", tiny_backbone, "--query", "a", "--documents", "absent.txt")
    (tmp_path / "models").mkdir()
    assert "models/nope: no such model directory" in _fails(run, "evaluate", "models/nope", "--data", pairs)
    (tmp_path / "empty").mkdir()
    assert "a directory without a model" in _fails(run, "evaluate", tmp_path / "empty", "--data", pairs)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("data: {train: pairs.jsonl}\noutputs: x\n")
    assert "unknown key 'outputs'; did you mean 'output'?" in _fails(run, "train", recipe)


def test_nothing_of_somebody_elses_is_replaced(run: Run, pairs: Path, tiny_backbone: str, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    for name in ("package.json", "README.md"):
        (tmp_path / "project" / name).write_text("mine")
    train = ["train", "--data", pairs, "--backbone", tiny_backbone, "--output", tmp_path / "project"]
    assert "a directory with other things in it" in _fails(run, *train)
    with pytest.raises(ModelError, match=r"holds README\.md and no model"):
        BiEncoder(tiny_backbone).save_pretrained(str(tmp_path / "project"))
    assert sorted(entry.name for entry in (tmp_path / "project").iterdir()) == ["README.md", "package.json"]
    assert (tmp_path / "project" / "README.md").read_text() == "mine"


def test_options_beside_a_recipe_are_refused(run: Run, tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("data: {train: chitchat}\noutput: x\n")
    code, _, err = run("train", tmp_path / "recipe.yaml", "--steps", 3)
    assert code == 2
    assert "--steps" in err


def test_brackets_in_a_document_are_no_style(run: Run, tiny_backbone: str, tmp_path: Path) -> None:
    (tmp_path / "documents.txt").write_text("Press [/b] to go on\n[red]\n")
    code, out, err = run("rank", tiny_backbone, "--query", "go on", "--documents", tmp_path / "documents.txt")
    assert code == 0, err
    assert "Press [/b] to go on" in out
    assert "[red]" in out


def test_models_that_cannot_be_are_named(run: Run, pairs: Path, tiny_backbone: str, tmp_path: Path) -> None:
    train = ["train", "--data", pairs, "--output", tmp_path / "model"]
    assert "at least 1, got 0" in _fails(run, *train, "--backbone", tiny_backbone, "--architecture", "poly-0")
    assert "did you mean poly-16" in _fails(run, *train, "--architecture", "polly-16")
    BiEncoder(tiny_backbone).save_pretrained(str(tmp_path / "bi"))
    poly = ["--architecture", "poly-4", "--backbone", tmp_path / "bi"]
    assert "holds a BiEncoder, not a PolyEncoder" in _fails(run, *train, *poly)
    assert not (tmp_path / "model").exists()


def test_a_loss_that_is_no_number_stops_the_run(run: Run, pairs: Path, tiny_backbone: str, tmp_path: Path) -> None:
    said = _fails(
        run, "train", "--data", pairs, "--backbone", tiny_backbone, "--output", tmp_path / "model",
        "--learning-rate", "1e38", "--steps", 200,
    )  # fmt: skip
    assert "the loss became nan" in said
    assert not (tmp_path / "model" / "modules.json").exists()


def test_a_full_disk_while_saving_leaves_no_half_model(pairs: Path, tiny_backbone: str, tmp_path: Path) -> None:
    """A limit on the size of files stands in for the disk: writing the weights fails in the middle, for real."""
    output = tmp_path / "model"
    script = (
        "import resource, signal, sys;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000));"
        "from polyencoders.cli import main; main()"
    )
    arguments = ["train", "--data", pairs, "--backbone", tiny_backbone, "--output", output, "--steps", "2"]
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, arguments)],
        capture_output=True,
        text=True,
        env=os.environ,
        timeout=300,
    )
    assert done.returncode == 1, done.stderr
    assert done.stderr.strip().count("\n") == 0
    assert "polyencoders: " in done.stderr
    assert not (output / "modules.json").exists()
    assert not list(tmp_path.glob(".model*"))


def test_help_teaches_and_is_quick_to_load() -> None:
    script = "import sys; from polyencoders.cli import main\ntry: main()\nfinally: print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script, "--help"], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False"
    for command in ("demo", "train", "evaluate", "rank", "compare"):
        assert command in done.stdout


def test_a_tuned_reader_is_the_default_only_where_there_is_an_index(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "400")
    said = {command: run(command, "--help")[1].replace("`", "") for command in ("evaluate", "search", "serve")}
    assert [command for command in said if "what polyencoders tune has found" in said[command]] == ["search", "serve"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["evaluate", "models/mine", "--data", "chitchat", "--queries", -3],
        ["evaluate", "models/mine", "--data", "chitchat", "--candidates", 1],
        ["compare", "--data", "chitchat", "--query-length", 0],
        ["train", "--data", "chitchat", "--seed", -1],
        ["rank", "models/mine", "--query", "a", "--documents", "a.txt", "--top-k", 0],
        ["train"],
    ],
)
def test_a_bad_option_exits_with_2(run: Run, arguments: list[object]) -> None:
    code, _, err = run(*arguments)
    assert code == 2
    assert "Traceback" not in err


def test_calibrate_and_export(run: Run, backbone: str, tiny_backbone: str, tmp_path: Path) -> None:
    from polyencoders import BiEncoder
    from polyencoders.encoders.calibration import CALIBRATION, Calibration

    things = [
        "tea",
        "bread",
        "rain",
        "train",
        "music",
        "garden",
        "winter",
        "letter",
        "kitchen",
        "river",
        "doctor",
        "paint",
        "snow",
        "cheese",
        "moon",
        "salt",
    ]
    rows = [
        {"query": f"where is the {one}, and the {other}?", "positive": f"The {one} is beside the {other}."}
        for number, one in enumerate(things)
        for other in things[:number]
    ]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    Path("documents.jsonl").write_text("".join(json.dumps({"text": row["positive"]}) + "\n" for row in rows))
    unrelated = [{"query": f"question {i}", "positive": rows[-i]["positive"]} for i in range(1, 61)]
    Path("unrelated.jsonl").write_text("".join(json.dumps(row) + "\n" for row in unrelated))
    BiEncoder(backbone).save_pretrained(str(tmp_path / "model"))
    code, out, err = run("calibrate", "model", "--data", "pairs.jsonl", "--protocol", "corpus")
    assert code == 0, err
    assert "said to be likely" in out
    kept = Calibration.read("model")
    assert kept is not None
    assert (kept.queries, kept.candidates) == (len(rows), 20)

    BiEncoder(tiny_backbone).save_pretrained(str(tmp_path / "tiny"))
    Calibration(2.0, -1.0, 40, 20).write("tiny")
    code, _, err = run("export", "tiny", "--output", "exported")
    assert code == 0, err
    assert Calibration.read("exported") == Calibration.read("tiny")
    BiEncoder(tiny_backbone).save_pretrained(str(tmp_path / "tiny"))
    assert not Path("tiny", CALIBRATION).exists(), "other weights are not what was calibrated"

    # The same of an index, whose searches then know probabilities.
    assert run("index", "create", "places", "--data", "documents.jsonl", "--model", "model")[0] == 0
    assert "`polyencoders tune places --data PAIRS` makes them" in _fails(
        run, "search", "places", "--query", "where is the tea?", "--min-probability", 0.5
    )
    code, out, err = run("tune", "places", "--data", "pairs.jsonl")
    assert code == 0, err
    assert "vectors alone" in out
    assert "is searched so from now on" in out
    assert "probabilities" in run("index", "info", "places")[1]
    code, out, err = run("search", "places", "--query", rows[0]["query"], "--json")
    said = [json.loads(line).get("probability", 0.0) for line in out.splitlines()]
    least = said[2]
    code, out, err = run("search", "places", "--query", rows[0]["query"], "--min-probability", least, "--json")
    assert len(out.splitlines()) == sum(one >= least for one in said)
    assert "probability" in run("search", "places", "--query", rows[0]["query"])[1]
    code, out, err = run("tune", "places", "--data", "unrelated.jsonl")
    assert code == 0, err
    assert "Nothing was confirmed: places is searched by its vectors alone" in out
    assert "tuned" not in run("index", "info", "places")[1]

    Path("few.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows[:30]))
    assert "at least 20 are needed" in _fails(run, "calibrate", "model", "--data", "few.jsonl")
    assert Calibration.read("model") == kept
    assert "no such model directory" in _fails(run, "calibrate", "someone/model", "--data", "few.jsonl")
