"""Runs written down are read again, whatever an interruption left of the last line."""

from polyencoders.cli.runs import append_runs, read_runs


def test_a_line_that_was_cut_short_costs_its_own_run_alone(tmp_path):
    file = tmp_path / "folder" / "runs.jsonl"
    assert read_runs(file) == []
    append_runs(file, [{"seed": 0}, {"seed": 1, "name": "ü"}])
    assert read_runs(file) == [{"seed": 0}, {"seed": 1, "name": "ü"}]
    file.write_bytes(file.read_bytes()[:-4])
    append_runs(file, [{"seed": 2}])
    assert read_runs(file) == [{"seed": 0}, {"seed": 2}]
