// Pictures as inputs: chosen, dropped, pasted or drawn, scaled to the input's size on a canvas of this browser.
import { element } from "./elements.js";

/** How an input can be a picture, or null: where its channels are, and its size. */
export function pictureLayout(input, sizes) {
  const shape = input.shape.map((d, i) => (typeof d === "number" ? d : i === 0 ? 1 : sizes[d.name] ?? 1));
  const named = (i) => typeof input.shape[i] === "number" || shape[i] > 1;
  if (!/^(float|bfloat|uint8)/.test(input.type)) return null;
  const large = (size) => size >= 8 && size <= 4096;
  if (shape.length === 4) {
    if ([1, 3].includes(shape[1]) && large(shape[2]) && large(shape[3])) return { channels: shape[1], height: shape[2], width: shape[3], first: true };
    if ([1, 3].includes(shape[3]) && large(shape[1]) && large(shape[2])) return { channels: shape[3], height: shape[1], width: shape[2], first: false };
  }
  if (shape.length === 3 && typeof input.shape[1] === "number" && typeof input.shape[2] === "number") {
    if ([1, 3].includes(shape[0]) && typeof input.shape[0] === "number" && large(shape[1]) && large(shape[2])) return { channels: shape[0], height: shape[1], width: shape[2], first: true };
    if (large(shape[1]) && large(shape[2]) && Math.abs(Math.log2(shape[1] / shape[2])) < 2) return { channels: 1, height: shape[1], width: shape[2], first: true };
  }
  // Small pictures, one value after another: 784 is 28 × 28.
  if (shape.length === 2 && named(1) && shape[1] === 784) return { channels: 1, height: 28, width: 28, first: true };
  return null;
}

const mean = [0.485, 0.456, 0.406], deviation = [0.229, 0.224, 0.225];
const normalizations = {
  unit: ["0 … 1", (v) => v / 255],
  signed: ["−1 … 1", (v) => v / 127.5 - 1],
  imagenet: ["ImageNet mean and deviation", (v, c) => (v / 255 - mean[c]) / deviation[c]],
  bytes: ["0 … 255", (v) => v],
};

/** A field that gives the values of one picture, and says when it has a new one. */
export class PictureField {
  constructor(layout, type, changed) {
    Object.assign(this, { layout, type, changed, source: null, drawn: false });
    const isSmall = layout.channels === 1 && layout.width <= 64 && layout.height <= 64;
    this.seen = element("canvas", { class: "seen", width: layout.width, height: layout.height, "aria-label": "The picture as the model sees it" });
    this.normalization = element("select", { "aria-label": "Values" }, ...Object.entries(normalizations)
      .filter(([key]) => key !== "imagenet" || layout.channels === 3)
      .map(([key, [name]]) => element("option", { value: key, selected: key === (type === "uint8" ? "bytes" : "unit") }, name)));
    this.inverted = element("input", { type: "checkbox" });
    this.cropped = element("input", { type: "checkbox", checked: true });
    for (const control of [this.normalization, this.inverted, this.cropped]) control.addEventListener("change", () => this.update());
    const file = element("input", { type: "file", accept: "image/*", "aria-label": "Choose a picture", onchange: (event) => this.take(event.target.files[0]) });
    this.problem = element("span", { class: "error", role: "alert" });
    const drop = element("div", { class: "drop" }, "Drop a picture here, paste one, or choose", file, this.problem);
    for (const [name, over] of [["dragover", true], ["dragenter", true], ["dragleave", false], ["drop", false]]) {
      drop.addEventListener(name, (event) => {
        event.preventDefault();
        drop.classList.toggle("over", over);
        if (name === "drop") this.take(event.dataTransfer.files[0]);
      });
    }
    const options = element("div", { class: "options" },
      element("label", {}, "Values", this.normalization),
      element("label", {}, this.inverted, "Dark and light exchanged"),
      element("label", {}, this.cropped, "Cut to the middle, not stretched"));
    this.node = element("div", { class: "picture" },
      isSmall ? this.makePad() : null, drop,
      element("figure", {}, this.seen, `${layout.width} × ${layout.height}${layout.channels === 1 ? ", grey" : ""}`), options);
    const context = this.seen.getContext("2d");
    context.fillRect(0, 0, layout.width, layout.height);
  }

