// The page as a whole: which runs, which kind of values, and asking for what is new.
import { Cards, ask, board, count, element, pattern, save, settings, showTheme } from "./common.js";
import { ScalarCard } from "./chart.js";
import { HistogramCard } from "./histogram.js";
import { BlobCard, TextCard } from "./media.js";
import { HyperparameterTable } from "./tables.js";

const $ = (id) => document.getElementById(id);
const tabs = [["scalars", "Scalars"], ["histograms", "Histograms"], ["images", "Images"], ["sounds", "Audio"], ["texts", "Text"], ["hyperparameters", "Hyper-parameters"]];
const cards = new Cards();
const hidden = new Set(), known = new Set();
const pageSize = 24;
let filter = "", paused = false, layout = "", timer = 0;
const openGroups = new Map(), groupSizes = new Map(), kept = new Map();

// MARK: Runs

function drawRuns() {
  const expression = pattern(filter);
  $("run-filter-error").hidden = expression !== null;
  if (!expression) { $("run-filter-error").textContent = "This is not a regular expression."; return; }
  const matching = board.state.runs.filter((run) => expression.test(run.name));
  board.shown = new Set(matching.filter((run) => !hidden.has(run.id)).map((run) => run.id));
  $("run-count").textContent = `${board.shown.size} of ${board.state.runs.length}`;
  const focused = document.activeElement?.dataset?.run;
  $("runs").replaceChildren(...matching.map((run) => element("li", { run: run.id },
    element("label", {}, element("input", { type: "checkbox", checked: board.shown.has(run.id), "data-run": run.id, onchange: (event) => { event.target.checked ? hidden.delete(run.id) : hidden.add(run.id); selectionChanged(); } }),
      element("span", { class: "name" }, run.name, ...run.problems.map((text) => element("span", { class: "problem" }, text))),
      element("span", { class: "last", title: "The last step" }, count(run.lastStep))))));
  if (focused) $("runs").querySelector(`input[data-run="${focused}"]`)?.focus();
}

function selectionChanged() { drawRuns(); draw(); cards.refresh(); }

$("run-filter").addEventListener("input", (event) => { filter = event.target.value; if (board.state) selectionChanged(); });
$("all").addEventListener("click", () => { for (const id of matchingIds()) hidden.delete(id); selectionChanged(); });
$("none").addEventListener("click", () => { for (const id of matchingIds()) hidden.add(id); selectionChanged(); });
function matchingIds() { const e = pattern(filter); return e ? board.state.runs.filter((run) => e.test(run.name)).map((run) => run.id) : []; }

// MARK: Tabs and settings

function available(key) { return key === "hyperparameters" ? board.state.hyperparameters : Object.keys(board.state[key]).length; }

function drawTabs() {
  const shown = tabs.filter(([key]) => key === "scalars" || available(key) > 0);
  if (!shown.some(([key]) => key === settings.tab)) settings.tab = "scalars";
  const focused = document.activeElement?.dataset?.tab;
  $("tabs").replaceChildren(...shown.map(([key, name]) => element("button", {
    type: "button", role: "tab", "aria-selected": String(key === settings.tab), "aria-controls": "view", "data-tab": key,
    tabindex: key === settings.tab ? "0" : "-1", onclick: () => choose(key),
  }, name, element("span", { class: "count" }, count(available(key))))));
  $("view").setAttribute("aria-label", tabs.find(([key]) => key === settings.tab)[1]);
  if (focused) $("tabs").querySelector(`[data-tab="${focused}"]`)?.focus();
}
$("tabs").addEventListener("keydown", (event) => {
  const all = [...$("tabs").children], now = all.indexOf(document.activeElement);
  const next = all[now + ({ ArrowRight: 1, ArrowLeft: -1 }[event.key] ?? NaN)];
  if (next) { next.focus(); next.click(); }
});
function choose(key) { settings.tab = key; save(); drawTabs(); drawSettings(); draw(); }

