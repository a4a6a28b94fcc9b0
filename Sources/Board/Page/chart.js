// Curves of one scalar over steps or time, all shown runs in one chart.
import { ask, board, clock, count, duration, element, hideTip, number, runsWith, settings, showTip, span, swatch, ticks, timeTicks } from "./common.js";

const left = 54, right = 10, top = 8, bottom = 22;

export class ScalarCard {
  constructor(tag) {
    this.tag = tag;
    this.series = [];
    this.zoom = null;
    this.wide = false;
    this.log = null;
    this.svg = element("svg", { class: "plot", tabindex: "0", role: "img" });
    const button = (label, title, action) => element("button", { type: "button", title, onclick: action }, label);
    this.logButton = button("log", "Logarithmic axis for this chart", () => { this.log = !this.isLog; this.draw(); });
    this.resetButton = button("reset", "Show everything again (double click)", () => { this.zoom = null; this.draw(); });
    this.node = element("article", { class: "card", "aria-label": tag },
      element("header", {}, element("h3", {}, tag), this.resetButton, this.logButton,
        button("csv", "Save the values of this chart", () => this.saveValues()),
        button("⤢", "Larger or smaller", () => { this.wide = !this.wide; this.node.classList.toggle("wide", this.wide); this.draw(); })),
      this.svg);
    this.listen();
    this.draw();
  }

  get isLog() { return this.log ?? settings.log; }
  get height() { return this.wide ? 420 : 210; }

  async load() {
    const runs = runsWith(board.state.scalars[this.tag] ?? {});
    const points = Math.round(Math.min(2000, Math.max(300, this.node.clientWidth * 1.5)));
    const answer = runs.length === 0 ? { series: [] }
      : await ask("/api/scalars", { tag: this.tag, runs: runs.join(","), points, smoothing: settings.smoothing });
    this.series = answer.series.map(({ run, count, points }) =>
      ({ run, count, points: points.map(([step, time, value, smooth]) => ({ step, time, value: Number(value), smooth: Number(smooth) })) }));
    this.draw();
  }

  /** Where a point lies along the axis that is chosen. */
  x(point, series) {
    if (settings.axis === "step") return point.step;
    if (settings.axis === "wall") return point.time;
    return point.time - (board.runs.get(series.run)?.start ?? series.points[0].time);
  }

  xText(value) {
    if (settings.axis === "step") return number(value);
    if (settings.axis === "relative") return span(value);
    const isLong = this.view.range.x1 - this.view.range.x0 > 2 * 86400;
    return isLong ? clock(value).slice(5, 10) : clock(value, false).slice(0, this.view.range.x1 - this.view.range.x0 > 300 ? 5 : 8);
  }

  xTicks(range, wanted) {
    if (settings.axis === "step") return ticks(range.x0, range.x1, wanted);
    // Local midnight is a round moment, wherever the reader is.
    const midnight = new Date(range.x0 * 1000).setHours(0, 0, 0, 0) / 1000;
    return timeTicks(range.x0, range.x1, wanted, settings.axis === "wall" ? midnight : 0);
  }

