// The page: what is looked at stands in the address after '#', so that every view can be linked and gone back to.
// Text of samples only ever becomes text: nothing here makes HTML of a string.

import { LAYERS, boxOf, layersOf, overlay, svg } from "./draw.js";

const KINDS = ["task", "dataset", "split", "label", "rule", "license"];
const TITLES = { task: "Task", dataset: "Dataset", split: "Split", label: "Label", rule: "Finding", license: "License" };
const MARKS = { "": "all", unmarked: "unmarked", marked: "marked", kept: "kept", dropped: "dropped" };
const SIZE = 24; // cards of a page
const FEW = 12; // names that need no search
const MOST_NAMES = 200; // that are shown at once
const TOKENS = /(\[(?:DET|GRD|SEG|POSE|GEN|EDIT|EMB\d?)\]|<\/?(?:image|region|reg|img|det|grd)>)/g;
const KEYS = { b: "boxes", m: "masks", p: "keypoints", r: "regions", f: "findings", t: "names" };

const $ = (id) => document.getElementById(id);
const number = (value) => value.toLocaleString("en");

/** Return an element with attributes, listeners (functions) and children. */
function make(name, given = {}, ...children) {
  const one = document.createElement(name);
  for (const [key, value] of Object.entries(given)) {
    if (typeof value === "function") one.addEventListener(key, value);
    else if (key in one && key !== "list") one[key] = value;
    else one.setAttribute(key, value);
  }
  one.append(...children);
  return one;
}

// --- what is looked at -------------------------------------------------------------------------------------------

function parse() {
  const given = new URLSearchParams(location.hash.slice(1));
  const state = Object.fromEntries(KINDS.map((kind) => [kind, given.getAll(kind)]));
  for (const name of ["text", "how", "mark", "seed", "unreadable", "sample", "row"]) state[name] = given.get(name) ?? "";
  state.start = Math.max(parseInt(given.get("start") ?? "0", 10) || 0, 0);
  return state;
}

function written(state, withView = true) {
  const found = new URLSearchParams();
  for (const kind of KINDS) for (const value of state[kind]) found.append(kind, value);
  for (const name of ["text", "mark", "seed", "unreadable"]) if (state[name] !== "") found.set(name, state[name]);
  if (state.text && state.how === "words") found.set("how", "words");
  if (withView && state.start) found.set("start", state.start);
  if (withView && state.sample) found.set("sample", state.sample);
  else if (withView && state.row !== "") found.set("row", state.row);
  return found;
}

let state = parse();
let about = null;
let shown = null; // the sample that is open
let page = null; // the cards that are listed
let framed = 0; // the card that keys act on
let asked = 0; // answers to older questions are not shown
let timer = 0;

function go(changes, replace = false) {
  const next = { ...state, ...changes };
  const hash = `#${written(next)}`;
  if (hash === (location.hash || "#")) return;
  if (replace) history.replaceState(null, "", hash);
  else history.pushState(null, "", hash);
  state = next;
  load();
}

const filtered = (changes) => go({ start: 0, sample: "", row: "", ...changes });

async function ask(path, query) {
  const answer = await fetch(`api/${path}?${query}`);
  const found = await answer.json();
  if (!answer.ok) throw new Error(found.error);
  return found;
}

const kept = {
  get: (name, otherwise) => {
    try {
      return JSON.parse(localStorage.getItem(`explore.${name}`)) ?? otherwise;
    } catch {
      return otherwise;
    }
  },
  set: (name, value) => {
    try {
      localStorage.setItem(`explore.${name}`, JSON.stringify(value));
    } catch {
      // A browser that keeps nothing only forgets these choices.
    }
  },
};

function toast(text) {
  $("toast").textContent = text;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => ($("toast").textContent = ""), 5000);
}

function trouble(error) {
  $("trouble").hidden = !error;
  $("trouble").textContent = error ? error.message ?? String(error) : "";
}

// --- loading -----------------------------------------------------------------------------------------------------

async function load() {
  clearTimeout(timer);
  const mine = ++asked;
  showFilters();
  const one = state.sample || state.row !== "";
  $("list").hidden = one;
  $("one").hidden = !one;
  try {
    if (one) await loadSample(mine);
    else await loadPage(mine);
  } catch (error) {
    if (mine === asked) trouble(error);
  }
}

