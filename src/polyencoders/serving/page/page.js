// The page of `polyencoders serve`: asks POST /explain and shows the answer.
// Texts reach the document as text nodes only, never as HTML.
"use strict";

const SHOWN = 10; // hits of each model, side by side
const CODES = 8; // codes shown for a hit, or of the query
const WORDS = 4; // words named for a code
const LONGEST = 1200; // characters shown of a document
const LONGEST_BESIDE = 300; // characters shown of a document, side by side
const LONGEST_VALUE = 120; // characters shown of a value of the metadata
const GENERATED_ID = /^[0-9a-f]{32}$/; // the id of a document that was added without one

const at = (selector) => document.querySelector(selector);
const query = at("#pe-ask textarea");
const turns = at("#pe-turns textarea");
const documents = at("#pe-documents textarea");
const hits = at("#pe-options input[type=number]");
const where = at("#pe-options input[type=text]");
const words = at("#pe-words");
const reader = at("#pe-reader input");
const found = at("#pe-found");
const spoken = at("#pe-status"); // what a screen reader says of an answer
const chosen = (name) => at(`input[name=${name}]:checked`).value;
const lines = (field) => field.value.split(/\r?\n/).map((line) => line.trim()).filter(Boolean);

/** Builds an element. Children are elements, texts, lists of them, or null. */
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (name.startsWith("--")) element.style.setProperty(name, value);
    else element.setAttribute(name, value);
  }
  element.append(...children.flat(Infinity).filter((child) => child !== null));
  return element;
}

const count = (number) => number.toLocaleString("en");
const percent = (fraction, digits = 0) => `${(100 * fraction).toFixed(digits)}%`;
const sum = (numbers) => numbers.reduce((total, number) => total + number, 0);

function shortened(text, longest) {
  const characters = Array.from(text);
  return characters.length <= longest ? text : characters.slice(0, longest - 1).join("").trimEnd() + "…";
}

/** Places of the numbers, the largest first. */
function largestFirst(numbers) {
  return Array.from(numbers.keys()).sort((a, b) => numbers[b] - numbers[a]);
}

function milliseconds(ms) {
  return [make("b", null, ms < 10 ? ms.toFixed(1) : count(Math.round(ms))), " ms"];
}

function times(ranking) {
  return Object.entries(ranking.times).map(([step, ms], place) => [place ? ", " : "", step, " ", milliseconds(ms)]);
}

function notice(message) {
  return make("p", { class: "pe-notice", role: "alert" }, shortened(message, 500));
}

// -- asking -----------------------------------------------------------------------------------------------------------

/** Gets JSON from the server. Throws an error whose message can be shown. */
async function fetchJson(path, options) {
  let answer;
  try {
    answer = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer.");
  }
  const content = await answer.json().catch(() => null);
  if (!answer.ok || content === null) {
    throw new Error(content?.error ?? "Something went wrong here; the server's log says what.");
  }
  return content;
}

/** The request that the fields make. Throws an error that says what is missing. */
function request(about) {
  const newest = query.value.trim();
  if (!newest) throw new Error("Type a query first.");
  if (!Number.isInteger(hits.valueAsNumber)) throw new Error("Hits, under Options, must be a whole number.");
  const before = lines(turns);
  const asked = {
    query: before.length ? [...before, newest] : newest,
    k: hits.valueAsNumber,
    compare: chosen("view") === "models",
  };
  if (about.index) {
    const counts = words.checked === about.words ? null : words.checked; // null: as the server was started
    return { ...asked, mode: chosen("mode"), where: where.value.trim() || null, words: counts, rerank: reader.checked };
  }
  if (!lines(documents).length) throw new Error("Type documents to rank, one a line.");
  return { ...asked, documents: lines(documents) };
}

let asking = new AbortController();

