"""The page in a real browser, against the index and the models themselves; and what cannot be reached through it."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from urllib.parse import urlsplit

import httpx
import numpy as np
import pytest

from polyencoders import BiEncoder, CrossEncoder, PolyEncoder
from polyencoders.index import Index
from polyencoders.models.query_reading import read_query
from polyencoders.serving.settings import Limits, Settings

playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright, of polyencoders[dev]")

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
]
QUERY = "Any tea in the garden?"
NASTY = "<script>hit=1</script><img src=x onerror=hit=2> ${hit=3} {{hit}} ok?"

needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def browser():
    """A real one, without a window."""
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield started
        started.close()


@pytest.fixture
def visit(browser):
    """Open a server's page. At the end of the test it must have asked no other host, and complained of nothing."""
    opened = []

    def open_it(server, width=1100, **context):
        page = browser.new_context(viewport={"width": width, "height": 900}, **context).new_page()
        page.set_default_timeout(30_000)
        hosts, complaints = set(), []
        page.on("request", lambda request: hosts.add(urlsplit(request.url).netloc) if ":" in request.url[:6] else None)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(server.url)
        page.wait_for_selector("#pe-served b")
        opened.append((page, server, hosts, complaints))
        return SimpleNamespace(page=page, complaints=complaints)

    yield open_it
    for page, server, hosts, complaints in opened:
        page.context.close()
        assert hosts == {urlsplit(server.url).netloc}
        assert not complaints


def refused(visited, *statuses):
    """What the browser complained of so far: the server refused requests with these statuses, and nothing else."""
    said = [re.fullmatch(r"Failed to load resource: .* status of (\d+) .*", text) for text in visited.complaints]
    visited.complaints.clear()
    assert [int(one[1]) for one in said] == list(statuses)


def ask(page, query, wait=".pe-hits"):
    """Type a query, press Enter, and wait for an answer that was not there before."""
    page.evaluate("document.querySelector('#pe-found section, #pe-found p')?.setAttribute('data-old', '')")
    page.fill("#pe-ask textarea", query)
    page.press("#pe-ask textarea", "Enter")
    page.wait_for_selector(f"#pe-found {wait}:not([data-old])")


def shown_hits(page):
    """Texts and scores."""
    rows = page.query_selector_all(".pe-hits > ol > li")
    return [
        (
            row.query_selector(".pe-text").evaluate("e => e.firstChild.textContent"),
            row.query_selector(".pe-score").inner_text(),
        )
        for row in rows
    ]


def expected_hits(answer):
    return [(hit.text, f"{hit.score:.3f}") for hit in answer]


@pytest.fixture
def searching(serve, index):
    """A server of the index, with its page."""
    return serve(index=index, page=True, bf16=False)


@needs_chromium
def test_it_finds_what_the_index_finds(searching, visit, index, poly):
    page = visit(searching).page
    assert "60 documents in replies" in page.inner_text(".pe-head")
    ask(page, QUERY)
    here = Index.open(index, poly)
    assert shown_hits(page) == expected_hits(here.search(QUERY))
    facts = page.inner_text(".pe-facts")
    assert "searched 60 documents" in facts
    assert "proven" in facts
    assert re.search(r"query [\d.]+ ms, search [\d.]+ ms", facts)
    first = here.search(QUERY, k=1)[0]
    assert f"lang {first.metadata['lang']}" in page.inner_text(".pe-meta >> nth=0")


@needs_chromium
def test_conversations_and_options(searching, visit, index, poly):
    page = visit(searching).page
    page.click("text=What was said before")
    page.fill("#pe-turns textarea", "Hello!\n\n It rains. \n")
    page.click("text=Options")
    page.fill("#pe-options input[type=text], #pe-options textarea", "lang = 'de' AND year > 2000")
    page.click("#pe-options >> text=fast")
    page.fill("#pe-options input[type=number]", "3")
    page.press("#pe-options input[type=number]", "Tab")
    ask(page, QUERY)
    (expected,) = Index.open(index, poly).search(
        [["Hello!", "It rains.", QUERY]], k=3, where="lang = 'de' AND year > 2000"
    )
    assert shown_hits(page) == expected_hits(expected)
    assert "that the filter finds" in page.inner_text(".pe-facts")