async function loadPage(mine) {
  const query = written(state, false);
  query.set("start", state.start);
  query.set("size", SIZE);
  $("cards").setAttribute("aria-busy", "true");
  const found = await ask("page", query);
  if (mine !== asked) return;
  trouble(null);
  const same = page && JSON.stringify(page.cards) === JSON.stringify(found.cards) && page.query === String(query);
  page = { ...found, query: String(query) };
  $("cards").removeAttribute("aria-busy");
  if (!same) showCards();
  showPlace();
  document.title = "Explore";
  if (!found.complete) timer = setTimeout(() => mine === asked && load(), 700);
}

async function loadSample(mine) {
  const query = written(state, false);
  if (state.sample) query.set("id", state.sample);
  else query.set("row", state.row);
  const found = await ask("sample", query);
  if (mine !== asked) return;
  trouble(null);
  const again = shown && shown.row === found.row && shown.id === found.id;
  shown = found;
  if (again) {
    showMark();
    if (!shown.problem) $("said").replaceChildren(...shown.sample.conversation.map(turnOf));
  } else showSample();
  showPosition();
  document.title = found.id || "Explore";
  if (!found.complete) timer = setTimeout(() => mine === asked && load(), 1500);
}

async function loadAbout() {
  try {
    about = await ask("about", "");
    showAbout();
    showFilters();
  } catch (error) {
    trouble(new Error(`the server does not answer: ${error.message}`));
  }
  if (!about || (about.indexed < about.samples && !about.error)) setTimeout(loadAbout, 1000);
}

// --- filters -----------------------------------------------------------------------------------------------------

function showAbout() {
  const parts = [`${number(about.samples)} samples in ${about.folders.join(", ")}`];
  const marks = Object.entries(about.marks).map(([name, count]) => `${number(count)} ${name}`);
  if (marks.length) parts.push(marks.join(", "));
  const building = about.indexed < about.samples;
  if (building) parts.push(about.error || `indexing text and labels: ${number(about.indexed)} of ${number(about.samples)}`);
  $("summary").textContent = parts.join(" · ");
  $("indexing").hidden = !building;
  $("indexing").value = about.samples ? about.indexed / about.samples : 1;
  $("selection").textContent = `Marks are saved in ${about.selection}${
    about.ruled ? `, beside ${number(about.ruled)} choices of rules` : ""}.`;
  $("subjects").hidden = !about.num_whole;
  $("subjects").querySelector("summary").textContent = `Findings about no single sample (${number(about.num_whole)})`;
  $("subjects").querySelector("ul").replaceChildren(
    ...about.whole.map((one) => make("li", {}, `${one.rule}: ${one.detail} (${one.subject})`)));
}

function showFilters() {
  if (document.activeElement !== $("text")) $("text").value = state.text;
  $("how").value = state.how || "contains";
  $("marks").replaceChildren(make("legend", {}, "Marks"), ...Object.entries(MARKS).map(([value, name]) =>
    make("label", {}, make("input", { type: "radio", name: "mark", checked: state.mark === value,
      change: () => filtered({ mark: value }) }), ` ${name}`)));
  if (about) for (const kind of KINDS) showFacet(kind);
  const chips = KINDS.flatMap((kind) => state[kind].map((value) => chip(`${TITLES[kind].toLowerCase()}: ${value}`,
    { [kind]: state[kind].filter((one) => one !== value) })));
  if (state.text) chips.push(chip(`text: ${state.text}${state.how === "words" ? " (words)" : ""}`, { text: "", how: "" }));
  if (state.mark) chips.push(chip(MARKS[state.mark] ?? state.mark, { mark: "" }));
  if (state.unreadable) chips.push(chip("unreadable", { unreadable: "" }));
  else if (about?.unreadable) chips.push(make("button", { click: () => filtered({ unreadable: "1" }) },
    `${number(about.unreadable)} cannot be read: show`));
  $("chosen").replaceChildren(...chips);
  $("clear").disabled = !written({ ...state, seed: "" }, false).toString();
  $("in-order").hidden = state.seed === "";
}

