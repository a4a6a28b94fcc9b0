// The page as a whole: models, load, and the last requests.
import { Cards, clock, count, duration, element, hideTip, showTheme, showTip } from "./elements.js";
import { Curves, batchChart, latency, legend, rate } from "./charts.js";
import { TryForm } from "./form.js";
import { address, ask, useToken } from "./server.js";

const $ = (id) => document.getElementById(id);
const settings = Object.assign({ theme: "system", minutes: 15 }, JSON.parse(localStorage.getItem("apus-serving") ?? "{}"));
const save = () => localStorage.setItem("apus-serving", JSON.stringify(settings));
const form = new TryForm($("panel-try"));
const cards = new Cards(), modelCards = new Map();
let state = null, before = null, paused = false, timer = 0;

// MARK: Tabs

const tabs = [...$("tabs").children];
function choose(name, focus = false) {
  for (const tab of tabs) {
    const isChosen = tab.dataset.tab === name;
    tab.setAttribute("aria-selected", String(isChosen));
    tab.tabIndex = isChosen ? 0 : -1;
    $(`panel-${tab.dataset.tab}`).hidden = !isChosen;
    if (isChosen && focus) tab.focus();
  }
  if (location.hash !== `#${name}`) history.replaceState(null, "", `#${name}`);
  hideTip();
}
for (const tab of tabs) tab.addEventListener("click", () => choose(tab.dataset.tab));
$("tabs").addEventListener("keydown", (event) => {
  const next = tabs[tabs.indexOf(document.activeElement) + ({ ArrowRight: 1, ArrowLeft: -1 }[event.key] ?? NaN)];
  if (next) choose(next.dataset.tab, true);
});
function chooseByAddress() { const name = location.hash.slice(1); if (tabs.some((tab) => tab.dataset.tab === name)) choose(name); }
addEventListener("hashchange", chooseByAddress);
chooseByAddress();

// MARK: Load

export function bytes(value) {
  if (value == null) return "–";
  for (const [size, unit] of [[2 ** 30, "GB"], [2 ** 20, "MB"], [2 ** 10, "kB"]]) if (value >= size) return `${Number((value / size).toPrecision(3))} ${unit}`;
  return `${value} B`;
}

function drawLoad() {
  const { process, models } = state;
  const minutes = models.map((model) => model.minute).filter(Boolean);
  const sum = (get) => models.flatMap((model) => model.versions).reduce((total, version) => total + (get(version) ?? 0), 0);
  const cpu = before ? (process.cpuSeconds - before.process.cpuSeconds) / Math.max(0.1, (state.time - before.time) / 1000) : null;
  const failures = minutes.reduce((total, one) => total + one.failures, 0), all = minutes.reduce((total, one) => total + one.count + one.failures, 0);
  const items = [
    ["Requests/s", rate(minutes.reduce((total, one) => total + one.rate, 0)), "over the last minute"],
    ["Failed", all === 0 ? "0 %" : `${Number(((100 * failures) / all).toPrecision(2))} %`, "over the last minute"],
    ["Waiting", count(sum((version) => version.pending)), "requests in queues"],
    ["Memory", bytes(process.resident), `weights ${bytes(sum((version) => version.weights))}`],
    ["Processor", cpu === null ? "–" : `${Math.round(cpu * 100)} %`, `${process.threads ?? "–"} threads`],
    ["Open files", process.openFiles == null ? "–" : count(process.openFiles), process.maxFiles == null ? "" : `of ${count(process.maxFiles)}`],
    ["Up for", process.started == null ? "–" : duration(Math.max(0, Math.round(state.time / 1000 - process.started))), process.started == null ? "" : `since ${clock(process.started)}`],
  ];
  $("load").replaceChildren(...items.map(([name, value, note]) => element("div", {}, element("dt", {}, name), element("dd", {}, value, element("small", { title: note }, note)))));
}

// MARK: Models

const looks = { AVAILABLE: "good", LOADING: "busy", START: "busy", UNLOADING: "busy" };
function badge(version) { return element("span", { class: `badge ${version.error ? "bad" : looks[version.state] ?? ""}` }, version.error ? "FAILED" : version.state); }

