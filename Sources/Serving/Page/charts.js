// Curves of latency and load of a model, and the histogram of its batches.
import { clock, count, element, hideTip, number, showTip, span, ticks } from "./elements.js";

const kinds = [["p50", 3, 2], ["p90", 4, 1], ["p99", 5, 3]];  // the place in a slot, the colour

/** Microseconds as people say them. */
export function latency(microseconds) {
  if (microseconds == null) return "–";
  if (microseconds < 1000) return `${number(Number(microseconds.toPrecision(3)))} µs`;
  if (microseconds < 1e6) return `${number(Number((microseconds / 1000).toPrecision(3)))} ms`;
  return `${number(Number((microseconds / 1e6).toPrecision(3)))} s`;
}

export function rate(perSecond) { return number(perSecond >= 100 ? Math.round(perSecond) : Number(perSecond.toPrecision(2))); }

export function legend(summary) {
  return element("div", { class: "legend" },
    ...kinds.map(([name, , colour]) => element("span", {}, element("span", { class: "swatch", run: colour, "aria-hidden": "true" }), `${name} `, element("b", {}, latency(summary?.[name])))),
    element("span", {}, element("span", { class: "swatch", run: 0, "aria-hidden": "true" }), "requests/s ", element("b", {}, rate(summary?.rate ?? 0))),
    summary?.failures ? element("span", { class: "error" }, `${count(summary.failures)} failed`) : null);
}

/** Latencies on a logarithmic scale above, requests a second below. */
export class Curves {
  constructor() {
    this.node = element("div", { class: "curves" });
    this.minutes = 15;
    this.data = null;
    new ResizeObserver(() => this.draw()).observe(this.node);
  }

  show(data) { this.data = data; this.draw(); }

  draw() {
    const width = this.node.clientWidth;
    if (!this.data || width < 60) return;
    const all = this.data.slots, step = this.data.seconds;
    const slots = all.slice(-Math.round((this.minutes * 60) / step));
    const [left, right, top, middle, base] = [46, 6, 8, 96, 138];
    const end = slots.length > 0 ? slots[slots.length - 1][0] + step : 0, start = end - this.minutes * 60;
    const x = (time) => left + ((time - start) / (end - start)) * (width - left - right);
    const svg = element("svg", { class: "plot", viewBox: `0 0 ${width} 156`, height: 156, role: "img", "aria-label": `Latencies and load of ${this.data.model} in the last ${this.minutes} minutes` });
    const values = slots.flatMap((slot) => kinds.map(([, place]) => slot[place])).filter((value) => value != null && value > 0);
    if (values.length === 0) {
      svg.append(element("text", { x: width / 2, y: 58, "text-anchor": "middle" }, `No requests in the last ${this.minutes === 1 ? "minute" : `${this.minutes} minutes`}`));
    } else {
      let [low, high] = [Math.log10(Math.min(...values)), Math.log10(Math.max(...values))];
      if (high - low < 0.3) { low -= 0.15; high += 0.15; }
      const y = (value) => middle - ((Math.log10(value) - low) / (high - low)) * (middle - top);
      for (const tick of logTicks(low, high)) {
        svg.append(element("line", { class: "gridline", x1: left, x2: width - right, y1: y(tick), y2: y(tick) }),
          element("text", { x: left - 5, y: y(tick) + 3.5, "text-anchor": "end" }, latency(tick)));
      }
      for (const [, place, colour] of kinds) {
        let path = "", last = null;
        slots.forEach((slot, i) => {
          // One without neighbours would not be seen as a line.
          if (slot[place] != null && slots[i - 1]?.[place] == null && slots[i + 1]?.[place] == null) svg.append(element("circle", { class: "dot", run: colour, cx: x(slot[0] + step / 2), cy: y(Math.max(slot[place], 1)), r: 3 }));
        });
        for (const slot of slots) {
          if (slot[place] == null) { last = null; continue; }
          // A gap without requests is a gap in the curve.
          path += `${last === null ? "M" : "L"}${x(slot[0] + step / 2).toFixed(1)} ${y(Math.max(slot[place], 1)).toFixed(1)}`;
          last = slot;
        }
        svg.append(element("path", { class: "curve", run: colour, d: path, "stroke-linecap": "round" }));
      }
    }
    const most = Math.max(1 / step, ...slots.map((slot) => (slot[1] + slot[2]) / step));
    const bar = Math.max(1, ((width - left - right) * step) / (end - start) - 0.5);
    for (const slot of slots) {
      const height = ((slot[1] / step) / most) * 30, failed = ((slot[2] / step) / most) * 30;
      if (height > 0) svg.append(element("rect", { class: "bar", x: x(slot[0]).toFixed(1), y: (base - height).toFixed(1), width: bar.toFixed(1), height: height.toFixed(1) }));
      if (failed > 0) svg.append(element("rect", { class: "failures", x: x(slot[0]).toFixed(1), y: (base - height - failed).toFixed(1), width: bar.toFixed(1), height: failed.toFixed(1) }));
    }
    svg.append(element("line", { class: "axis", x1: left, x2: width - right, y1: base, y2: base }),
      element("text", { x: left - 5, y: base - 24, "text-anchor": "end" }, `${rate(most)}/s`));
    for (const ago of this.minutes === 1 ? [60, 45, 30, 15, 0] : [900, 600, 300, 0]) {
      svg.append(element("text", { x: x(end - ago), y: 152, "text-anchor": ago === 0 ? "end" : "middle" }, ago === 0 ? "now" : `−${span(ago)}`));
    }
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const time = start + ((event.clientX - box.left - left) / (width - left - right)) * (end - start);
      const slot = slots.find((s) => time >= s[0] && time < s[0] + step);
      if (!slot) { hideTip(); return; }
      const rows = [["Requests/s", rate((slot[1] + slot[2]) / step)], ["Failed", count(slot[2])], ...kinds.map(([name, place]) => [name, latency(slot[place])])];
      showTip(element("table", {}, element("tr", {}, element("th", { colspan: 2 }, clock(slot[0], false))),
        ...rows.map(([name, value]) => element("tr", {}, element("td", {}, name), element("td", { class: "n" }, value)))), event.clientX, event.clientY);
    });
    svg.addEventListener("pointerleave", hideTip);
    this.node.replaceChildren(svg);
  }
}