async function ask() {
  asking.abort(); // only the newest answer is shown
  const mine = (asking = new AbortController());
  found.setAttribute("aria-busy", "true");
  let shown;
  try {
    const asked = request(await about);
    linkTo(asked.query);
    const answer = await fetchJson("explain", {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(asked),
      signal: mine.signal,
    });
    shown = asked.compare ? sideBySide(answer.rankings, Math.min(asked.k, SHOWN)) : explained(answer, asked);
  } catch (error) {
    if (mine.signal.aborted) return;
    shown = notice(error.message);
  }
  if (mine.signal.aborted) return;
  found.replaceChildren(shown);
  found.removeAttribute("aria-busy");
  spoken.textContent = shown.querySelector(".pe-facts, .pe-column p")?.textContent ?? "";
}

/** Puts the query into the page's address, so that a link brings it along: `?q=newest&before=a turn&before=the next`. */
function linkTo(asked) {
  const said = [asked].flat();
  const link = new URLSearchParams([["q", said.at(-1)], ...said.slice(0, -1).map((turn) => ["before", turn])]);
  history.replaceState(null, "", `?${link}`);
}

/** Asks what the page's address brings. */
function askFromLink() {
  const link = new URLSearchParams(location.search);
  if (!link.get("q")) return;
  turns.value = link.getAll("before").join("\n");
  at("#pe-turns").open = turns.value !== "";
  query.value = link.get("q");
  ask();
}

// -- hits, and why ----------------------------------------------------------------------------------------------------

function explained({ rankings: [ranking], reading }, asked) {
  if (!ranking.hits.length) return notice("Nothing was found: no document is left to search.");
  const facts = [
    did(ranking, null) + (asked.where ? " that the filter finds" : ""),
    ranking.certified === null ? null : proven(ranking),
    times(ranking),
  ];
  return make(
    "section", { class: "pe-hits" },
    make("p", { class: "pe-facts" }, facts.map((fact) => fact && make("span", null, fact))),
    reading && queryAsRead(reading),
    make("ol", null, ranking.hits.map((hit, place) => hitRow(hit, place + 1, reading))),
  );
}

/** What a model did, in words. */
function did(ranking, first) {
  if (ranking.certified !== null) return `searched ${count(ranking.looked_at)} documents`;
  if (first?.certified != null) return `reranked the ${count(ranking.looked_at)} that ${first.model} found first`;
  return `ranked the ${count(ranking.looked_at)} documents given`;
}

/** What is known of all other documents. */
function proven({ certified, error, not_looked_at: lost, read }) {
  if (lost) return `incomplete: ${count(lost)} documents are on machines that are lost`;
  const before = read === null ? "" : " before it is read";
  if (certified) return `proven: no other document scores higher${before}`;
  if (error === null) return "not proven to be the best";
  return `not proven: another document could score higher, by ${error.toFixed(3)} at most`;
}

function hitRow(hit, place, reading) {
  const text = hit.text ? shortened(hit.text, LONGEST) : make("i", null, "no text is kept");
  const head = [
    make("span", { class: "pe-place" }, String(place)),
    make("span", { class: "pe-text" }, text, metadata(hit)),
    make("span", { class: "pe-score" }, hit.score.toFixed(3)),
  ];
  if (!hit.why || !reading) return make("li", null, make("div", { class: "pe-hit" }, head));
  const summary = make("summary", { class: "pe-hit" }, head, make("span", { class: "pe-why" }, "why"));
  return make("li", null, make("details", null, summary, why(reading, hit.why)));
}

function metadata(hit) {
  const pairs = Object.entries(hit.metadata).filter(([, value]) => value !== null);
  if (!GENERATED_ID.test(hit.id)) pairs.unshift(["id", hit.id]);
  if (!pairs.length) return null;
  const shown = (value) => shortened(typeof value === "object" ? JSON.stringify(value) : String(value), LONGEST_VALUE);
  return make(
    "span", { class: "pe-meta" },
    pairs.map(([name, value]) => make("span", null, make("i", null, shown(name)), " ", shown(value))),
  );
}

