// The form that sends a request to a model through the same API that clients use.
import { element, number } from "./elements.js";
import { flattened, outputView } from "./outputs.js";
import { PictureField, pictureLayout } from "./pictures.js";
import { address, send } from "./server.js";

const datatypes = { bool: "BOOL", uint8: "UINT8", int8: "INT8", int16: "INT16", int32: "INT32", int64: "INT64", uint16: "UINT16", uint32: "UINT32", uint64: "UINT64", float16: "FP16", bfloat16: "BF16", float32: "FP32", float64: "FP64" };
const largestExample = 512;

export class TryForm {
  constructor(node) {
    this.node = node;
    this.models = [];
    this.choice = { model: null, version: "", signature: null, api: "v1" };
    this.shown = "";
    this.sizes = {};
    this.fields = new Map();
    this.answer = element("div", { class: "card answer", "aria-live": "polite" }, element("p", { class: "muted" }, "The answer appears here."));
    this.form = element("form", { class: "card", onsubmit: (event) => { event.preventDefault(); this.submit(); } });
    document.addEventListener("paste", (event) => {
      const file = [...(event.clipboardData?.files ?? [])].find((one) => one.type.startsWith("image/"));
      const field = [...this.fields.values()].find((one) => one.picture);
      if (file && field && !this.node.hidden) { event.preventDefault(); field.picture.take(file); }
    });
    node.replaceChildren(element("div", { class: "try" }, this.form, this.answer));
  }

  /** The models that can be asked; the form stays as it is while the chosen one is the same. */
  update(models) {
    this.models = models.map((model) => ({ ...model, versions: model.versions.filter((version) => version.state === "AVAILABLE" && version.signatures) })).filter((model) => model.versions.length > 0);
    if (!this.model) this.choice = { ...this.choice, model: this.models[0]?.name ?? null, version: "", signature: null };
    const key = JSON.stringify([this.models.map((model) => [model.name, model.labels, model.versions.map((version) => [version.version, version.signatures])]), this.choice]);
    if (key === this.shown) return;
    this.shown = key;
    this.draw();
  }

  choose(change) {
    Object.assign(this.choice, change);
    this.shown = "";
    this.update(this.models);
  }

  get model() { return this.models.find((model) => model.name === this.choice.model); }
  get version() {
    const model = this.model, wanted = this.choice.version;
    if (!model) return null;
    if (wanted.startsWith("label ")) return model.versions.find((version) => version.version === model.labels[wanted.slice(6)]) ?? model.versions[0];
    return model.versions.find((version) => String(version.version) === wanted) ?? model.versions[0];
  }
  get signature() {
    const version = this.version;
    return version?.signatures.find((one) => one.name === (this.choice.signature ?? version.defaultSignature)) ?? version?.signatures[0];
  }

  select(label, id, options, value, changed) {
    return element("label", { class: "field" }, element("span", {}, label),
      element("select", { id, onchange: (event) => changed(event.target.value) }, ...options.map(([key, name]) => element("option", { value: key, selected: key === value }, name))));
  }

  draw() {
    this.fields.clear();
    if (this.models.length === 0) {
      this.form.replaceChildren(element("p", { class: "muted" }, "No model is available now."));
      return;
    }
    const { model, version, signature } = this;
    const labels = Object.keys(model.labels ?? {});
    const versions = [["", "the latest"], ...model.versions.map((one) => [String(one.version), `version ${one.version}`]), ...(this.choice.api === "v1" ? labels.map((label) => [`label ${label}`, `label ${label}`]) : [])];
    const open = new Map();
    for (const input of signature.inputs) for (const size of input.shape) if (typeof size === "object" && size && !open.has(size.name)) open.set(size.name, size);
    for (const [name, size] of open) this.sizes[name] = Math.max(size.least, Math.min(size.most ?? Infinity, this.sizes[name] ?? usual(name, size, signature)));
    this.form.replaceChildren(
      element("div", { class: "choices" },
        this.select("Model", "try-model", this.models.map((one) => [one.name, one.name]), model.name, (name) => this.choose({ model: name, version: "", signature: null })),
        this.select("Version", "try-version", versions, this.choice.version, (value) => this.choose({ version: value, signature: null })),
        version.signatures.length > 1 ? this.select("Signature", "try-signature", version.signatures.map((one) => [one.name, one.name]), signature.name, (value) => this.choose({ signature: value })) : null,
        this.select("Protocol", "try-api", [["v1", "TensorFlow Serving"], ["v2", "Open Inference Protocol"]], this.choice.api, (value) => { this.choice.api = value; if (value === "v2" && this.choice.version.startsWith("label ")) this.choice.version = ""; this.redraw(); }),
        ...[...open].map(([name, size]) => element("label", { class: "field" }, element("span", {}, name), element("input", {
          type: "number", min: size.least, max: size.most, value: this.sizes[name], "data-size": name,
          onchange: (event) => { this.sizes[name] = Math.max(size.least, Math.min(size.most ?? 1e6, Math.round(Number(event.target.value)) || size.least)); this.redraw(); },
        })))),
      ...signature.inputs.map((input) => this.inputField(input)),
      element("div", { class: "send" }, element("button", { type: "submit", class: "primary", id: "try-send" }, "Send"),
        element("button", { type: "button", onclick: () => this.copyCommand() }, "Copy as curl"), this.state = element("span", { class: "muted", id: "try-state" })));
  }