class ModelCard {
  constructor(name) {
    this.name = name;
    this.curves = new Curves();
    this.curves.minutes = settings.minutes;
    this.head = element("div", {});
    this.legend = element("div", {});
    this.batches = element("div", {});
    const spans = [[1, "1 min"], [15, "15 min"]];
    this.spans = spans.map(([minutes, text]) => element("button", { type: "button", "aria-pressed": String(minutes === settings.minutes), onclick: () => {
      settings.minutes = minutes;
      save();
      for (const card of modelCards.values()) card.show(minutes);
    } }, text));
    this.node = element("article", { class: "card", "data-model": name },
      element("header", {}, element("h2", {}, name), ...this.spans, element("button", { type: "button", onclick: () => { form.choose({ model: name, version: "", signature: null }); choose("try"); } }, "Try it")),
      this.head, element("h3", {}, "Latency and load"), this.legend, this.curves.node, this.batches);
  }

  show(minutes) {
    this.spans.forEach((button, i) => button.setAttribute("aria-pressed", String((i === 0) === (minutes === 1))));
    this.curves.minutes = minutes;
    this.curves.draw();
    if (this.model) this.update(this.model);
  }

  update(model) {
    this.model = model;
    const labels = Object.entries(model.labels ?? {});
    const rows = model.versions.flatMap((version) => [
      element("tr", {}, element("td", {}, String(version.version), ...labels.filter(([, number]) => number === version.version).map(([label]) => element("span", { class: "badge" }, label))),
        element("td", {}, badge(version)), element("td", { class: "n" }, version.weights == null ? "–" : bytes(version.weights)),
        element("td", { class: "n" }, count(version.success ?? 0)), element("td", { class: "n" }, count(version.failures ?? 0)), element("td", { class: "n" }, count(version.pending ?? 0))),
      version.error ? element("tr", {}, element("td", { colspan: 6, class: "reason" }, version.error)) : null,
    ]);
    const loaded = model.versions.find((version) => version.signatures);
    this.head.replaceChildren(
      element("table", { class: "versions" }, element("tr", {}, ...["Version", "State", "Weights", "Answered", "Failed", "Waiting"].map((text, i) => element("th", { class: i > 1 ? "n" : "" }, text))), ...rows.filter(Boolean)),
      ...(loaded?.signatures ?? []).slice(0, 4).map((signature) => element("p", { class: "signature" }, loaded.signatures.length > 1 ? `${signature.name} ` : "", signature.text)));
    this.legend.replaceChildren(legend(settings.minutes === 1 ? model.minute : model.quarter));
    const batches = mergedBatches(model.versions), key = JSON.stringify(batches);
    if (key !== this.batchKey) {
      this.batchKey = key;
      this.batches.replaceChildren(...(batches.length === 0 ? [] : [element("h3", {}, "Examples in a run"), batchChart(batches)]));
    }
  }

  async load() { this.curves.show(await ask(`status/curves?model=${encodeURIComponent(this.name)}`)); }
}

function mergedBatches(versions) {
  const sizes = new Map();
  for (const [size, runs, time] of versions.flatMap((version) => version.batches ?? [])) {
    const one = sizes.get(size) ?? [size, 0, 0];
    one[1] += runs;
    one[2] += time;
    sizes.set(size, one);
  }
  return [...sizes.values()].sort((a, b) => a[0] - b[0]);
}

function drawModels() {
  $("model-count").textContent = count(state.models.length);
  const names = state.models.map((model) => model.name), shown = [...modelCards.keys()];
  if (JSON.stringify(names) !== JSON.stringify(shown) || names.length === 0) {
    const old = new Map(modelCards);
    modelCards.clear();
    cards.clear();
    for (const name of names) {
      const card = old.get(name) ?? new ModelCard(name);
      modelCards.set(name, card);
    }
    $("models").replaceChildren(...(names.length === 0 ? [element("div", { class: "empty" }, element("strong", {}, "No models"), "Nothing is served yet.")] : [...modelCards.values()].map((card) => card.node)));
    for (const card of modelCards.values()) cards.add(card.node, () => card.load());
  }
  for (const model of state.models) modelCards.get(model.name).update(model);
}

// MARK: Requests

const partNames = ["parse", "queue", "batch inputs", "compute", "split outputs"], partColours = [9, 5, 7, 0, 2];
function partsBar(request) {
  const svg = element("svg", { viewBox: "0 0 120 10", preserveAspectRatio: "none", "aria-hidden": "true" });
  let x = 0;
  request.parts.forEach((time, i) => {
    const width = Math.min(120 - x, (120 * time) / Math.max(request.total, 1));
    if (width > 0.2) svg.append(element("rect", { class: "dot", run: partColours[i], x: x.toFixed(2), y: 0, width: width.toFixed(2), height: 10 }));
    x += width;
  });
  const node = element("span", { class: "parts plot" }, svg);
  node.addEventListener("pointermove", (event) => showTip(element("table", {}, ...request.parts.map((time, i) => element("tr", {}, element("td", {}, element("span", { class: "swatch", run: partColours[i] }), " ", partNames[i]), element("td", { class: "n" }, latency(time / 1000)))),
    element("tr", {}, element("th", {}, "in all"), element("td", { class: "n" }, latency(request.total / 1000)))), event.clientX, event.clientY));
  node.addEventListener("pointerleave", hideTip);
  return node;
}

