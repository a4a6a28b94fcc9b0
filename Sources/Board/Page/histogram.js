// Distributions over time: one ridge for each step, the latest in front.
import { ask, board, clock, count, duration, element, hideTip, number, settings, showTip, swatch, ticks } from "./common.js";

const left = 12, right = 58, top = 34, bottom = 22, height = 260;

export class HistogramCard {
  constructor(tag, run) {
    this.tag = tag;
    this.run = run;
    this.steps = [];
    this.svg = element("svg", { class: "plot", tabindex: "0", role: "img" });
    this.node = element("article", { class: "card", "aria-label": `${tag}, ${board.runs.get(run)?.name}` },
      element("header", {}, element("h3", {}, tag)),
      element("div", { class: "sub" }, swatch(run), board.runs.get(run)?.name ?? ""), this.svg);
    this.svg.addEventListener("pointermove", (event) => {
      const box = this.svg.getBoundingClientRect();
      this.mark(this.nearestRidge((event.clientY - box.top) / box.height * height), event.clientX, event.clientY);
    });
    this.svg.addEventListener("pointerleave", () => this.mark(-1));
    this.svg.addEventListener("blur", () => this.mark(-1));
    this.svg.addEventListener("keydown", (event) => {
      const move = { ArrowUp: -1, ArrowDown: 1, ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!move || this.steps.length === 0) return;
      event.preventDefault();
      this.active = Math.min(this.steps.length - 1, Math.max(0, (this.active ?? -1) + move));
      const box = this.svg.getBoundingClientRect();
      this.mark(this.active, box.left + 20, box.top + 20);
    });
    new ResizeObserver(() => { if (Math.abs(this.svg.clientWidth - (this.width ?? 0)) > 1) this.draw(); }).observe(this.svg);
    this.draw();
  }

  async load() {
    const answer = await ask("/api/histograms", { tag: this.tag, runs: this.run, limit: 32 });
    this.steps = (answer.series[0]?.steps ?? []).map(([step, time, buckets]) =>
      ({ step, time, buckets: buckets.map(([low, high, n]) => ({ low: Number(low), high: Number(high), n: Number(n) })) }));
    this.draw();
  }

  draw() {
    const width = this.width = Math.max(200, this.svg.clientWidth || 360);
    const all = this.steps.flatMap((s) => s.buckets.filter((b) => b.n > 0));
    let low = Math.min(...all.map((b) => b.low)), high = Math.max(...all.map((b) => b.high));
    if (all.length === 0) [low, high] = [0, 1];
    if (low === high) [low, high] = [low - Math.abs(low) * 0.1 - 1e-6, high + Math.abs(high) * 0.1 + 1e-6];
    const toX = (x) => left + (x - low) / (high - low) * (width - left - right);
    // Steps have different intervals, and some tools very uneven ones: all are shared out to the same ones.
    const bins = 64;
    const shared = this.steps.map((step) => share(step.buckets, low, high, bins));
    const peak = Math.max(...shared.flat(), Number.MIN_VALUE);
    const tall = Math.min(80, (height - top - bottom) * 0.4);
    const room = height - top - bottom - tall * 0.6;
    const base = (i) => height - bottom - (this.steps.length < 2 ? 0 : (1 - i / (this.steps.length - 1)) * room);
    const nodes = ticks(low, high, Math.max(2, Math.floor((width - left - right) / 60))).map((value) =>
      element("text", { x: toX(value), y: height - 6, "text-anchor": "middle" }, number(value)));
    this.ridges = this.steps.map((step, i) => {
      const y = base(i);
      const at = (bin) => toX(low + (high - low) * (bin + 0.5) / bins).toFixed(1);
      const curve = shared[i].map((n, bin) => `L${at(bin)} ${(y - n / peak * tall).toFixed(1)}`).join("");
      const ridge = element("path", { class: "ridge", run: this.run, d: `M${left} ${y}${curve}L${width - right} ${y}Z` });
      // The older, the paler.
      ridge.style.fillOpacity = (0.25 + 0.6 * (this.steps.length < 2 ? 1 : i / (this.steps.length - 1))).toFixed(2);
      return { ridge, y };
    });
    for (const { ridge } of this.ridges) {
      const back = ridge.cloneNode();
      back.setAttribute("class", "ridge-back");
      nodes.push(back, ridge);
    }
    const every = Math.max(1, Math.ceil(this.steps.length / 7));
    this.steps.forEach((step, i) => {
      if (i % every === 0 || (i === this.steps.length - 1 && i % every > every / 2)) {
        nodes.push(element("text", { x: width - right + 6, y: this.ridges[i].y + 3 }, this.position(step)));
      }
    });
    this.svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
    this.svg.style.height = `${height}px`;
    this.svg.replaceChildren(...nodes);
    const last = this.steps[this.steps.length - 1];
    this.svg.setAttribute("aria-label", last ? `${this.tag}: values from ${number(low)} to ${number(high)}, ${this.steps.length} steps up to ${last.step}` : this.tag);
  }

  position(step) {
    if (settings.histogramAxis === "step") return count(step.step);
    if (settings.histogramAxis === "wall") return clock(step.time, false);
    return duration(step.time - this.steps[0].time);
  }

  nearestRidge(y) {
    let best = -1;
    this.ridges.forEach((r, i) => { if (best < 0 || Math.abs(r.y - 8 - y) < Math.abs(this.ridges[best].y - 8 - y)) best = i; });
    return best;
  }

  mark(index, x, y) {
    this.ridges.forEach((r, i) => r.ridge.classList.toggle("active", i === index));
    if (index < 0) { hideTip(); return; }
    const step = this.steps[index];
    const filled = step.buckets.filter((b) => b.n > 0);
    const total = filled.reduce((sum, b) => sum + b.n, 0);
    const most = filled.reduce((best, b) => b.n > (best?.n ?? 0) ? b : best, null);
    const rows = [["Step", count(step.step)], ["Time", clock(step.time)], ["Values", count(total)]];
    if (most) {
      rows.push(["From, to", `${number(filled[0].low)}, ${number(filled[filled.length - 1].high)}`],
        ["Most", `${count(most.n)} in ${number(most.low)} … ${number(most.high)}`]);
    }
    showTip(element("table", {}, ...rows.map(([name, value]) => element("tr", {}, element("th", {}, name), element("td", { class: "n" }, value)))), x, y);
  }
}

/** The counts of buckets, spread evenly within each, in `bins` intervals of one width. */
function share(buckets, low, high, bins) {
  const result = new Array(bins).fill(0), width = (high - low) / bins;
  for (const b of buckets) {
    if (b.n <= 0) continue;
    const first = Math.min(bins - 1, Math.max(0, Math.floor((b.low - low) / width)));
    const last = Math.min(bins - 1, Math.max(first, Math.ceil((b.high - low) / width) - 1));
    for (let i = first; i <= last; i++) {
      const part = first === last ? 1 : (Math.min(b.high, low + (i + 1) * width) - Math.max(b.low, low + i * width)) / (b.high - b.low);
      result[i] += b.n * Math.max(0, part);
    }
  }
  return result;
}
