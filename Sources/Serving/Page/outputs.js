// What a model answered: scores of classes as bars, values as a table.
import { element, number } from "./elements.js";

/** Nested lists as a flat one with its shape. */
export function flattened(value) {
  const shape = [];
  for (let part = value; Array.isArray(part); part = part[0]) { shape.push(part.length); if (part.length === 0) break; }
  return { shape, data: Array.isArray(value) ? value.flat(Infinity) : [value] };
}

function text(value) {
  if (typeof value === "number") return number(value);
  return typeof value === "string" ? value : JSON.stringify(value);
}

/** An output: `{name, shape, type, data}` with flat data. */
export function outputView(output, labels) {
  const { name, shape, data, type } = output;
  const node = element("div", { class: "output", "data-output": name },
    element("h3", {}, name, element("span", { class: "muted" }, ` ${type ?? ""}[${shape.join(", ")}]`)));
  const last = shape[shape.length - 1] ?? 1;
  const isScores = shape.length <= 2 && shape.length >= 1 && last >= 2 && last <= 20000 && data.every((value) => typeof value === "number") && !/^(u?int|bool)/i.test(type ?? "");
  if (isScores) node.append(scoresView(data, last, labels));
  node.append(tableView(shape, data));
  return node;
}

function scoresView(data, width, labels) {
  const rows = Math.min(8, data.length / width), node = element("div", {});
  const first = data.slice(0, width);
  // Scores that are no probabilities are mostly logits: both can be looked at.
  const isProbability = first.every((value) => value >= -1e-6 && value <= 1 + 1e-6) && Math.abs(first.reduce((a, b) => a + b, 0) - 1) < 1e-2;
  let soft = !isProbability;
  const bars = element("div", {});
  const draw = () => bars.replaceChildren(...Array.from({ length: rows }, (_, row) => scores(data.slice(row * width, (row + 1) * width), labels?.length === width ? labels : null, soft, rows > 1 ? row : null)));
  if (!isProbability) {
    node.append(element("label", { class: "muted" }, element("input", { type: "checkbox", checked: true, onchange: (event) => { soft = event.target.checked; draw(); } }), " as probabilities (softmax)"));
  }
  draw();
  node.append(bars);
  return node;
}

function scores(values, labels, soft, row) {
  let shown = values;
  if (soft) {
    const most = Math.max(...values), parts = values.map((value) => Math.exp(value - most)), sum = parts.reduce((a, b) => a + b, 0);
    shown = parts.map((part) => part / sum);
  }
  const order = shown.map((value, i) => [value, i]).sort((a, b) => b[0] - a[0]).slice(0, 10);
  const low = Math.min(0, ...shown), high = soft ? 1 : Math.max(...shown, low + 1e-12);
  const grid = element("div", { class: "scores", role: "list", "aria-label": row === null ? "Best classes" : `Best classes of example ${row}` });
  if (row !== null) grid.append(element("span", { class: "muted" }, `example ${row}`), element("span", {}), element("span", {}));
  order.forEach(([value, i], rank) => {
    const share = Math.max(0, Math.min(1, (value - low) / (high - low)));
    grid.append(element("span", { class: rank === 0 ? "name best" : "name", title: labels?.[i] ?? "" }, labels?.[i] ?? `class ${i}`),
      element("svg", { viewBox: "0 0 100 10", preserveAspectRatio: "none", "aria-hidden": "true" }, element("rect", { x: 0, y: 0, width: (share * 100).toFixed(2), height: 10 })),
      element("span", { class: "value" }, soft ? `${(value * 100).toFixed(value < 0.0995 ? 2 : 1)} %` : number(value)));
  });
  return grid;
}

/** At most 20 rows of at most 16 values. */
function tableView(shape, data) {
  const width = shape.length === 0 ? 1 : Math.max(1, shape[shape.length - 1]), rows = Math.ceil(data.length / width);
  const columns = Math.min(width, 16), table = element("table", {});
  table.append(element("tr", {}, element("th", {}), ...Array.from({ length: columns }, (_, i) => element("th", {}, String(i))), width > columns ? element("th", {}, "…") : null));
  for (let row = 0; row < Math.min(rows, 20); row++) {
    table.append(element("tr", {}, element("th", {}, place(row, shape)), ...data.slice(row * width, row * width + columns).map((value) => element("td", {}, text(value))), width > columns ? element("td", {}, "…") : null));
  }
  return element("details", { class: "values", open: rows * width <= 64 }, element("summary", { class: "muted" }, `${data.length} value${data.length === 1 ? "" : "s"}${rows > 20 || width > columns ? ", the first of them" : ""}`), table);
}

/** Where a row of the last dimension is in the others. */
function place(row, shape) {
  const result = [];
  for (let i = shape.length - 2; i >= 0; i--) { result.unshift(row % shape[i]); row = Math.floor(row / shape[i]); }
  return result.length === 0 ? "" : `[${result.join(", ")}]`;
}