  redraw() { this.shown = ""; this.update(this.models); }

  shapeOf(input) { return input.shape.map((size) => (typeof size === "number" ? size : this.sizes[size.name])); }

  inputField(input) {
    const shape = this.shapeOf(input), layout = pictureLayout(input, this.sizes);
    const area = element("textarea", { spellcheck: "false", rows: 4, "data-input": input.name, "aria-label": `Values of ${input.name}` }, exampleText(input, shape));
    const problem = element("p", { class: "error", role: "alert", hidden: true });
    const hint = element("p", { class: "hint" }, "Nested lists; a single number stands for all values.");
    const field = { input, area, problem, picture: null, usesPicture: false };
    if (layout) {
      field.picture = new PictureField(layout, input.type, (has) => {
        field.usesPicture = has;
        area.disabled = has;
        hint.textContent = has ? "The picture is sent. " : "Nested lists; a single number stands for all values.";
        if (has) hint.append(element("button", { type: "button", onclick: () => field.picture.changed(false) }, "Send the values instead"));
        if (has && this.choice.api && field.picture.drawn) this.submitSoon();
      });
    }
    this.fields.set(input.name, field);
    return element("fieldset", { class: "input" }, element("legend", {}, input.name, element("span", { class: "muted" }, ` ${input.type}[${input.shape.map((size) => (typeof size === "number" ? size : size.name)).join(", ")}]`)), field.picture?.node, area, hint, problem);
  }

  /** After each stroke of a drawing the answer follows by itself. */
  submitSoon() {
    clearTimeout(this.timer);
    if ([...this.fields.values()].length === 1) this.timer = setTimeout(() => this.submit(), 250);
  }

  /** The inputs as flat values with shapes, or null; what is wrong is said beside the input. */
  read() {
    const result = [];
    let isWrong = false;
    for (const field of this.fields.values()) {
      field.problem.hidden = true;
      try { result.push({ input: field.input, ...this.values(field) }); } catch (error) {
        field.problem.textContent = error.message;
        field.problem.hidden = false;
        isWrong = true;
      }
    }
    return isWrong ? null : result;
  }

  values(field) {
    const shape = this.shapeOf(field.input);
    if (field.usesPicture) {
      const data = field.picture.values();
      // The picture is one example; further ones of the batch are copies of it.
      const count = shape.reduce((a, b) => a * b, 1) / data.length;
      if (!Number.isInteger(count)) throw new Error("The picture does not fit this shape.");
      return { shape, data: count === 1 ? data : Array.from({ length: count }, () => data).flat() };
    }
    let value;
    try { value = JSON.parse(field.area.value); } catch (error) { throw new Error(`This is not JSON: ${error.message}`); }
    const fits = (one) => (field.input.type === "bool" ? typeof one === "boolean" : typeof one === "number");
    if (!Array.isArray(value)) {
      if (shape.length > 0 && !fits(value)) throw new Error(`A ${field.input.type === "bool" ? "truth value" : "number"} or nested lists of them are needed.`);
      return { shape, data: new Array(shape.reduce((a, b) => a * b, 1)).fill(value) };
    }
    const flat = flattened(value);
    // Whatever is wrong with shape and type, the server says: that is what the form is for.
    return { shape: flat.shape, data: flat.data };
  }