@needs_chromium
def test_why(searching, visit, index, poly):
    page = visit(searching).page
    ask(page, QUERY)
    hits = Index.open(index, poly).search(QUERY)
    codes, reading = poly.encode_query([QUERY])[0].astype(float), read_query(poly, QUERY)
    for place in (0, 9):
        page.click(f"summary.pe-hit >> nth={place}")
        panel = page.query_selector_all(".pe-reasons")[place]
        vector = poly.encode_document([hits[place].text])[0].astype(float)
        products = codes @ vector
        weights = np.exp(products / poly.temperature) / np.exp(products / poly.temperature).sum()
        rows = [
            [cell.inner_text() for cell in row.query_selector_all("th, td")]
            for row in panel.query_selector_all("tbody tr")
        ]
        assert [int(row[0]) - 1 for row in rows] == np.argsort(-weights).tolist()
        for row in rows:
            code = int(row[0]) - 1
            assert float(row[2].rstrip("%")) == pytest.approx(100 * weights[code], abs=0.15)
            assert float(row[3]) == pytest.approx(products[code], abs=0.0015)
            word = reading.words[reading.shares[code].argmax()].text
            assert row[4].startswith(word)
        verdict = panel.query_selector(".pe-verdict").inner_text()
        assert f"{hits[place].score:.3f}" in verdict
        evenness = -(weights * np.log(weights)).sum() / np.log(len(weights))
        assert ("hardly tells the codes apart" in verdict) == (evenness >= 0.95)
    page.click(".pe-reading summary")
    assert [row.inner_text().replace(" ", "") for row in page.query_selector_all(".pe-code .pe-read")] == [
        f"[CLS]{QUERY}[SEP]".replace(" ", "")
    ] * poly.m


@needs_chromium
def test_models_side_by_side(serve, index, models, visit, poly, replies):
    from polyencoders.serving.routes.explain import CANDIDATES

    bi, cross = BiEncoder(str(models / "bi")), CrossEncoder(str(models / "cross"))
    changed = BiEncoder(str(models / "bi"))
    for weights in changed.route("document")[0].parameters():
        weights.data.mul_(1.1)
    changed.save_pretrained(str(models / "changed"))
    names = ("bi", "changed", "cross")
    server = serve(index=index, page=True, bf16=False, compare=tuple(str(models / name) for name in names))
    page = visit(server).page
    page.click("text=Models side by side")
    ask(page, QUERY, ".pe-compare")
    columns = page.query_selector_all(".pe-column")
    shown = [[row.inner_text() for row in column.query_selector_all(".pe-text")] for column in columns]
    here = Index.open(index, poly)
    candidates = [hit.text for hit in here.search(QUERY, k=CANDIDATES)]
    texts = [reply["text"] for reply in replies]
    mean = poly.encode_query([QUERY]).mean(axis=1)
    assert shown[0] == [hit.text for hit in here.search(QUERY)]
    assert shown[1] == [hit.text for hit in here.search(mean)[0]]
    assert shown[2] == [hit["text"] for hit in bi.rank(QUERY, texts, 10, return_documents=True)]
    assert shown[3] == [hit["text"] for hit in changed.rank(QUERY, candidates, 10, return_documents=True)]
    assert shown[4] == [hit["text"] for hit in cross.rank(QUERY, candidates, 10, return_documents=True)]
    said = [column.inner_text() for column in columns]
    assert [text.split("\n")[0] for text in said] == ["poly", "poly, averaged", *names]
    for text in said[:3]:
        assert "searched 60 documents" in text, (
            "the bi-encoder's document side is the poly-encoder's: they share vectors"
        )
    for text in said[3:]:
        assert "reranked the 50 that poly found first" in text
    assert all(re.search(r"\d ms", text) for text in said)


