// What all parts of the page share: settings and runs, and what is in elements.js.
export * from "./elements.js";

const stored = JSON.parse(localStorage.getItem("apus-board") ?? "{}");
export const settings = Object.assign(
  { theme: "system", tab: "scalars", smoothing: 0.6, axis: "step", log: false, outliers: true, tagFilter: "", histogramAxis: "step" },
  stored);
export function save() { localStorage.setItem("apus-board", JSON.stringify(settings)); }

/** What the server said last; runs by id; the ids that are shown. */
export const board = { state: null, runs: new Map(), shown: new Set() };

/** The shown runs that have a tag, as the server takes them. */
export function runsWith(counts) { return Object.keys(counts).map(Number).filter((id) => board.shown.has(id)); }

/** A regular expression for a filter; null if it is none. */
export function pattern(text) {
  try { return new RegExp(text, "i"); } catch { return null; }
}