  ranges() {
    const values = [];
    let [x0, x1] = [Infinity, -Infinity];
    for (const series of this.series) {
      for (const point of series.points) {
        const x = this.x(point, series);
        if (this.zoom && (x < this.zoom[0] || x > this.zoom[1])) continue;
        [x0, x1] = [Math.min(x0, x), Math.max(x1, x)];
        for (const value of settings.smoothing > 0 ? [point.value, point.smooth] : [point.value]) {
          if (Number.isFinite(value) && (!this.isLog || value > 0)) values.push(value);
        }
      }
    }
    if (this.zoom) [x0, x1] = this.zoom;
    if (!(x0 <= x1)) [x0, x1] = [0, 1];
    if (x0 === x1) [x0, x1] = [x0 - 0.5, x1 + 0.5];
    values.sort((a, b) => a - b);
    let [y0, y1] = values.length === 0 ? (this.isLog ? [0.1, 1] : [0, 1]) : [values[0], values[values.length - 1]];
    if (settings.outliers && values.length > 40) {
      const at = (share) => values[Math.floor(share * (values.length - 1))];
      const [low, high] = [at(0.02), at(0.98)];
      const room = (high - low) * 2;
      // Only if it makes a difference: a few wild values would press all others flat.
      if (high > low && (y1 - y0) > 4 * (high - low)) [y0, y1] = [Math.max(y0, low - room * 0.25), Math.min(y1, high + room * 0.25)];
    }
    if (this.isLog) {
      if (y0 === y1) [y0, y1] = [y0 / 2, y1 * 2];
      return { x0, x1, y0: Math.log10(y0) - 0.02, y1: Math.log10(y1) + 0.02 };
    }
    const margin = y0 === y1 ? Math.abs(y0) * 0.1 || 1 : (y1 - y0) * 0.05;
    return { x0, x1, y0: y0 - margin, y1: y1 + margin };
  }

  draw() {
    const width = Math.max(200, this.svg.clientWidth || 360), height = this.height;
    const range = this.ranges();
    const toX = (x) => left + (x - range.x0) / (range.x1 - range.x0) * (width - left - right);
    const toY = (y) => height - bottom - ((this.isLog ? Math.log10(y) : y) - range.y0) / (range.y1 - range.y0) * (height - top - bottom);
    this.view = { width, height, range, toX, toY };
    this.logButton.setAttribute("aria-pressed", String(this.isLog));
    this.resetButton.hidden = !this.zoom;
    const nodes = [];
    for (const value of this.yTicks(range, height)) {
      const y = Math.round(toY(value)) + 0.5;
      nodes.push(element("line", { class: "gridline", x1: left, x2: width - right, y1: y, y2: y }),
        element("text", { x: left - 6, y: y + 3.5, "text-anchor": "end" }, number(value)));
    }
    const wanted = Math.max(2, Math.floor(width / 60));
    for (const value of this.xTicks(range, wanted).filter((v) => v >= range.x0 && v <= range.x1)) {
      const x = toX(value);
      nodes.push(element("text", { x: Math.min(Math.max(x, left + 8), width - right - 12), y: height - 6, "text-anchor": "middle" }, this.xText(value)));
    }
    nodes.push(element("line", { class: "axis", x1: left, x2: width - right, y1: height - bottom + 0.5, y2: height - bottom + 0.5 }));
    const clip = `clip-${Math.random().toString(36).slice(2)}`;
    nodes.push(element("defs", {}, element("clipPath", { id: clip },
      element("rect", { x: left, y: top - 4, width: width - left - right, height: height - top - bottom + 8 }))));
    const curves = element("g", { "clip-path": `url(#${clip})` });
    for (const series of this.series) {
      if (settings.smoothing > 0) curves.append(element("path", { class: "curve raw", run: series.run, d: this.path(series, "value") }));
      curves.append(element("path", { class: "curve", run: series.run, d: this.path(series, "smooth") }));
      const finite = series.points.filter((p) => Number.isFinite(p.value) && (!this.isLog || p.value > 0));
      if (finite.length === 1) curves.append(element("circle", { class: "dot", run: series.run, r: 4, cx: toX(this.x(finite[0], series)), cy: toY(finite[0].value) }));
      for (const point of series.points.filter((p) => !Number.isFinite(p.value)).slice(0, 100)) {
        const x = toX(this.x(point, series)), y = height - bottom;
        curves.append(element("path", { class: "bad", d: `M${x} ${y - 7}l4 7h-8z` }));
      }
    }
    this.overlay = element("g", {});
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.style.height = `${height}px`;
    this.svg.replaceChildren(...nodes, curves, this.overlay);
    this.svg.setAttribute("aria-label", this.spoken());
  }