  request(inputs) {
    const { model, signature, choice } = this, name = encodeURIComponent(model.name);
    if (choice.api === "v1") {
      const version = choice.version.startsWith("label ") ? `/labels/${encodeURIComponent(choice.version.slice(6))}` : choice.version ? `/versions/${choice.version}` : "";
      const body = { signature_name: signature.name, inputs: Object.fromEntries(inputs.map(({ input, shape, data }) => [input.name, nested(data, shape)])) };
      return [`v1/models/${name}${version}:predict`, JSON.stringify(body)];
    }
    const version = choice.version ? `/versions/${choice.version}` : "";
    const body = { inputs: inputs.map(({ input, shape, data }) => ({ name: input.name, shape, datatype: datatypes[input.type], data })) };
    if (this.version.signatures.length > 1) body.parameters = { signature_name: signature.name };
    return [`v2/models/${name}${version}/infer`, JSON.stringify(body)];
  }

  async copyCommand() {
    const inputs = this.read();
    if (!inputs) return;
    const [path, body] = this.request(inputs);
    const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
    try { await navigator.clipboard.writeText(`curl -X POST ${quoted(address(path))} -d ${quoted(body)}`); this.state.textContent = "Copied."; } catch { this.state.textContent = "The browser does not allow it."; }
  }

  async submit() {
    const inputs = this.read();
    if (!inputs) return;
    const [path, body] = this.request(inputs), button = this.form.querySelector("#try-send"), labels = this.version.classLabels;
    const types = new Map(this.signature.outputs.map((output) => [output.name, output.type])), only = this.signature.outputs.length === 1 ? this.signature.outputs[0].name : "output";
    button.disabled = true;
    this.state.textContent = "Waiting…";
    const began = performance.now();
    try {
      const { value, text, id } = await send(path, body);
      const took = performance.now() - began;
      let outputs;
      if (this.choice.api === "v1" && "outputs" in value) {
        // One output comes without its name; several are a record.
        const named = value.outputs !== null && typeof value.outputs === "object" && !Array.isArray(value.outputs) ? Object.entries(value.outputs) : [[only, value.outputs]];
        outputs = named.map(([name, data]) => ({ name, type: types.get(name), ...flattened(data) }));
      } else {
        outputs = value.outputs.map(({ name, shape, datatype, data }) => ({ name, shape, type: types.get(name) ?? datatype, data: data.flat(Infinity) }));
      }
      this.answer.replaceChildren(element("header", {}, element("h2", {}, this.model.name), element("span", { class: "badge good" }, "OK"), element("span", { class: "muted" }, `${number(Number(took.toPrecision(3)))} ms there and back`)),
        ...outputs.map((output) => outputView(output, labels)),
        id ? element("p", { class: "muted" }, "Request ", element("a", { href: address(`v2/trace/requests/${encodeURIComponent(id)}`), download: "request-trace.json" }, id), ": its trace opens in Perfetto.") : null,
        element("details", {}, element("summary", { class: "muted" }, "The answer as it came"), element("pre", {}, text.length > 20000 ? `${text.slice(0, 20000)}…` : text)));
      this.state.textContent = "";
    } catch (error) {
      this.answer.replaceChildren(element("header", {}, element("h2", {}, this.model.name), element("span", { class: "badge bad" }, error.status ? `status ${error.status}` : "no answer")),
        element("p", { class: "failed" }, error instanceof TypeError ? "The server does not answer." : error.message));
      this.state.textContent = "";
    }
    button.disabled = false;
  }
}

/** A size to begin with where any will do. */
function usual(name, size, signature) {
  const input = signature.inputs.find((one) => one.shape.some((d) => d?.name === name));
  const place = input.shape.findIndex((d) => d?.name === name);
  const isPicture = input.shape.length === 4 && place > 0 && input.shape.some((d) => d === 1 || d === 3);
  return isPicture ? 224 : place === 0 ? 1 : 8;
}

/** Values that differ, so that an answer is no special case; a single one for large inputs. */
function exampleText(input, shape) {
  const count = shape.reduce((a, b) => a * b, 1), isFloat = /float/.test(input.type);
  if (count > largestExample) return input.type === "bool" ? "true" : isFloat ? "0.5" : "1";
  const data = Array.from({ length: count }, (_, i) => (input.type === "bool" ? i % 2 === 0 : isFloat ? Number((((i * 37) % 100) / 100).toFixed(2)) : /mask/i.test(input.name) ? 1 : /type|segment/i.test(input.name) ? 0 : (i % 10) + 1));
  return JSON.stringify(nested(data, shape)).replaceAll("],[", "],\n [").replaceAll(",", ", ").replaceAll(", \n", ",\n");
}

export function nested(data, shape) {
  if (shape.length === 0) return data[0];
  let parts = data;
  for (let i = shape.length - 1; i > 0; i--) {
    const next = [];
    for (let k = 0; k < parts.length; k += shape[i]) next.push(parts.slice(k, k + shape[i]));
    parts = next;
  }
  return parts;
}