const chip = (text, changes) => make("button", { title: "Remove this filter", click: () => filtered(changes) }, `${text} ×`);

/** Show the names of one kind with their counts; what is typed or scrolled there stays. */
function showFacet(kind) {
  let one = document.querySelector(`.facet[data-kind="${kind}"]`);
  const names = Object.entries(about.names[kind]);
  if (!one) {
    const search = make("input", { type: "search", placeholder: `Find a ${TITLES[kind].toLowerCase()}`,
      "aria-label": `Find a ${TITLES[kind].toLowerCase()}`, input: () => fillFacet(one, kind) });
    one = make("details", { className: "facet", "data-kind": kind }, make("summary"), search,
      make("div", { className: "names" }));
    one.open = state[kind].length > 0 || kind === "task";
    $("facets").append(one);
  }
  one.hidden = !names.length && !state[kind].length;
  one.querySelector("input").hidden = names.length <= FEW;
  one.querySelector("summary").textContent = TITLES[kind] + (state[kind].length ? ` (${state[kind].length})` : "");
  fillFacet(one, kind);
}

function fillFacet(one, kind) {
  const wanted = one.querySelector("input").value.toLowerCase();
  const names = Object.entries(about.names[kind]);
  for (const value of state[kind]) if (!(value in about.names[kind])) names.unshift([value, 0]);
  const fitting = names.filter(([name]) => state[kind].includes(name) || name.toLowerCase().includes(wanted));
  const all = kind === "label" ? about.num_labels : names.length;
  const rest = Math.max(fitting.length - MOST_NAMES, 0);
  const key = JSON.stringify([fitting.slice(0, MOST_NAMES), state[kind], rest, all]);
  if (one.dataset.shows === key) return;
  one.dataset.shows = key;
  const box = one.querySelector(".names"), place = box.scrollTop;
  box.replaceChildren(...fitting.slice(0, MOST_NAMES).map(([name, count]) =>
    make("label", {}, make("input", { type: "checkbox", checked: state[kind].includes(name),
      change: (event) => filtered({ [kind]: event.target.checked ? [...state[kind], name] : state[kind].filter((o) => o !== name) }) }),
    make("span", {}, name), make("em", {}, number(count)))));
  if (rest || all > names.length) box.append(make("p", { className: "note" },
    `${number(Math.max(rest, 0) + Math.max(all - names.length, 0))} more: write a part of the name`));
  box.scrollTop = place;
}

// --- the list ----------------------------------------------------------------------------------------------------

function showCards() {
  framed = Math.min(framed, Math.max(page.cards.length - 1, 0));
  $("cards").replaceChildren(...page.cards.map(cardOf));
  if (!page.cards.length && page.complete) $("cards").append(make("p", { className: "note" }, "No sample fits these filters."));
  frame(framed, false);
}

function cardOf(one) {
  const to = { ...state, sample: one.id, row: one.id ? "" : String(one.row) };
  const body = make("div", { className: "text" });
  const link = make("a", { className: "card", href: `#${written(to)}` });
  if (one.mark) {
    const name = one.mark.keep ? "kept" : "dropped";
    link.classList.add(name);
    link.append(make("span", { className: `badge ${name}` }, name));
  }
  if (one.problem) {
    link.append(make("div", { className: "picture none" }, "cannot be read"));
    body.append(make("div", { className: "problem" }, one.problem));
  } else {
    if (one.pictures > 1) link.append(make("span", { className: "badge more" }, `${one.pictures} pictures`));
    link.append(one.picture ? make("div", { className: "picture" }, thumb(one)) : make("div", { className: "picture none" }, "no picture"));
    for (const turn of one.turns) body.append(turnOf(turn));
    body.append(make("div", { className: "id" }, one.id));
  }
  link.append(body);
  return link;
}

/** Return a small picture with its boxes, as large as its space lets it be. */
function thumb(one) {
  const shape = one.picture, image = pictureOf(one.row, shape, 320);
  const box = make("div", { className: "frame" }, image);
  box.style.aspectRatio = `${shape.width} / ${shape.height}`;
  const wide = shape.width / shape.height > 1.3;
  box.style[wide ? "width" : "height"] = "100%";
  const drawn = svg("svg", { "aria-hidden": "true" });
  for (const item of one.boxes) drawn.append(boxOf(item.box, shape, item.color, item.ignore));
  box.append(drawn);
  return box;
}