  makePad() {
    const pad = element("canvas", { class: "pad", width: 280, height: 280, role: "img", tabindex: "0", "aria-label": "Draw here with the mouse or a finger" });
    const context = pad.getContext("2d");
    const clear = () => { context.fillStyle = "#000"; context.fillRect(0, 0, 280, 280); };
    clear();
    Object.assign(context, { lineWidth: 22, lineCap: "round", lineJoin: "round", strokeStyle: "#fff" });
    let last = null;
    const point = (event) => { const box = pad.getBoundingClientRect(); return [((event.clientX - box.left) / box.width) * 280, ((event.clientY - box.top) / box.height) * 280]; };
    const stroke = (to) => { context.beginPath(); context.moveTo(...last); context.lineTo(to[0] + 0.01, to[1]); context.stroke(); last = to; this.show(pad, true); };
    pad.addEventListener("pointerdown", (event) => { pad.setPointerCapture?.(event.pointerId); last = point(event); stroke(last); event.preventDefault(); });
    pad.addEventListener("pointermove", (event) => { if (last) for (const part of event.getCoalescedEvents?.().length ? event.getCoalescedEvents() : [event]) stroke(point(part)); });
    for (const name of ["pointerup", "pointercancel"]) pad.addEventListener(name, () => { last = null; this.changed(true); });
    return element("figure", {}, pad, element("button", { type: "button", onclick: () => { clear(); this.show(pad, true); this.changed(false); } }, "Clear the drawing"));
  }

  async take(file) {
    this.problem.textContent = "";
    if (!file) return;
    try { this.show(await createImageBitmap(file), false); this.changed(true); } catch { this.problem.textContent = "This file is no picture that the browser can read."; }
  }

  show(source, drawn) { this.source = source; this.drawn = drawn; this.update(); }

  update() {
    if (!this.source) return;
    const { width, height } = this.layout, context = this.seen.getContext("2d", { willReadFrequently: true });
    const [w, h] = [this.source.width, this.source.height];
    let [sx, sy, sw, sh] = [0, 0, w, h];
    if (this.cropped.checked) {
      const scale = Math.min(w / width, h / height);
      [sw, sh] = [width * scale, height * scale];
      [sx, sy] = [(w - sw) / 2, (h - sh) / 2];
    }
    Object.assign(context, { imageSmoothingEnabled: true, imageSmoothingQuality: "high", filter: this.inverted.checked ? "invert(1)" : "none" });
    context.fillStyle = "#fff";
    context.fillRect(0, 0, width, height);
    // Halving step by step averages all pixels; one large step would leave some out.
    let image = this.source, [x, y, a, b] = [sx, sy, sw, sh];
    while (a > width * 2 && b > height * 2) {
      const half = document.createElement("canvas");
      [half.width, half.height] = [Math.ceil(a / 2), Math.ceil(b / 2)];
      half.getContext("2d").drawImage(image, x, y, a, b, 0, 0, half.width, half.height);
      [image, x, y, a, b] = [half, 0, 0, half.width, half.height];
    }
    context.drawImage(image, x, y, a, b, 0, 0, width, height);
    if (this.layout.channels === 1) {
      const pixels = context.getImageData(0, 0, width, height);
      for (let i = 0; i < pixels.data.length; i += 4) {
        const grey = Math.round(0.299 * pixels.data[i] + 0.587 * pixels.data[i + 1] + 0.114 * pixels.data[i + 2]);
        pixels.data[i] = pixels.data[i + 1] = pixels.data[i + 2] = grey;
      }
      context.putImageData(pixels, 0, 0);
    }
  }

  /** The values in the input's order, for one example; null if there is no picture yet. */
  values() {
    if (!this.source) return null;
    const { channels, height, width, first } = this.layout, scale = normalizations[this.normalization.value][1];
    const pixels = this.seen.getContext("2d").getImageData(0, 0, width, height).data;
    const result = new Array(channels * height * width), isWhole = this.type === "uint8";
    for (let p = 0; p < height * width; p++) {
      for (let c = 0; c < channels; c++) {
        const value = scale(pixels[p * 4 + c], c);
        result[first ? c * height * width + p : p * channels + c] = isWhole ? Math.max(0, Math.round(value)) : Number(value.toPrecision(6));
      }
    }
    return result;
  }
}