function drawRequests() {
  const panel = $("panel-requests");
  if (panel.hidden) return;
  const heads = ["Time", "Model", "Protocol", "Code", "Took", "Where the time went", "Batch", "Id"];
  const rows = state.recent.map((request) => element("tr", {},
    element("td", {}, clock(request.time, false)), element("td", {}, request.version ? `${request.model} ${request.version}` : request.model || "–"),
    element("td", {}, `${request.api}${request.operation ? ` ${request.operation}` : ""}`),
    element("td", { class: request.error ? "error" : "" }, element("span", { class: `badge ${request.error ? "bad" : "good"}` }, request.code), request.error ? element("div", {}, request.error) : null),
    element("td", { class: "n" }, latency(request.total / 1000)), element("td", {}, request.error ? "" : request.hit ? "from the cache" : partsBar(request)),
    element("td", { class: "n" }, request.error ? "" : String(request.batch)),
    element("td", { class: "id", title: request.id }, request.id)));
  panel.replaceChildren(
    element("div", { class: "totals" }, ...state.requests.map(([api, code, number]) => element("span", { class: `badge ${code === "OK" ? "good" : "bad"}` }, `${api} ${code} ${count(number)}`))),
    element("div", { class: "totals legend" }, ...partNames.map((name, i) => element("span", {}, element("span", { class: "swatch", run: partColours[i] }), name)),
      element("a", { href: address("v2/trace/requests"), download: "requests-trace.json" }, "The last requests as a trace for Perfetto")),
    rows.length === 0 ? element("div", { class: "empty" }, element("strong", {}, "No requests yet"), state.hasJournal ? "They appear here by themselves." : "This server keeps no record of requests.")
      : element("div", { class: "scroll requests" }, element("table", { class: "grid" }, element("tr", {}, ...heads.map((text, i) => element("th", { class: i === 4 || i === 6 ? "n" : "" }, text))), ...rows)));
}

// MARK: What is new

function setLive(kind, text) { $("live").dataset.state = kind; if ($("live").textContent !== text) $("live").textContent = text; }

async function update() {
  clearTimeout(timer);
  try {
    const next = await ask("status/state");
    before = state;
    state = next;
    $("ready").hidden = false;
    $("ready").className = `badge ${state.ready ? "good" : "busy"}`;
    $("ready").textContent = state.ready ? "Ready" : "Not ready";
    drawLoad();
    drawModels();
    form.update(state.models);
    drawRequests();
    cards.refresh();
    setLive("live", "Live");
    $("notice").hidden = $("token-form").hidden = true;
  } catch (error) {
    setLive("lost", "Not connected");
    $("token-form").hidden = error.status !== 401;
    $("notice").hidden = error.status === 401;
    $("notice").textContent = error instanceof TypeError ? "The server does not answer." : error.message;
  }
  if (!paused) timer = setTimeout(() => { if (!document.hidden) update(); }, 2000);
}
document.addEventListener("visibilitychange", () => { if (!document.hidden && !paused) update(); });
for (const tab of tabs) tab.addEventListener("click", () => { if (state) drawRequests(); });
$("pause").addEventListener("click", () => {
  paused = !paused;
  $("pause").setAttribute("aria-pressed", String(paused));
  if (paused) { clearTimeout(timer); setLive("paused", "Paused"); } else update();
});
$("token-form").addEventListener("submit", (event) => { event.preventDefault(); useToken($("token").value.trim()); update(); });

function applyTheme() {
  showTheme(settings.theme);
  $("theme").textContent = { system: "Theme: auto", light: "Theme: light", dark: "Theme: dark" }[settings.theme];
}
$("theme").addEventListener("click", () => { settings.theme = { system: "light", light: "dark", dark: "system" }[settings.theme]; save(); applyTheme(); });
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", applyTheme);
const wanted = new URLSearchParams(location.search).get("theme");
if (["light", "dark", "system"].includes(wanted)) settings.theme = wanted;
applyTheme();
update();