function pictureOf(row, shape, side) {
  const query = new URLSearchParams({ row, number: shape.number, side });
  const image = make("img", { alt: shape.path, loading: "lazy", decoding: "async", src: `api/picture?${query}` });
  if (Math.max(shape.width, shape.height) <= 200) image.classList.add("small");
  image.addEventListener("error", async () => {
    // The server's words, which a picture cannot show.
    const answer = await fetch(image.src).catch(() => null);
    const says = answer && !answer.ok ? (await answer.json()).error : "the picture cannot be shown";
    image.parentElement?.querySelectorAll("svg, canvas").forEach((one) => one.remove());
    image.replaceWith(make("div", { className: "problem lost" }, says));
  });
  return image;
}

function showPlace() {
  const last = state.start + page.cards.length, sofar = page.complete ? "" : ` so far, looked at ${number(page.looked)}`;
  $("place").textContent = page.total
    ? `${number(state.start + 1)}–${number(last)} of ${number(page.total)}${sofar}` : page.complete ? "0 samples" : `none${sofar}`;
  $("first").disabled = $("back").disabled = state.start === 0;
  $("on").disabled = last >= page.total;
  $("random").disabled = page.total < 2;
}

function frame(place, scroll = true) {
  const cards = document.querySelectorAll("#cards .card");
  if (!cards.length) return;
  framed = Math.min(Math.max(place, 0), cards.length - 1);
  cards.forEach((card, i) => card.classList.toggle("framed", i === framed));
  if (scroll) cards[framed].scrollIntoView({ block: "nearest" });
}

function step(by) {
  if (!$("one").hidden) {
    const row = by > 0 ? shown?.after : shown?.before;
    if (row === null || row === undefined) toast(by > 0 ? "This is the last one." : "This is the first one.");
    else go({ sample: "", row: String(row) }, true);
    return;
  }
  if (!page) return;
  if (framed + by >= page.cards.length && !$("on").disabled) {
    framed = 0;
    go({ start: state.start + SIZE });
  } else if (framed + by < 0 && state.start) {
    framed = SIZE - 1;
    go({ start: Math.max(state.start - SIZE, 0) });
  } else frame(framed + by);
}

// --- one sample --------------------------------------------------------------------------------------------------

const on = { ...Object.fromEntries(LAYERS.map((name) => [name, true])), ...kept.get("layers", {}) };
let off = new Set(); // labels that are hidden

function showSample() {
  off = new Set();
  // The address names the sample, not its row: it holds when folders are added.
  if (shown.id && state.sample !== shown.id) {
    state = { ...state, sample: shown.id, row: "" };
    history.replaceState(null, "", `#${written(state)}`);
  }
  $("id").textContent = shown.id || `row ${shown.row}`;
  $("problem").hidden = !shown.problem;
  $("problem").textContent = shown.problem ?? "";
  $("sample").hidden = Boolean(shown.problem);
  for (const id of ["keep", "drop", "note"]) $(id).disabled = Boolean(shown.problem);
  showMark();
  if (shown.problem) return;
  $("pictures").classList.toggle("several", shown.pictures.length > 1);
  $("pictures").replaceChildren(...shown.pictures.map((shape) => {
    const box = make("div", { className: "frame" }, pictureOf(shown.row, shape, 1600));
    box.style.aspectRatio = `${shape.width} / ${shape.height}`;
    box.style.maxWidth = `min(100%, ${Math.max(Math.min(shape.width, 1600), 320)}px, calc(75vh * ${shape.width / shape.height}))`;
    return make("figure", {}, box, make("figcaption", {}, `${shape.path} · ${shape.width} × ${shape.height} · ${shape.role}`));
  }));
  if (!shown.pictures.length) $("pictures").append(make("p", { className: "note" }, "This sample has no picture."));
  showLayers();
  $("said").replaceChildren(...shown.sample.conversation.map(turnOf));
  showFindings();
  showJson();
  $("record").querySelector("div").replaceChildren();
  loadRecord();
}

