"""The picture of a comparison, however many rows there are."""

import pytest

from polyencoders.cli.chart import draw


def test_a_family_may_have_more_rows_than_there_are_markers(tmp_path):
    pytest.importorskip("matplotlib", reason="needs polyencoders[plot]")
    metric = {"mean": 0.5, "spread": None, "low": 0.4, "high": 0.6}
    latency = {"1000": {"encoding": 1.0, "scoring": 2.0}}
    rows = [{"name": f"poly-{m}", "ms": latency, "metrics": {"R@1": metric}} for m in range(1, 20)]
    draw({"rows": rows, "data": "chitchat", "backbone": "tiny"}, tmp_path / "chart.png")
    assert (tmp_path / "chart.png").read_bytes().startswith(b"\x89PNG")
