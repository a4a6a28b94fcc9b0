// The table of hyper-parameters: a row for each run, sorted by any column.
import { ask, board, element, number, swatch } from "./common.js";

export class HyperparameterTable {
  constructor() {
    this.sort = { key: "run", down: false };
    this.best = new Map();
    this.node = element("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": "Hyper-parameters" });
  }

  async load() {
    this.answer = await ask("/api/hyperparameters");
    this.draw();
  }

  draw() {
    const { parameters, metrics, rows } = this.answer;
    const columns = [{ key: "run", name: "Run", kind: "", value: (row) => board.runs.get(row.run)?.name ?? "" },
      ...parameters.map((name) => ({ key: `p ${name}`, name, kind: "parameter", value: (row) => row.parameters[name] })),
      ...metrics.map((name) => ({ key: `m ${name}`, name, kind: "metric", value: (row) => name in row.metrics ? Number(row.metrics[name]) : undefined })),
      { key: "status", name: "Status", kind: "", value: (row) => row.status ?? "" }];
    for (const column of columns) column.isNumber = rows.some((row) => typeof column.value(row) === "number");
    const shown = rows.filter((row) => board.shown.has(row.run));
    const column = columns.find((c) => c.key === this.sort.key) ?? columns[0];
    shown.sort((a, b) => compare(column.value(a), column.value(b)) * (this.sort.down ? -1 : 1));
    const head = element("tr", {}, ...columns.map((c) => {
      const isSorted = c.key === this.sort.key;
      return element("th", { scope: "col", class: c.isNumber ? "n" : "", "aria-sort": isSorted ? (this.sort.down ? "descending" : "ascending") : "none" },
        element("button", { type: "button", onclick: () => { this.sort = { key: c.key, down: isSorted && !this.sort.down }; this.draw(); } },
          c.name + (isSorted ? (this.sort.down ? " ↓" : " ↑") : "")), c.kind ? element("span", { class: "kind" }, c.kind) : null);
    }));
    const body = shown.map((row) => element("tr", {}, ...columns.map((c) => {
      const value = c.value(row);
      const text = value === undefined ? "–" : typeof value === "number" ? number(value) : String(value);
      return element("td", { class: c.isNumber ? "n" : "" }, c.key === "run" ? swatch(row.run) : null, c.key === "run" ? ` ${text}` : text);
    })));
    const focused = [...this.node.querySelectorAll("button")].indexOf(document.activeElement);
    this.node.replaceChildren(element("table", { class: "grid" }, element("thead", {}, head), element("tbody", {}, ...body)));
    if (focused >= 0) this.node.querySelectorAll("button")[focused]?.focus();
  }
}

function compare(a, b) {
  if (a === undefined || b === undefined) return (a === undefined) - (b === undefined);
  if (typeof a === "number" && typeof b === "number") return Number.isNaN(a) - Number.isNaN(b) || a - b;
  return String(a).localeCompare(String(b), "en", { numeric: true });
}