function logTicks(low, high) {
  const result = [];
  for (let power = Math.floor(low); power <= Math.ceil(high); power++) {
    for (const step of high - low > 1.2 ? [1] : [1, 2, 5]) {
      const value = step * 10 ** power;
      if (Math.log10(value) >= low - 1e-9 && Math.log10(value) <= high + 1e-9) result.push(value);
    }
  }
  return result.length > 0 ? result : [10 ** ((low + high) / 2)];
}

/** How many runs had how many examples. `batches`: [size, runs, nanoseconds]. */
export function batchChart(batches) {
  const width = 420, base = 62, total = batches.reduce((sum, batch) => sum + batch[1], 0);
  const svg = element("svg", { class: "plot", viewBox: `0 0 ${width} 78`, role: "img", "aria-label": "Sizes of batches" });
  const shown = batches.length <= 24 ? batches : grouped(batches);
  const most = Math.max(...shown.map((batch) => batch[1])), place = (width - 8) / Math.max(shown.length, 8);
  shown.forEach(([size, runs, nanoseconds, label], i) => {
    const height = Math.max(1.5, (runs / most) * 48), x = 4 + i * place;
    const bar = element("rect", { class: "bar", x: x + 1.5, y: base - height, width: Math.max(2, place - 3), height, rx: 1.5 });
    bar.addEventListener("pointermove", (event) => showTip(element("div", {}, `${label ?? size} example${size === 1 && !label ? "" : "s"}: ${count(runs)} runs (${Math.round((100 * runs) / total)} %), ${latency(nanoseconds / runs / 1000)} each`), event.clientX, event.clientY));
    bar.addEventListener("pointerleave", hideTip);
    svg.append(bar);
    if (shown.length <= 16 || i % 2 === 0) svg.append(element("text", { x: x + place / 2, y: 74, "text-anchor": "middle" }, label ?? String(size)));
  });
  svg.append(element("line", { class: "axis", x1: 0, x2: width, y1: base + 0.5, y2: base + 0.5 }));
  return svg;
}

/** Powers of two, where there are too many sizes to show each. */
function grouped(batches) {
  const groups = new Map();
  for (const [size, runs, nanoseconds] of batches) {
    const bound = 2 ** Math.ceil(Math.log2(Math.max(size, 1)));
    const group = groups.get(bound) ?? [bound, 0, 0, `≤${bound}`];
    group[1] += runs;
    group[2] += nanoseconds;
    groups.set(bound, group);
  }
  return [...groups.values()];
}