function segments(label, options, current, action) {
  const buttons = options.map(([value, name]) => element("button", { type: "button", "aria-pressed": String(value === current), onclick: () => {
    for (const button of buttons) button.setAttribute("aria-pressed", String(button === buttons[options.findIndex((o) => o[0] === value)]));
    action(value);
  } }, name));
  return element("div", { class: "choice", role: "group", "aria-label": label }, element("span", {}, label), element("div", { class: "segments" }, ...buttons));
}

function drawSettings() {
  const nodes = [];
  if (settings.tab !== "hyperparameters") {
    nodes.push(element("input", { type: "search", placeholder: "Filter tags by regular expression", "aria-label": "Filter tags", value: settings.tagFilter, spellcheck: "false", oninput: (event) => { settings.tagFilter = event.target.value; save(); draw(); } }));
  }
  const axes = [["step", "Step"], ["relative", "Relative"], ["wall", "Wall"]];
  if (settings.tab === "scalars") {
    const output = element("output", { for: "smoothing" }, settings.smoothing.toFixed(2));
    nodes.push(element("label", {}, "Smoothing", element("input", { id: "smoothing", type: "range", min: 0, max: 0.99, step: 0.01, value: settings.smoothing, oninput: (event) => { settings.smoothing = Number(event.target.value); output.textContent = settings.smoothing.toFixed(2); save(); cards.refresh(); } }), output),
      segments("Axis", axes, settings.axis, (value) => { settings.axis = value; save(); redraw((card) => { card.zoom = null; }); }),
      segments("Scale", [[false, "Linear"], [true, "Log"]], settings.log, (value) => { settings.log = value; save(); redraw((card) => { card.log = null; }); }),
      element("label", { title: "A few values far from all others do not decide the scale" }, element("input", { type: "checkbox", checked: settings.outliers, onchange: (event) => { settings.outliers = event.target.checked; save(); redraw(); } }), "Ignore outliers"));
  }
  if (settings.tab === "histograms") nodes.push(segments("Axis", axes, settings.histogramAxis, (value) => { settings.histogramAxis = value; save(); redraw(); }));
  $("settings").replaceChildren(...nodes);
}

function redraw(change) { for (const card of kept.values()) { change?.(card); card.draw?.(); } }

// MARK: Cards

/** The cards of the tab, as [key, group, maker]: the same key is the same card when the page is laid out again. */
function wanted() {
  const tab = settings.tab, expression = pattern(settings.tagFilter);
  if (tab === "hyperparameters") return null;
  const result = [];
  for (const [tag, counts] of Object.entries(board.state[tab])) {
    if (expression && !expression.test(tag)) continue;
    const runs = board.state.runs.map((run) => run.id).filter((id) => id in counts && board.shown.has(id));
    if (runs.length === 0) continue;
    const group = tag.split(/[\/_]/, 1)[0] || tag;
    if (tab === "scalars") result.push([`scalars ${tag}`, group, () => new ScalarCard(tag), tag]);
    else for (const run of runs) {
      result.push([`${tab} ${run} ${tag}`, group, () => tab === "histograms" ? new HistogramCard(tag, run) : tab === "texts" ? new TextCard(tag, run) : new BlobCard(tag, run, tab === "sounds"), tag]);
    }
  }
  return result;
}

function draw() {
  const list = wanted();
  const key = JSON.stringify([settings.tab, list?.map((item) => item[0]), [...groupSizes], board.state.runs.length === 0]);
  if (key === layout) return;
  layout = key;
  cards.clear();
  const fresh = new Map();
  const card = (name, make) => {
    const made = kept.get(name) ?? make();
    fresh.set(name, made);
    cards.add(made.node, () => made.load());
    return made.node;
  };
  let nodes;
  if (board.state.runs.length === 0) nodes = [empty("No event files yet", "Waiting for runs below ", board.state.folder, ". Write some with SummaryWriter or the TensorBoard callback; they appear here by themselves.")];
  else if (!list) nodes = [card("hyperparameters", () => new HyperparameterTable())];
  else if (list.length === 0) nodes = [empty("Nothing to show", available(settings.tab) === 0 ? "The runs hold no values of this kind." : "No tag fits the filter and the chosen runs.")];
  else nodes = groups(list).map(([group, items]) => section(group, items, card));
  kept.clear();
  for (const [name, value] of fresh) kept.set(name, value);
  $("view").replaceChildren(...nodes);
}