function showLayers() {
  const there = shown.pictures.map((shape) => layersOf(shown, shape.number));
  const buttons = LAYERS.filter((name) => there.some((one) => one[name].length || (name === "names" && one.boxes.length + one.regions.length + one.findings.length)))
    .map((name) => make("button", { "aria-pressed": String(on[name]), click: () => toggle(name) }, name));
  $("layers").replaceChildren(...buttons);
  const labels = Object.entries(shown.labels);
  $("legend").replaceChildren(...labels.map(([label, count]) => {
    const dot = make("i");
    dot.style.background = shown.colors[label];
    return make("button", { "aria-pressed": String(!off.has(label)), click: () => {
      if (!off.delete(label)) off.add(label);
      showLayers();
    } }, dot, `${label} ${count > 1 ? `× ${count}` : ""}`.trim());
  }));
  document.querySelectorAll("#pictures .frame").forEach((frame, place) => {
    if (frame.querySelector("img")) overlay(frame, shown, place, on, off);
  });
}

function toggle(name) {
  on[name] = !on[name];
  kept.set("layers", on);
  if (shown && !shown.problem) showLayers();
}

/** Return a turn with its tokens as such, and what was searched for marked. */
function turnOf(turn) {
  const one = make("div", { className: "turn" }, make("b", {}, turn.role), " ");
  for (const piece of turn.text.split(TOKENS)) {
    if (piece.match(/^[[<]/) && piece.match(TOKENS)?.[0] === piece) one.append(make("span", { className: "token" }, piece));
    else if (piece) one.append(...highlighted(piece));
  }
  return one;
}

function highlighted(text) {
  const wanted = state.how === "words" ? state.text.toLowerCase().split(/\s+/).filter(Boolean) : [state.text.toLowerCase()].filter((s) => s.trim());
  const low = text.toLowerCase(), found = [];
  if (low.length !== text.length) return [text];
  for (let at = 0; at < text.length;) {
    const hits = wanted.map((one) => [low.indexOf(one, at), one.length]).filter(([place]) => place >= 0);
    const [place, length] = hits.sort((a, b) => a[0] - b[0])[0] ?? [text.length, 0];
    if (place > at) found.push(text.slice(at, place));
    if (length) found.push(make("mark", {}, text.slice(place, place + length)));
    at = place + length;
  }
  return found;
}

function showFindings() {
  const box = $("findings").querySelector("div"), some = shown.findings;
  $("findings").querySelector("summary").textContent = some ? `Findings (${some.length})` : "Findings";
  if (!some) box.replaceChildren(make("p", { className: "note" }, "No report was given; with --report, an audit's findings stand here."));
  else if (!some.length) box.replaceChildren(make("p", { className: "note" }, "The audit found nothing here."));
  else box.replaceChildren(...some.map((one) => make("div", { className: `finding ${one.severity ?? ""}` },
    make("b", {}, one.rule), ` ${one.severity ?? ""}`, make("div", {}, one.detail ?? ""),
    make("div", { className: "id" }, [one.image, one.box ? `box ${one.box.map((v) => +v.toFixed(2)).join(", ")}` : ""].filter(Boolean).join(" · ")))));
}

function showJson() {
  const short = (key, value) => typeof value === "string" && value.length > 400 ? `${value.slice(0, 400)}… (${value.length} characters)` : value;
  $("json").querySelector("pre").textContent = `${JSON.stringify(shown.where, null, 1)}\n${JSON.stringify(shown.sample, short, 1)}`;
}

async function loadRecord() {
  const mine = shown, box = $("record").querySelector("div");
  if (!$("record").open || box.childElementCount || mine.problem) return;
  box.replaceChildren(make("p", { className: "note" }, "reading the source …"));
  // Whoever leafs through does not want the source of each.
  await new Promise((done) => setTimeout(done, 250));
  if (mine.row !== shown.row) return;
  try {
    const found = await ask("record", new URLSearchParams({ row: mine.row }));
    if (mine.row !== shown.row) return;
    const parts = [make("div", { className: "id" }, `${mine.sample.origin.file} · ${mine.sample.origin.record} · ${mine.sample.origin.spec}`)];
    for (const note of found.notes) parts.push(make("p", { className: "problem" }, note));
    if (found.place) parts.push(make("p", { className: "note" }, `at ${found.place}`));
    if (found.raw) parts.push(make("p", { className: "note" }, "as it stands there"), make("pre", { tabIndex: 0 }, found.raw));
    if (found.parts.length) parts.push(make("p", { className: "note" }, "with what belongs to it there"), make("pre", { tabIndex: 0 }, found.parts.join("\n")));
    if (found.read) parts.push(make("p", { className: "note" }, `as ${mine.sample.origin.reader} reads it`), make("pre", { tabIndex: 0 }, found.read));
    box.replaceChildren(...parts);
  } catch (error) {
    if (mine.row === shown.row) box.replaceChildren(make("p", { className: "problem" }, error.message));
  }
}

function showPosition() {
  const sofar = shown.complete ? "" : " so far";
  $("position").textContent = shown.position === null
    ? `not among the ${number(shown.total)} that fit${sofar}` : `${number(shown.position + 1)} of ${number(shown.total)}${sofar}`;
  $("before").disabled = shown.before === null;
  $("after").disabled = shown.after === null;
}

// --- marks -------------------------------------------------------------------------------------------------------

const made = JSON.parse(sessionStorage.getItem("explore.made") ?? "[]"); // marks of this tab, to undo

function showMark() {
  const mark = shown.mark ?? null;
  $("mark").textContent = mark ? (mark.keep ? "kept" : "dropped") : "unmarked";
  $("mark").className = mark ? (mark.keep ? "kept" : "dropped") : "";
  if (document.activeElement !== $("note")) $("note").value = mark?.note ?? "";
  $("unmark").hidden = !mark;
  $("keep").setAttribute("aria-pressed", String(mark?.keep === true));
  $("drop").setAttribute("aria-pressed", String(mark?.keep === false));
  $("undo").disabled = !made.length;
}

/** Save a mark; return whether that was possible. Another tab's mark is never overwritten unseen. */
async function put(id, mark, was) {
  const answer = await fetch("api/mark", { method: "POST", headers: { "Content-Type": "application/json" },
    body: JSON.stringify({ id, mark, was }) });
  const found = await answer.json();
  if (answer.ok) return true;
  toast(found.error);
  if (answer.status === 409 && shown?.id === id) {
    shown.mark = found.mark;
    $("note").blur();
    showMark();
  }
  return false;
}

let saving = Promise.resolve();
/** Marks are saved one after the other, in the order in which keys were pressed. */
const inTurn = (job) => (saving = saving.then(job).catch((error) => toast(`not saved: ${error.message}`)));

function mark(keep) {
  const target = shown;
  if ($("one").hidden || !target || target.problem) return;
  const note = $("note").value.trim();
  inTurn(async () => {
    const before = target.mark ?? null, after = keep === null ? null : { keep, note };
    if (JSON.stringify(before) === JSON.stringify(after) || !(await put(target.id, after, before))) return;
    target.mark = after;
    remember([...made, { id: target.id, before, after }].slice(-200));
    if (shown === target) showMark();
    loadMarks();
    if ($("go-on").checked && keep !== null && shown === target) {
      const next = await ask("sample", withId(target.id));
      if (next.after !== null && shown === target) go({ sample: "", row: String(next.after) }, true);
    } else if (shown === target && state.mark) load();
  });
}

function withId(id) {
  const query = written(state, false);
  query.set("id", id);
  return query;
}

function undo() {
  inTurn(async () => {
    const last = made.at(-1);
    if (!last) return toast("Nothing was marked in this tab.");
    const done = await put(last.id, last.before, last.after);
    remember(made.slice(0, -1)); // what another tab has changed since cannot be undone here
    if (!done) return;
    toast(`Undone: ${last.id} is ${last.before ? (last.before.keep ? "kept" : "dropped") : "unmarked"} again.`);
    loadMarks();
    if (shown?.id === last.id) {
      shown.mark = last.before;
      showMark();
    }
    load();
  });
}

function remember(some) {
  made.splice(0, made.length, ...some);
  sessionStorage.setItem("explore.made", JSON.stringify(made));
  $("undo").disabled = !made.length;
}

async function loadMarks() {
  about = await ask("about", "");
  showAbout();
}

// --- what people do ----------------------------------------------------------------------------------------------

const random = () => go({ seed: String(Math.floor(Math.random() * 1e9)), start: 0, sample: "", row: "" });

function search() {
  filtered({ text: $("text").value.trim() ? $("text").value : "", how: $("how").value === "words" ? "words" : "" });
}

const CLICKS = {
  first: () => go({ start: 0 }),
  back: () => go({ start: Math.max(state.start - SIZE, 0) }),
  on: () => go({ start: state.start + SIZE }),
  random,
  "in-order": () => filtered({ seed: "" }),
  close: () => go({ sample: "", row: "" }),
  before: () => step(-1),
  after: () => step(1),
  keep: () => mark(true),
  drop: () => mark(false),
  unmark: () => mark(null),
  undo,
  clear: () => filtered({ ...Object.fromEntries(KINDS.map((kind) => [kind, []])), text: "", how: "", mark: "", unreadable: "" }),
  theme: () => setTheme(isDark() ? "light" : "dark"),
  "open-help": () => $("help").showModal(),
  "open-filters": () => $("open-filters").setAttribute("aria-expanded", String($("filters").classList.toggle("shown"))),
};

const isDark = () => (document.documentElement.dataset.theme ?? (matchMedia("(prefers-color-scheme: dark)").matches ? "dark" : "")) === "dark";

function setTheme(name) {
  document.documentElement.dataset.theme = name;
  kept.set("theme", name);
}

function pressed(event) {
  if (event.ctrlKey || event.metaKey || event.altKey || $("help").open) return;
  const at = event.target;
  if (at.matches("input:not([type=checkbox], [type=radio]), select, textarea")) {
    if (event.key === "Escape") at.blur();
    if (event.key === "Enter" && at === $("note")) {
      at.blur();
      mark(shown?.mark?.keep ?? true);
    }
    return;
  }
  const one = !$("one").hidden, arrows = !at.matches("input, pre, summary");
  const does = {
    j: () => step(1), k: () => step(-1), K: () => mark(true), D: () => mark(false), U: undo, R: random,
    "/": () => { $("filters").classList.add("shown"); $("text").focus(); $("text").select(); },
    "?": () => $("help").showModal(),
    ...(one ? { n: () => $("note").focus(), Escape: () => go({ sample: "", row: "" }) } : {}),
    ...(arrows ? { ArrowRight: () => step(1), ArrowLeft: () => step(-1) } : {}),
    // A sample that is open is scrolled by them.
    ...(arrows && !one ? { ArrowDown: () => step(1), ArrowUp: () => step(-1) } : {}),
    ...(!one && arrows && !at.matches("button, a") ? { Enter: () => document.querySelectorAll("#cards .card")[framed]?.click() } : {}),
    ...(KEYS[event.key] && one ? { [event.key]: () => toggle(KEYS[event.key]) } : {}),
  }[event.key];
  if (!does) return;
  event.preventDefault();
  does();
}

for (const [id, does] of Object.entries(CLICKS)) $(id).addEventListener("click", does);
$("home").addEventListener("click", (event) => { event.preventDefault(); CLICKS.clear(); });
$("search").addEventListener("submit", (event) => { event.preventDefault(); $("text").blur(); search(); });
$("text").addEventListener("search", search);
$("how").addEventListener("change", () => $("text").value.trim() && search());
$("record").addEventListener("toggle", () => shown && loadRecord());
$("go-on").checked = kept.get("go-on", false);
$("go-on").addEventListener("change", () => kept.set("go-on", $("go-on").checked));
addEventListener("keydown", pressed);
// Links and the browser's own buttons.
addEventListener("popstate", () => { state = parse(); load(); });
// Another tab may have marked something.
addEventListener("focus", () => { if (about) { loadMarks().catch(trouble); load(); } });
if (matchMedia("(max-width: 760px)").matches) for (const id of ["json", "record"]) $(id).open = false;
const theme = kept.get("theme", "");
if (theme) document.documentElement.dataset.theme = theme;
loadAbout();
load();