@needs_chromium
@pytest.mark.parametrize("model", ["poly", "bi", "cross"])
def test_documents_that_were_typed_are_ranked(serve, models, visit, model):
    server = serve(model=str(models / model), page=True, bf16=False, compare=(str(models / "cross"),))
    page = visit(server).page
    documents = ["a letter", "tea and bread", "rain", "music in winter"]
    page.fill("label:has-text('Documents to rank') textarea", "\n".join(documents) + "\n\n")
    ask(page, QUERY)
    own = {"poly": PolyEncoder, "bi": BiEncoder, "cross": CrossEncoder}[model](str(models / model))
    ranked = own.rank(QUERY, documents, return_documents=True)
    assert [text for text, _ in shown_hits(page)] == [hit["text"] for hit in ranked]
    assert (page.query_selector(".pe-reasons") is not None) == (model == "poly")
    page.click("text=Models side by side")
    page.wait_for_selector(".pe-compare")
    assert len(page.query_selector_all(".pe-column")) == (3 if model == "poly" else 2)


@needs_chromium
def test_what_others_wrote_is_shown_and_not_run(serve, index, poly, visit):
    documents = [
        {"text": NASTY, "lang": "<b onclick=hit=4>x", "year": 1},
        {"text": "</script><script>hit=5</script>?", "lang": "en", "year": 2},
    ]
    Index.open(index, poly).add(documents)
    visited = visit(serve(index=index, page=True, bf16=False))
    page = visited.page
    ask(page, NASTY)
    assert NASTY in [text for text, _ in shown_hits(page)]
    assert "<b onclick=hit=4>x" in page.inner_text(".pe-hits")
    page.click("summary.pe-hit >> nth=0")
    page.click(".pe-reading summary")
    assert "{{hit}}" in page.inner_text(".pe-code >> nth=0").replace("\n", "")
    page.click("text=Models side by side")
    page.wait_for_selector(".pe-compare")
    assert NASTY in [cell.inner_text() for cell in page.query_selector_all(".pe-column .pe-text")]
    page.click("text=Options")
    page.fill("#pe-options input[type=text], #pe-options textarea", NASTY)
    ask(page, QUERY, ".pe-notice")
    assert "<script>" in page.inner_text(".pe-notice")
    refused(visited, 422)
    assert page.evaluate("typeof hit") == "undefined"
    assert not page.query_selector_all("#pe-found script, #pe-found img")


@needs_chromium
@pytest.mark.parametrize("view", ["Hits, and why", "Models side by side"])
def test_it_fits_a_phone(searching, visit, view):
    page = visit(searching, width=390).page
    page.click(f"text={view}")
    ask(page, "unbelievable" * 30 + " " + QUERY, ".pe-hits" if "why" in view else ".pe-compare")
    for summary in page.query_selector_all("#pe-found summary"):
        summary.click()
    for part in ("What was said before", "Options"):
        page.click(f"text={part}")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390


@needs_chromium
def test_an_example_is_one_click_away(searching, visit, index, poly):
    page = visit(searching).page
    chip = page.query_selector_all("#pe-examples button")[-1]
    chip.click()
    page.wait_for_selector(".pe-hits")
    newest = page.input_value("#pe-ask textarea")
    page.click("text=What was said before")
    said = page.input_value("#pe-turns textarea").splitlines()
    assert len(said) == 2
    (expected,) = Index.open(index, poly).search([[*said, newest]])
    assert shown_hits(page) == expected_hits(expected)