/** The query once for each code. */
function queryAsRead(reading) {
  const present = presentCodes(reading);
  return make(
    "details", { class: "pe-reading" },
    make("summary", null, `What the ${present.length} codes read in the query`),
    present.slice(0, CODES).map((code) => make(
      "div", { class: "pe-code" },
      make("span", { class: "pe-number" }, String(code + 1)),
      make("p", { class: "pe-read" }, shaded(reading, reading.shares[code])),
    )),
    present.length > CODES ? make("p", null, `and ${present.length - CODES} more codes`) : null,
    reading.was_cut ? make("p", null, "The oldest part did not fit and was not read.") : null,
  );
}

const presentCodes = (reading) => Array.from(reading.shares.keys()).filter((code) => reading.shares[code].some((share) => share > 0));

/** The codes that a document attended to, with their words, and what that makes of the score. */
function why(reading, reason) {
  const present = presentCodes(reading);
  const order = largestFirst(reason.weights).filter((code) => present.includes(code));
  const rest = order.slice(CODES);
  const rows = order.slice(0, CODES).map((code) => codeRow(reading, reason, code));
  if (rest.length) {
    const together = percent(sum(rest.map((code) => reason.weights[code])), 1);
    const said = `and ${rest.length} more codes, ${together} together`;
    rows.push(make("tr", null, make("th"), make("td", { colspan: 4 }, said)));
  }
  const heads = [["code", 1], ["weight", 2], ["y · c", 1], ["reads most", 1]];
  const columns = heads.map(([name, colspan]) => make("th", { scope: "col", colspan }, name));
  return make(
    "div", { class: "pe-reasons" },
    make("p", { class: "pe-read" }, shaded(reading, reason.words)),
    make("table", null, make("thead", null, make("tr", null, columns)), make("tbody", null, rows)),
    make("p", { class: "pe-verdict" }, verdict(reason, present.length)),
  );
}

function codeRow(reading, reason, code) {
  const shares = reading.shares[code];
  const most = largestFirst(shares).slice(0, WORDS).filter((place) => shares[place] > 0);
  const words = most.map((place) => make(
    "span", null, reading.words[place].text, " ", make("i", null, percent(shares[place])),
  ));
  return make(
    "tr", null,
    make("th", { scope: "row" }, String(code + 1)),
    make("td", { class: "pe-bar" }, make("span", { "--w": reason.weights[code] })),
    make("td", null, percent(reason.weights[code], 1)),
    make("td", null, reason.inner_products[code].toFixed(3)),
    make("td", { class: "pe-words" }, words.flatMap((word) => [word, " "])),
  );
}

function verdict(reason, codes) {
  if (codes < 2) return "There is one code: the score is its inner product with the document, as in a bi-encoder.";
  const score = reason.score.toFixed(3);
  const mean = reason.mean.toFixed(3);
  const entropy = `entropy ${percent(reason.evenness)} of the largest possible`;
  if (reason.nearly_even) {
    return `The document hardly tells the codes apart (${entropy}): its score, ${score}, is close to the score of ` +
      `their average, ${mean}, which a bi-encoder could have given.`;
  }
  return `The document chooses among the codes (${entropy}): its score is ${score}, and would be ${mean} with their ` +
    `average. The attention adds ${(reason.score - reason.mean).toFixed(3)}.`;
}

/** The text that was read; the word with the largest share is the darkest. */
function shaded(reading, shares) {
  const characters = Array.from(reading.text); // the server counts code points
  const between = (start, end) => characters.slice(start, end).join("");
  const largest = Math.max(...shares, 0);
  const parts = [];
  let place = 0;
  reading.words.forEach((word, number) => {
    if (word.end > word.start) {
      parts.push(between(place, word.start));
      place = word.end;
    }
    const attributes = {
      title: percent(shares[number], 1),
      "--s": largest > 0 ? percent(shares[number] / largest) : "0%",
    };
    parts.push(make("mark", word.special ? { class: "pe-special", ...attributes } : attributes, word.text));
  });
  return [...parts, between(place)];
}