  yTicks(range, height) {
    if (!this.isLog) return ticks(range.y0, range.y1, Math.floor(height / 42)).filter((v) => v >= range.y0 && v <= range.y1);
    const result = [];
    const decades = range.y1 - range.y0;
    const steps = decades > 6 ? [1] : decades > 1.5 ? [1, 3] : [1, 1.5, 2, 3, 4, 5, 6, 7, 8, 9];
    const skip = Math.max(1, Math.ceil(decades / 8));
    for (let power = Math.floor(range.y0); power <= range.y1; power += skip) {
      for (const step of steps) { const y = Math.log10(step) + power; if (y >= range.y0 && y <= range.y1) result.push(step * 10 ** power); }
    }
    return result.length >= 2 ? result : [10 ** range.y0, 10 ** ((range.y0 + range.y1) / 2), 10 ** range.y1].map((v) => Number(v.toPrecision(3)));
  }

  path(series, key) {
    let text = "", pen = false;
    for (const point of series.points) {
      const value = point[key];
      if (!Number.isFinite(value) || (this.isLog && value <= 0)) { pen = false; continue; }
      text += `${pen ? "L" : "M"}${this.view.toX(this.x(point, series)).toFixed(1)} ${this.view.toY(value).toFixed(1)}`;
      pen = true;
    }
    return text;
  }

  /** What a screen reader says of the chart. */
  spoken() {
    const parts = this.series.map((s) => {
      const last = s.points[s.points.length - 1];
      return last ? `${board.runs.get(s.run)?.name}: ${number(last.value)} at step ${last.step}` : "";
    });
    return `${this.tag}, ${this.series.length} runs. Last values: ${parts.slice(0, 10).join("; ")}. Arrow keys read values.`;
  }

  listen() {
    const place = (event) => {
      const box = this.svg.getBoundingClientRect();
      return { x: (event.clientX - box.left) / box.width * this.view.width, y: (event.clientY - box.top) / box.height * this.view.height };
    };
    const toValue = (x) => this.view.range.x0 + (x - left) / (this.view.width - left - right) * (this.view.range.x1 - this.view.range.x0);
    let start = null;
    this.svg.addEventListener("pointerdown", (event) => { if (event.button === 0) start = place(event).x; });
    this.svg.addEventListener("pointermove", (event) => {
      const at = place(event);
      this.point(toValue(at.x), at.y, event.clientX, event.clientY);
      if (start !== null && Math.abs(at.x - start) > 4) {
        this.overlay.append(element("rect", { class: "brush", x: Math.min(start, at.x), y: top, width: Math.abs(at.x - start), height: this.view.height - top - bottom }));
      }
    });
    this.svg.addEventListener("pointerup", (event) => {
      const end = place(event).x;
      if (start !== null && Math.abs(end - start) > 8) {
        this.zoom = [Math.max(toValue(Math.min(start, end)), this.view.range.x0), Math.min(toValue(Math.max(start, end)), this.view.range.x1)];
        this.draw();
      }
      start = null;
    });
    this.svg.addEventListener("pointerleave", () => { start = null; this.leave(); });
    this.svg.addEventListener("blur", () => this.leave());
    this.svg.addEventListener("dblclick", () => { this.zoom = null; this.draw(); });
    this.svg.addEventListener("keydown", (event) => {
      const xs = [...new Set(this.series.flatMap((s) => s.points.map((p) => this.x(p, s))))].sort((a, b) => a - b);
      if (event.key === "Escape") { this.zoom = null; this.draw(); this.leave(); return; }
      if (xs.length === 0 || !["ArrowLeft", "ArrowRight", "Home", "End"].includes(event.key)) return;
      event.preventDefault();
      const stride = event.shiftKey ? Math.max(1, Math.floor(xs.length / 20)) : 1;
      const now = this.keyIndex ?? -1;
      this.keyIndex = event.key === "Home" ? 0 : event.key === "End" ? xs.length - 1
        : Math.min(xs.length - 1, Math.max(0, now + (event.key === "ArrowRight" ? stride : -stride)));
      const box = this.svg.getBoundingClientRect();
      this.point(xs[this.keyIndex], this.view.height / 2, box.left + this.view.toX(xs[this.keyIndex]), box.top + 20);
    });
    new ResizeObserver(() => { if (this.view && Math.abs(this.svg.clientWidth - this.view.width) > 1) this.draw(); }).observe(this.svg);
  }