@needs_chromium
def test_what_is_wrong_is_said_in_a_sentence(serve, index, visit, tmp_path):
    visited = visit(serve(index=index, page=True, limits=Limits(text=100, turns=3, hits=20)))
    page = visited.page
    ask(page, "  ", ".pe-notice")
    assert page.inner_text(".pe-notice") == "Type a query first."
    ask(page, "x" * 101, ".pe-notice")
    assert "101 characters, the most is 100" in page.inner_text(".pe-notice")
    page.click("text=What was said before")
    page.fill("#pe-turns textarea", "one\ntwo\nthree")
    ask(page, QUERY, ".pe-notice")
    assert "4 turns, the most is 3" in page.inner_text(".pe-notice")
    page.fill("#pe-turns textarea", "")
    page.click("text=Options")
    page.fill("#pe-options input[type=number]", "21")
    ask(page, QUERY, ".pe-notice")
    assert "21 hits, the most is 20" in page.inner_text(".pe-notice")
    page.fill("#pe-options input[type=number]", "5")
    page.fill("#pe-options input[type=text], #pe-options textarea", "nobody = 3")
    ask(page, QUERY, ".pe-notice")
    said = page.inner_text(".pe-notice")
    assert "nobody" in said
    assert "Traceback" not in said
    assert str(tmp_path) not in said
    refused(visited, 413, 413, 413, 422)
    page.fill("#pe-options input[type=number]", "1.5")
    ask(page, QUERY, ".pe-notice")
    assert page.inner_text(".pe-notice") == "Hits, under Options, must be a whole number."


@needs_chromium
def test_a_busy_server_says_when_to_come_back(serve, index, visit):
    visited = visit(serve(index=index, page=True, limits=Limits(wait=-1)))
    page = visited.page
    ask(page, QUERY, ".pe-notice")
    assert re.search(r"this takes about \d+ s, and a request may take", page.inner_text(".pe-notice"))
    refused(visited, 429)


@needs_chromium
def test_a_browser_asks_its_user_for_the_key(serve, index, visit):
    server = serve(index=index, page=True, key="a secret")
    assert httpx.get(server.url).status_code == 401
    for path in ("page.css", "page.js", "page.json"):
        assert httpx.get(f"{server.url}/{path}").status_code == 401
    assert httpx.post(f"{server.url}/explain", json={"query": QUERY}).status_code == 401
    page = visit(server, http_credentials={"username": "any", "password": "a secret"}).page
    ask(page, QUERY)
    assert len(shown_hits(page)) == 10


@needs_chromium
def test_an_open_page_keeps_no_request_open(searching, visit):
    page = visit(searching).page
    ask(page, QUERY)
    deadline = time.time() + 10
    while searching.application.api.state.limiter.inside and time.time() < deadline:
        time.sleep(0.05)
    assert searching.application.api.state.limiter.inside == 0


# -- without a browser -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "file=/etc/passwd",
        "proxy=https://example.org",
        "monitoring",
        "index.html",
        "__init__.py",
        "page.css/../__init__.py",
        "page.js%2f..%2f__init__.py",
        "static/..%2f..%2f..%2froutes.py",
        "assets/../../../../routes.py",
        "static//etc/passwd",
        "//etc/passwd",
        "..%2f..%2f..%2f..%2f..%2fetc/passwd",
        "docs",
        "redoc",
    ],
)
def test_what_the_page_does_not_use_is_not_there(page_server, path):
    answer = page_server.client.get(f"/{path}")
    assert answer.status_code in (403, 404)
    assert "root:" not in answer.text
    assert "fastapi" not in answer.text


@pytest.mark.parametrize("path", ["", "page.css", "page.js", "page.json", "upload", "static/x"])
def test_nothing_can_be_left_there(page_server, path):
    for method in ("POST", "PUT", "DELETE"):
        answer = page_server.client.request(method, f"/{path}", files={"files": b"x"})
        assert answer.status_code in (404, 405, 415)
    assert page_server.client.post("/explain", files={"files": b"x"}).status_code == 415


def test_what_is_no_question_is_refused(page_server):
    for wrong in (
        {},
        [],
        "x",
        {"query": QUERY},
        {"query": "", "documents": ["a"]},
        {"query": [], "documents": ["a"]},
        {"query": {"a": 1}, "documents": ["a"]},
        {"query": QUERY, "documents": []},
        {"query": QUERY, "documents": [""]},
        {"query": QUERY, "documents": "a"},
        {"query": QUERY, "documents": ["a"], "k": 0},
        {"query": QUERY, "documents": ["a"], "k": 1.5},
        {"query": QUERY, "documents": ["a"], "where": "lang = 'en'"},
        {"query": QUERY, "documents": ["a"], "mode": "quick"},
        {"query": QUERY, "documents": ["a"], "compare": "x"},
    ):
        answer = page_server.client.post("/explain", json=wrong)
        assert answer.status_code == 422, wrong
        assert answer.json()["error_type"] == "Validation"
    many = {"query": QUERY, "documents": ["a"] * (Limits().documents + 1)}
    long = {"query": "x" * (Limits().text + 1), "documents": ["a"]}
    for too_large in (many, long, {"query": QUERY, "documents": ["a"], "k": 1 << 62}):
        assert page_server.client.post("/explain", json=too_large).status_code == 413


