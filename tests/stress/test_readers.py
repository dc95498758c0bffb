"""The attack on the readers in a short form; `python tests/stress/readers.py` is the whole one."""

import readers


def test_a_damaged_file_is_read_or_refused_in_one_line(tmp_path):
    found = readers.attack(tmp_path, files=20)
    assert found["problems"] == []
    assert found["refused"] > 0
    assert found["read"] > 0
