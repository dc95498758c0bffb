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


def test_a_reranker_needs_no_index_engine(run_python, models, index):
    code = """
import sys
sys.modules["lancedb"] = sys.modules["faiss"] = None
from langchain_core.documents import Document
from polyencoders.integrations.langchain import PolyencodersReranker, PolyencodersRetriever
print(len(PolyencodersReranker(sys.argv[1]).compress_documents([Document("tea"), Document("rain")], "tea")))
try:
    PolyencodersRetriever(sys.argv[2])
except ImportError as error:
    print(error)
"""
    found, refused = run_python(code, models / "PolyEncoder", index.path).strip().splitlines()
    assert found == "2"
    assert refused == 'this needs the package lancedb: pip install "polyencoders[index]"'