def test_reasons_over_http(serve, index, poly):
    """Those of given documents, and those of an index, which may rank given documents as well."""
    server = serve(index=index, page=False, bf16=False)
    documents = ["a letter", "tea and bread"]
    for asked in ({"documents": documents}, {"k": 3}, {"k": 3, "mode": "fast", "where": "lang = 'de'"}):
        answer = server.client.post("/explain", json={"query": ["Hello!", QUERY], **asked}).json()
        (ranking,) = answer["rankings"]
        assert len(ranking["hits"]) == (2 if "documents" in asked else 3)
        assert (ranking["certified"] is None) == ("documents" in asked)
        reading = read_query(poly, ["Hello!", QUERY])
        assert answer["reading"]["text"] == reading.text
        np.testing.assert_allclose(answer["reading"]["shares"], reading.shares, atol=1e-4)
        for hit in ranking["hits"]:
            why = hit["why"]
            assert why["score"] == pytest.approx(hit["score"], abs=1e-5)
            assert sum(why["words"]) == pytest.approx(1, abs=1e-3)
            products = reading.codes @ poly.encode_document([hit["text"]])[0]
            np.testing.assert_allclose(why["inner_products"], products, atol=1.5e-3)  # an index may hold bf16
    line = 'polyencoders_requests_total{route="/explain",status="200"} 3.0'
    assert line in server.client.get("/metrics").text


def test_models_are_compared_over_http(serve, models):
    server = serve(model=str(models / "poly"), compare=(str(models / "cross"),), bf16=False)
    documents = ["a letter", "tea and bread", "rain"]
    answer = server.client.post("/explain", json={"query": QUERY, "documents": documents, "compare": True}).json()
    assert [ranking["model"] for ranking in answer["rankings"]] == ["poly", "poly, averaged", "cross"]
    assert answer["reading"] is None
    for ranking in answer["rankings"]:
        assert {hit["text"] for hit in ranking["hits"]} == set(documents)
        assert all(hit["why"] is None for hit in ranking["hits"])


def test_the_api_is_where_it_was(page_server, serve, models):
    bare = serve(model=str(models / "poly"), page=False)
    for method, path in (
        ("GET", "/openapi.json"),
        ("GET", "/rerank"),
        ("GET", "/health/"),
        ("GET", "/v1/models"),
        ("GET", "/nobody"),
    ):
        with_page, without = (one.client.request(method, path) for one in (page_server, bare))
        assert (with_page.status_code, with_page.headers.get("content-type")) == (
            without.status_code,
            without.headers.get("content-type"),
        ), path
    described = page_server.client.get("/openapi.json").json()
    assert described == bare.client.get("/openapi.json").json()


def test_the_browser_is_told_to_load_and_run_nothing_else(page_server):
    for path in ("", "page.css", "page.js"):
        answer = page_server.client.get(f"/{path}")
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert "default-src 'self'" in policy
        assert "unsafe" not in policy
        assert "require-trusted-types-for 'script'" in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|https?://", answer.text)
    assert page_server.client.head("/").status_code == 200
    page = page_server.client.get("/").text
    assert not re.search(r"\son\w+=|style=|<style|<script(?! src=\"page.js\" defer></script>)", page)


@pytest.fixture(scope="module")
def page_server(models):
    """A server of the poly-encoder with its page, for tests that change nothing."""
    from .conftest import running

    with running(Settings(model=str(models / "poly"), bf16=False)) as server:
        yield server


