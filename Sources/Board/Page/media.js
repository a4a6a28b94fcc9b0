// Pictures, sounds and texts of one tag in one run.
import { ask, board, clock, count, element, swatch } from "./common.js";

class RunCard {
  constructor(tag, run, kind) {
    this.tag = tag;
    this.run = run;
    this.body = element("div", {});
    this.node = element("article", { class: `card${kind === "text" ? " wide" : ""}`, "aria-label": `${tag}, ${board.runs.get(run)?.name}` },
      element("header", {}, element("h3", {}, tag)),
      element("div", { class: "sub" }, swatch(run), board.runs.get(run)?.name ?? ""), this.body);
  }
}

/** A picture or sound with a slider over the steps; it follows the latest until moved. */
export class BlobCard extends RunCard {
  constructor(tag, run, isSound) {
    super(tag, run, "blob");
    this.isSound = isSound;
    this.follows = true;
    this.view = isSound ? element("audio", { controls: true, preload: "none" }) : element("img", { alt: "", loading: "lazy" });
    this.slider = element("input", { type: "range", min: 0, max: 0, value: 0, "aria-label": `Step of ${tag}` });
    this.label = element("span", { class: "muted" });
    this.slider.addEventListener("input", () => { this.follows = Number(this.slider.value) === this.items.length - 1; this.show(); });
    if (!isSound) this.view.addEventListener("load", () => this.view.classList.toggle("small", this.view.naturalWidth < 200));
    this.body.append(element("figure", {}, this.view), element("div", { class: "slider" }, this.slider, this.label));
    this.items = [];
  }

  async load() {
    const answer = await ask(this.isSound ? "/api/sounds" : "/api/images", { tag: this.tag, runs: this.run, limit: 1000 });
    const current = this.items[Number(this.slider.value)];
    this.items = (answer.series[0]?.items ?? []).reverse();
    this.slider.max = Math.max(0, this.items.length - 1);
    const kept = this.items.findIndex((item) => item.step === current?.step && item.time === current?.time);
    this.slider.value = this.follows || kept < 0 ? this.items.length - 1 : kept;
    this.slider.disabled = this.items.length < 2;
    this.show();
  }

  show() {
    const item = this.items[Number(this.slider.value)];
    if (!item) return;
    const query = new URLSearchParams({ tag: this.tag, run: this.run, index: item.index, time: item.time }).toString().replaceAll("+", "%20");
    const source = `${this.isSound ? "/api/sound" : "/api/image"}?${query}`;
    if (this.view.getAttribute("src") !== source) this.view.setAttribute("src", source);
    const size = item.width > 0 ? ` · ${item.width} × ${item.height}` : "";
    this.label.textContent = `step ${count(item.step)}${size}`;
    this.label.title = clock(item.time);
    if (!this.isSound) this.view.alt = `${this.tag} of ${board.runs.get(this.run)?.name} at step ${item.step}`;
  }
}

export class TextCard extends RunCard {
  constructor(tag, run) {
    super(tag, run, "text");
    this.limit = 3;
  }

  async load() {
    const answer = await ask("/api/texts", { tag: this.tag, runs: this.run, limit: this.limit });
    const { items = [], count: total = 0 } = answer.series[0] ?? {};
    const nodes = items.flatMap((item) => [element("div", { class: "muted" }, `step ${count(item.step)} · ${clock(item.time)}`),
      element("div", { class: "text", tabindex: "0" }, item.text)]);
    if (total > items.length && this.limit < 100) {
      nodes.push(element("button", { type: "button", onclick: () => { this.limit = Math.min(100, this.limit * 4); this.load(); } }, `Earlier ones (${total - items.length})`));
    }
    // What somebody reads or selects is not taken away.
    const key = JSON.stringify(items);
    if (key !== this.key) this.body.replaceChildren(...nodes);
    this.key = key;
  }
}
