"""What a release and a deployment consist of fits together: versions, workflows, containers."""

import re
import runpy
from pathlib import Path

import pytest
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from polyencoders import __version__
from polyencoders.cli.app import app

ROOT = Path(__file__).parents[1]
problems = runpy.run_path(str(ROOT / "tools" / "release.py"))["problems"]


def test_nothing_but_a_commit_is_missing():
    """Nor a date, between two releases."""
    found = [problem for problem in problems(f"v{__version__}") if not problem.startswith("not committed")]
    assert found in ([], [f"CHANGELOG.md: {__version__} has no date (YYYY-MM-DD), but 'unreleased'"])


def test_a_wrong_tag_is_seen():
    assert next(problems("v9.9.9")) == f"the tag is v9.9.9, and src/polyencoders/__init__.py says {__version__}"


@pytest.mark.parametrize("path", sorted((ROOT / ".github" / "workflows").glob("*.yml")), ids=lambda path: path.stem)
def test_a_workflow_calls_what_is_there(path):
    jobs = yaml.safe_load(path.read_text(encoding="utf-8"))["jobs"]
    targets = re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    for job in jobs.values():
        assert all(need in jobs for need in [job.get("needs", [])] if isinstance(need, str))
        for step in job["steps"]:
            for command in step.get("run", "").split("&&"):
                words = command.split()
                if words[:1] == ["make"]:
                    assert set(words[1:]) <= set(targets), command
                for word in words:
                    if word.startswith(("tools/", ".ci/")):
                        assert (ROOT / word).is_file(), command


def test_what_is_deployed_are_options_of_serve():
    compose = yaml.safe_load((ROOT / "deploy" / "compose.yaml").read_text(encoding="utf-8"))
    server = compose["services"]["server"]
    *_, deployment, _ = yaml.safe_load_all((ROOT / "deploy" / "kubernetes.yaml").read_text(encoding="utf-8"))
    pod = deployment["spec"]["template"]["spec"]
    [container] = pod["containers"]
    options = {name for one in get_command(app).commands["serve"].params for name in one.opts}
    for arguments in (server["command"], container["args"]):
        assert arguments[0] == "serve"
        assert {word for word in arguments if word.startswith("--")} <= options
    assert f"uid {pod['securityContext']['runAsUser']} " in (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert CliRunner().invoke(app, [*compose["services"]["index"]["entrypoint"][1:], "--help"]).exit_code == 0