def test_without_the_page_it_is_not_imported(run_python, models):
    code = """
import sys
from polyencoders.serving.app import Server
from polyencoders.serving.settings import Settings
Server(Settings(model=sys.argv[1], page=False)).current.close()
print("polyencoders.serving.page" in sys.modules)
"""
    assert run_python(code, models / "poly").strip() == "False"


def test_the_server_itself_calls_nobody(run_python, models):
    code = """
import socket, sys
called = []
def refuse(self, address): called.append(address); raise OSError("no network in this test")
socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = lambda *a, **k: refuse(None, a)
from starlette.testclient import TestClient
from polyencoders.serving.app import Server
from polyencoders.serving.settings import Settings
with TestClient(Server(Settings(model=sys.argv[1])), base_url="http://localhost") as client:
    for path in ("/", "/page.css", "/page.js", "/page.json"):
        assert client.get(path).status_code == 200
    import time; time.sleep(2)
print(called)
"""
    assert run_python(code, models / "poly").strip() == "[]"


@needs_chromium
def test_it_stops_soon_with_a_page_open(browser, index, tmp_path):
    command = [sys.executable, "-m", "polyencoders", "serve", "--index", str(index), "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "COLUMNS": "200"}
    with (tmp_path / "log").open("wb") as log:
        one = subprocess.Popen(command, stdout=log, stderr=log, env=environment)
    try:
        deadline = time.time() + 120
        while not (found := re.search(r"http://localhost:\d+", (tmp_path / "log").read_text())):
            assert one.poll() is None, (tmp_path / "log").read_text()
            assert time.time() < deadline
            time.sleep(0.05)
        page = browser.new_context().new_page()
        page.goto(found[0])
        page.wait_for_selector("#pe-ask textarea", timeout=30_000)
        ask(page, QUERY)
        one.send_signal(signal.SIGTERM)
        assert one.wait(25) in (0, -signal.SIGTERM), "before the grace time of 30 s is over"
        page.context.close()
    finally:
        one.kill()
        one.wait()


# -- links, words, and who does not see --------------------------------------------------------------------------------


@needs_chromium
def test_a_link_brings_the_query_along(searching, visit):
    page = visit(searching).page
    page.click("#pe-turns summary")
    page.fill("#pe-turns textarea", "Hello & welcome.\nIt rains?")
    ask(page, QUERY)
    shown, link = shown_hits(page), page.url
    assert "before=Hello+%26+welcome.&before=It+rains%3F" in link
    page.goto("about:blank")
    page.goto(link)
    page.wait_for_selector(".pe-hits")
    assert shown_hits(page) == shown
    assert page.input_value("#pe-ask textarea") == QUERY
    assert page.input_value("#pe-turns textarea") == "Hello & welcome.\nIt rains?"
    assert page.inner_text("#pe-status").startswith("searched 60 documents"), "a screen reader says what was done"


@needs_chromium
def test_words_count_when_they_are_wanted(serve, index, visit, poly):
    here = Index.open(index, poly)
    for words, server in (
        (None, serve(index=index, page=True, bf16=False)),
        (True, serve(index=index, page=True, bf16=False, words=True)),
    ):
        page = visit(server).page
        assert page.is_checked("#pe-words") == bool(words)
        ask(page, QUERY)
        assert shown_hits(page) == expected_hits(here.search(QUERY, words=words))
        page.click("#pe-options summary")
        page.focus("#pe-words")
        page.evaluate("document.querySelector('#pe-found section').setAttribute('data-old', '')")
        page.keyboard.press("Space")
        page.wait_for_selector("#pe-found .pe-hits:not([data-old])")
        assert shown_hits(page) == expected_hits(here.search(QUERY, words=not words))
        page.keyboard.press("/")
        assert not page.evaluate("document.activeElement.matches('#pe-ask textarea')"), "in a field it is a character"


@needs_chromium
def test_a_key_goes_to_the_query(searching, visit):
    page = visit(searching).page
    page.evaluate("document.activeElement.blur()")
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.matches('#pe-ask textarea')")
    assert page.input_value("#pe-ask textarea") == ""
