// What Apus's pages share: elements, numbers as text, ticks of axes, cards.

// Okabe and Ito's colours and some between, which most eyes tell apart on light and dark.
const colours = ["#1f77d0", "#e8710a", "#12a37a", "#c2378f", "#8a63d2", "#b98900", "#d43f3a", "#1296b5", "#6b8e23", "#8c6d5a"];
export function colour(id) { return colours[id % colours.length]; }

export function element(name, attributes = {}, ...children) {
  const isDrawing = ["svg", "path", "line", "rect", "circle", "text", "g", "clipPath", "defs"].includes(name);
  const node = isDrawing ? document.createElementNS("http://www.w3.org/2000/svg", name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "run") node.style.setProperty("--run", colour(value));
    else if (value === true) node.setAttribute(key, "");
    else if (value !== false && value != null) node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child != null));
  return node;
}

export function swatch(run) { return element("span", { class: "swatch", run, "aria-hidden": "true" }); }

export async function ask(path, parameters = {}) {
  const query = new URLSearchParams(parameters).toString().replaceAll("+", "%20");
  const response = await fetch(query ? `${path}?${query}` : path);
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error ?? response.statusText);
  return answer;
}

export function number(value) {
  if (!Number.isFinite(value)) return Number.isNaN(value) ? "NaN" : value > 0 ? "∞" : "−∞";
  const size = Math.abs(value);
  if (size !== 0 && (size >= 1e6 || size < 1e-4)) return value.toExponential(3).replace("e+", "e").replace("-", "−");
  return String(Number(value.toPrecision(5))).replace("-", "−");
}

export function count(value) { return value.toLocaleString("en"); }

export function duration(seconds) {
  const sign = seconds < 0 ? "−" : "";
  const s = Math.abs(seconds);
  if (s < 1) return `${sign}${Math.round(s * 1000)} ms`;
  if (s < 60) return `${sign}${Number(s.toFixed(1))} s`;
  if (s < 3600) return `${sign}${Math.floor(s / 60)} min ${Math.round(s % 60)} s`;
  return `${sign}${Math.floor(s / 3600)} h ${Math.round((s % 3600) / 60)} min`;
}

const two = (value) => String(value).padStart(2, "0");
export function clock(seconds, withDate = true) {
  const date = new Date(seconds * 1000);
  const time = `${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
  return withDate ? `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())} ${time}` : time;
}

/** Round numbers that divide a range into about `wanted` parts. */
export function ticks(low, high, wanted) {
  const rough = (high - low) / wanted;
  if (!(rough > 0) || !Number.isFinite(rough)) return [low];
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = power * ([1, 2, 2.5, 5, 10].find((m) => m * power >= rough) ?? 10);
  const result = [];
  for (let i = Math.ceil(low / step - 1e-9); i * step <= high + step * 1e-9; i++) result.push(Number((i * step).toPrecision(12)));
  return result;
}

/** Round moments (`origin` is one) that divide a range in seconds into about `wanted` parts. */
export function timeTicks(low, high, wanted, origin = 0) {
  const steps = [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800];
  const rough = (high - low) / wanted;
  if (rough < 0.5) return ticks(low, high, wanted);
  const step = steps.find((s) => s >= rough) ?? Math.ceil(rough / 604800) * 604800;
  const result = [];
  for (let i = Math.ceil((low - origin) / step); origin + i * step <= high; i++) result.push(origin + i * step);
  return result;
}

/** A duration in two parts at most, as on an axis. */
export function span(seconds) {
  if (Math.abs(seconds) < 1 && seconds !== 0) return duration(seconds);
  const s = Math.round(seconds), parts = [[86400, "d"], [3600, "h"], [60, "m"], [1, "s"]];
  const first = parts.findIndex(([size]) => s >= size);
  if (first < 0) return "0";
  const [size, unit] = parts[first], rest = s % size;
  const next = parts[first + 1] ? Math.floor(rest / parts[first + 1][0]) : 0;
  return `${Math.floor(s / size)}${unit}${next > 0 ? ` ${next}${parts[first + 1][1]}` : ""}`;
}

const tip = element("div", { class: "tip", hidden: true });
export function showTip(content, x, y) {
  if (!tip.isConnected) document.body.append(tip);
  tip.replaceChildren(content);
  tip.hidden = false;
  const box = tip.getBoundingClientRect();
  tip.style.left = `${x + 16 + box.width > innerWidth ? Math.max(4, x - 16 - box.width) : x + 16}px`;
  tip.style.top = `${Math.max(4, Math.min(y + 12, innerHeight - box.height - 4))}px`;
}
export function hideTip() { tip.hidden = true; }

/** Calls a card's `load` when it comes into view and whenever it is in view and something is new. */
export class Cards {
  constructor() {
    this.visible = new Set();
    this.observer = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (entry.isIntersecting) { this.visible.add(entry.target); this.load(entry.target); } else this.visible.delete(entry.target);
      }
    }, { rootMargin: "200px" });
  }
  add(node, load) { node.load = load; this.observer.observe(node); }
  clear() { this.observer.disconnect(); this.visible.clear(); }
  refresh() { for (const node of this.visible) this.load(node); }
  async load(node) {
    if (node.isLoading) { node.isStale = true; return; }
    node.isLoading = true;
    try { await node.load(); } catch (error) { node.title = error.message; }
    node.isLoading = false;
    if (node.isStale) { node.isStale = false; this.load(node); }
  }
}

/** Shows the page light or dark: as chosen, or as the system is. */
export function showTheme(theme) {
  const isDark = theme === "dark" || (theme === "system" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = isDark ? "dark" : "light";
}