// -- models side by side ----------------------------------------------------------------------------------------------

function sideBySide(rankings, shown) {
  const first = rankings[0];
  const places = new Map(first.hits.map((hit, place) => [hit.id, place + 1]));
  const columns = rankings.map((ranking, number) => column(ranking, first, shown, number ? places : null));
  const mark = ` The mark beside a score is the document's place in the ranking by ${first.model}.`;
  return make(
    "section", { class: "pe-compare" },
    make("div", { class: "pe-columns" }, columns),
    make(
      "p", { class: "pe-about" },
      "The models were asked one after the other; the times are of this one query. ",
      "Scores of different models are on different scales.",
      rankings.length > 1 ? mark : null,
    ),
  );
}

function column(ranking, first, shown, places) {
  const rows = ranking.hits.slice(0, shown).map((hit, place) => make(
    "li", null,
    make("span", { class: "pe-text" }, shortened(hit.text || "no text", LONGEST_BESIDE)),
    make("span", { class: "pe-score" }, hit.score.toFixed(3), places && mark(places.get(hit.id), place + 1)),
  ));
  return make(
    "article", { class: "pe-column" },
    make("h2", null, ranking.model),
    make("p", null, ranking.kind),
    make("p", { class: "pe-total" }, milliseconds(sum(Object.values(ranking.times)))),
    make("p", null, did(ranking, first)),
    make("p", null, times(ranking)),
    make("ol", null, rows),
  );
}

/** Where the first model has a document that another has at `place`. */
function mark(before, place) {
  if (before === undefined) return make("i", { class: "pe-new" }, "new");
  const kind = before === place ? "pe-same" : place < before ? "pe-up" : "pe-down";
  return make("i", { class: kind }, String(before));
}

// -- the page ---------------------------------------------------------------------------------------------------------

/** Shows what is served; gives it to whoever asks. */
async function start() {
  const about = await fetchJson("page.json");
  const served = [make("span", null, make("b", null, about.model), `, ${about.kind}`)];
  hits.max = about.most_hits;
  if (about.index) {
    const { name, documents: number, columns } = about.index;
    served.push(make("span", null, make("b", null, count(number)), " documents in ", make("b", null, name)));
    const more = columns.length > 5 ? ", …" : "";
    at(".pe-where span").textContent = `Filter, in SQL, on ${columns.slice(0, 5).join(", ")}${more}`;
    document.querySelectorAll(".pe-index").forEach((part) => { part.hidden = false; });
    words.checked = about.words;
    at("#pe-reader").hidden = about.reader === null;
    if (about.reader) {
      at("#pe-reader span").textContent = `read by ${about.reader}`;
      served.push(make("span", null, "the best read by ", make("b", null, about.reader)));
    }
  } else {
    at("#pe-documents").hidden = false;
    at("#pe-ask button").textContent = "Rank";
  }
  at("#pe-examples").replaceChildren(...about.examples.map(example));
  at("#pe-served").replaceChildren(...served);
  return about;
}

function example(given) {
  const said = [given].flat();
  const button = make("button", { type: "button" }, shortened(said.at(-1), 48));
  button.addEventListener("click", () => {
    turns.value = said.slice(0, -1).join("\n");
    query.value = said.at(-1);
    ask();
  });
  return button;
}

const about = start();
about.then(askFromLink, () => null);
about.catch((error) => found.replaceChildren(notice(error.message)));

at("#pe-form").noValidate = true; // what is wrong is said in a sentence
at("#pe-form").addEventListener("submit", (event) => {
  event.preventDefault();
  ask();
});
query.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  ask();
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || event.ctrlKey || event.metaKey || event.target.closest("input, textarea")) return;
  event.preventDefault();
  query.focus();
});
document.querySelectorAll("input[type=radio], input[type=checkbox]").forEach((choice) => {
  choice.addEventListener("change", () => query.value.trim() && ask());
});
