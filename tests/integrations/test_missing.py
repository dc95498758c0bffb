"""Without its library, an integration says which extra has it."""

import pytest


@pytest.mark.parametrize(
    ("module", "library", "extra"),
    [
        ("langchain", "langchain_core", "langchain"),
        ("haystack", "haystack", "haystack"),
        ("llama_index", "llama_index", "llamaindex"),
    ],
)
def test_the_extra_is_named(module, library, extra, run_python):
    code = f"""
import sys
sys.modules[{library!r}] = None
from polyencoders.errors import MissingExtraError
try:
    import polyencoders.integrations.{module}
except MissingExtraError as error:
    print(error)
"""
    said = run_python(code).strip()
    assert said.startswith(f"this needs the package {library}")
    assert said.endswith(f'pip install "polyencoders[{extra}]"')