  leave() { this.overlay.replaceChildren(); hideTip(); }

  /** Marks the points nearest to `x` in all runs and lists their values, the highest first. */
  point(x, y, clientX, clientY) {
    const reach = (this.view.range.x1 - this.view.range.x0) * 0.04;
    const found = this.series.map((series) => ({ series, point: nearest(series.points, (p) => this.x(p, series), x) }))
      // A run that had ended, or not yet begun, has no value here.
      .filter((f) => f.point && Math.abs(this.x(f.point, f.series) - x) <= Math.max(reach, gap(f.series, (p) => this.x(p, f.series))));
    if (found.length === 0) { this.leave(); return; }
    const at = found.reduce((best, f) => Math.abs(this.x(f.point, f.series) - x) < Math.abs(best - x) ? this.x(f.point, f.series) : best, Infinity);
    const { toX, toY, height } = this.view;
    this.overlay.replaceChildren(element("line", { class: "cursor", x1: toX(at), x2: toX(at), y1: top, y2: height - bottom }));
    let closest = null;
    for (const f of found) {
      f.y = toY(f.point.smooth);
      if (Number.isFinite(f.y)) {
        this.overlay.append(element("circle", { class: "dot", run: f.series.run, r: 4, cx: toX(this.x(f.point, f.series)), cy: f.y }));
        if (!closest || Math.abs(f.y - y) < Math.abs(closest.y - y)) closest = f;
      }
    }
    found.sort((a, b) => b.point.value - a.point.value);
    const smooth = settings.smoothing > 0;
    const rows = found.slice(0, 16).map(({ series, point }) => element("tr", { class: closest?.series === series ? "near" : "" },
      element("td", {}, swatch(series.run)), element("td", {}, board.runs.get(series.run)?.name ?? ""),
      smooth ? element("td", { class: "n" }, number(point.smooth)) : null, element("td", { class: "n" }, number(point.value)),
      element("td", { class: "n" }, count(point.step)), element("td", { class: "n" }, this.timeText(point, series))));
    const heads = ["", "Run", ...(smooth ? ["Smoothed"] : []), "Value", "Step", settings.axis === "wall" ? "Time" : "After"];
    const table = element("table", {}, element("tr", {}, ...heads.map((h, i) => element("th", { class: i > 1 ? "n" : "" }, h))), ...rows);
    if (found.length > 16) table.append(element("tr", {}, element("th", { colspan: 6 }, `and ${found.length - 16} more runs`)));
    showTip(table, clientX, clientY);
  }

  timeText(point, series) {
    return settings.axis === "wall" ? clock(point.time) : duration(point.time - (board.runs.get(series.run)?.start ?? point.time));
  }

  saveValues() {
    const quoted = (text) => /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    const lines = this.series.flatMap((s) => s.points.map((p) => [quoted(board.runs.get(s.run)?.name ?? ""), p.step, p.time, p.value].join(",")));
    const link = element("a", { href: URL.createObjectURL(new Blob([["run,step,wall_time,value", ...lines].join("\n") + "\n"], { type: "text/csv" })), download: `${this.tag.replaceAll("/", "_")}.csv` });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }
}

function nearest(points, position, x) {
  if (points.length === 0) return null;
  let [low, high] = [0, points.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (position(points[middle]) <= x) low = middle; else high = middle;
  }
  return Math.abs(position(points[low]) - x) <= Math.abs(position(points[high]) - x) ? points[low] : points[high];
}

/** The usual distance between neighbours. */
function gap(series, position) {
  const { points } = series;
  return points.length < 2 ? 0 : (position(points[points.length - 1]) - position(points[0])) / (points.length - 1);
}