/** Cards under headings; headings with a single tag are put together, at the end. */
function groups(list) {
  const tags = new Map();
  for (const [, group, , tag] of list) { if (!tags.has(group)) tags.set(group, new Set()); tags.get(group).add(tag); }
  const result = new Map(), others = [];
  for (const item of list) {
    if (tags.get(item[1]).size < 2 && tags.size > 1) { others.push(item); continue; }
    if (!result.has(item[1])) result.set(item[1], []);
    result.get(item[1]).push(item);
  }
  if (others.length > 0) result.set(result.size === 0 ? "All" : "Others", others);
  return [...result];
}

function section(group, items, card) {
  const name = `${settings.tab} ${group}`;
  const size = groupSizes.get(name) ?? pageSize;
  const grid = element("div", { class: "cards" }, ...items.slice(0, size).map(([key, , make]) => card(key, make)));
  const node = element("details", { class: "group", open: openGroups.get(name) ?? true },
    element("summary", {}, group, element("span", { class: "muted" }, items.length === 1 ? "" : String(items.length))), grid);
  node.addEventListener("toggle", () => openGroups.set(name, node.open));
  if (items.length > size) node.append(element("button", { type: "button", class: "more", onclick: () => { groupSizes.set(name, size + pageSize); draw(); } }, `Show ${Math.min(pageSize, items.length - size)} more of ${items.length - size}`));
  return node;
}

function empty(title, text, code, rest) {
  return element("div", { class: "empty" }, element("strong", {}, title), text, code ? element("code", {}, code) : null, rest ?? "");
}

// MARK: What is new

function setLive(state, text) { $("live").dataset.state = state; if ($("live").textContent !== text) $("live").textContent = text; }

async function update() {
  clearTimeout(timer);
  let next = 2000;
  try {
    const state = await ask("/api/state");
    const isNew = state.version !== board.state?.version || state.loading !== board.state?.loading;
    board.state = state;
    board.runs = new Map(state.runs.map((run) => [run.id, run]));
    if (isNew) {
      // With very many runs the first ones are enough to begin with.
      state.runs.forEach((run, i) => { if (!known.has(run.id)) { known.add(run.id); if (i >= 40) hidden.add(run.id); } });
      $("folder").textContent = state.folder;
      drawRuns();
      drawTabs();
      if ($("settings").childElementCount === 0) drawSettings();
      draw();
      cards.refresh();
    }
    setLive(state.loading ? "loading" : "live", state.loading ? "Reading files" : "Live");
    if (state.loading) next = 300;
    $("notice").hidden = true;
  } catch (error) {
    setLive("lost", "Not connected");
    $("notice").textContent = error instanceof TypeError ? "The board does not answer: the command has ended, or the connection is lost." : error.message;
    $("notice").hidden = false;
    next = 4000;
  }
  if (!paused) timer = setTimeout(() => document.hidden ? undefined : update(), next);
}
document.addEventListener("visibilitychange", () => { if (!document.hidden && !paused) update(); });
$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  if (paused) { clearTimeout(timer); setLive("paused", "Paused"); } else update();
});

function applyTheme() {
  showTheme(settings.theme);
  $("theme").textContent = { system: "Theme: auto", light: "Theme: light", dark: "Theme: dark" }[settings.theme];
}
$("theme").addEventListener("click", () => { settings.theme = { system: "light", light: "dark", dark: "system" }[settings.theme]; save(); applyTheme(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", applyTheme);

// `?theme=dark&tab=histograms` and the like: an address that shows what is meant.
for (const [name, value] of new URLSearchParams(location.search)) {
  if (typeof settings[name] === "string") settings[name] = value;
  else if (typeof settings[name] === "number") settings[name] = Math.min(0.99, Math.max(0, Number(value) || 0));
  else if (typeof settings[name] === "boolean") settings[name] = value === "true";
}
if (new URLSearchParams(location.search).has("runs")) $("run-filter").value = filter = new URLSearchParams(location.search).get("runs");
applyTheme();
update();
