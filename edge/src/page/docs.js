// Shows /openapi.json and /asyncapi.json, and sends requests. Everything that is shown goes through textContent.

const METHODS = ["get", "post", "put", "patch", "delete"];
const JSON_TYPE = "application/json";
const bearer = document.getElementById("bearer");
document.getElementById("token").addEventListener("submit", (event) => event.preventDefault());

/** An element with attributes and children. */
function el(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "class") element.className = value;
    else element.setAttribute(key, value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

/** Text in which `code` stands between backticks. */
function prose(text) {
  return (text ?? "").split("`").map((part, index) => (index % 2 ? el("code", {}, part) : part));
}

/** What a `$ref` points to. */
function resolve(api, thing) {
  let found = thing;
  for (let depth = 0; found?.$ref && depth < 8; depth += 1) {
    found = found.$ref.replace(/^#\//, "").split("/").reduce((at, step) => at?.[step], api);
  }
  return found ?? {};
}

/** The alternatives of a schema that are not null. */
function alternatives(schema) {
  return (schema.oneOf ?? schema.anyOf ?? []).filter((option) => option.type !== "null");
}

/** A value such as a schema describes. */
function sample(api, thing, depth = 0) {
  const schema = resolve(api, thing);
  if (schema.example !== undefined) return schema.example;
  if (schema.examples?.length) return schema.examples[0];
  if (schema.enum) return schema.enum[0];
  if (alternatives(schema).length) return sample(api, alternatives(schema)[0], depth);
  const type = [schema.type].flat().find((name) => name !== "null");
  if (schema.properties && depth < 5) {
    const fields = Object.entries(schema.properties).map(([name, value]) => [name, sample(api, value, depth + 1)]);
    return Object.fromEntries(fields);
  }
  if (type === "array") return depth < 5 ? [sample(api, schema.items ?? {}, depth + 1)] : [];
  if (type === "integer" || type === "number") return schema.minimum ?? 0;
  if (type === "boolean") return false;
  return type === "string" ? "" : null;
}

/** A schema's type in words. */
function typeName(api, thing) {
  const schema = resolve(api, thing);
  if (thing.$ref) return thing.$ref.split("/").pop();
  if (schema.allOf?.length === 1) return typeName(api, schema.allOf[0]);
  if (schema.const !== undefined) return JSON.stringify(schema.const);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (alternatives(schema).length) return alternatives(schema).map((option) => typeName(api, option)).join(" | ");
  const types = [schema.type].flat().filter(Boolean);
  const name = types.join(" | ") || "any";
  if (types.includes("array")) return `list of ${typeName(api, schema.items ?? {})}`;
  return schema.format ? `${name} (${schema.format})` : name;
}

function row(name, ...rest) {
  return el("tr", {}, el("td", {}, name), el("td", {}, ...rest));
}

/** The fields of a body. */
function fields(api, thing) {
  const schema = resolve(api, thing);
  if (!schema.properties) return null;
  const required = new Set(schema.required ?? []);
  const rows = Object.entries(schema.properties).map(([name, value]) => {
    const kind = typeName(api, value) + (required.has(name) ? "" : ", optional");
    return row(name, el("span", { class: "note" }, `${kind}. `), ...prose(value.description ?? resolve(api, value).description));
  });
  return el("table", {}, rows);
}

/** The form that sends a request. */
function form(api, method, path, operation) {
  const parameters = (operation.parameters ?? []).map((parameter) => resolve(api, parameter));
  const inputs = parameters.map((parameter) => {
    const input = el("input", { "aria-label": parameter.name, autocomplete: "off", spellcheck: "false" });
    const label = parameter.name + (parameter.required ? "" : "?");
    const about = [el("span", { class: "note" }, `${typeName(api, parameter.schema ?? {})}. `), ...prose(parameter.description)];
    return { parameter, input, row: row(label, el("div", {}, about), input) };
  });
  const content = resolve(api, operation.requestBody).content ?? {};
  const body = bodyInput(api, content);

  const status = el("span", { class: "status", role: "status" });
  const answer = el("pre", { hidden: "" });
  const send = el("form", { class: "run" }, el("button", {}, "Try it"), status);
  send.addEventListener("submit", async (event) => {
    event.preventDefault();
    const started = performance.now();
    try {
      const response = await request(method, path, inputs, body);
      status.textContent = `${response.status} ${response.statusText}, ${Math.round(performance.now() - started)} ms`;
      answer.textContent = await shown(response);
    } catch (error) {
      status.textContent = String(error);
      answer.textContent = "";
    }
    answer.hidden = answer.textContent === "";
  });
  return [
    inputs.length ? el("h3", {}, "Parameters") : null,
    inputs.length ? el("table", {}, inputs.map((input) => input.row)) : null,
    body ? el("h3", {}, "Body") : null,
    content[JSON_TYPE] ? fields(api, content[JSON_TYPE].schema) : null,
    body,
    send,
    answer,
  ];
}

async function request(method, path, inputs, body) {
  const query = new URLSearchParams();
  let target = path;
  for (const { parameter, input } of inputs) {
    if (parameter.in === "path") target = target.replace(`{${parameter.name}}`, encodeURIComponent(input.value));
    else if (input.value !== "") query.set(parameter.name, input.value);
  }
  const headers = {};
  if (bearer.value) headers.authorization = `Bearer ${bearer.value.trim()}`;
  const file = body?.files?.[0];
  if (file) {
    headers["content-type"] = file.type || "application/octet-stream";
    if (!query.has("name")) query.set("name", file.name);
  } else if (body && !body.files) {
    headers["content-type"] = JSON_TYPE;
  }
  const url = query.size ? `${target}?${query}` : target;
  return fetch(url, { method: method.toUpperCase(), headers, body: file ?? (body?.files ? undefined : body?.value) });
}

/** What a request's body is put into: a text with JSON, or a choice of a file; `null` when there is no body. */
function bodyInput(api, content) {
  if (content[JSON_TYPE]) {
    const text = el("textarea", { "aria-label": "Body", spellcheck: "false" });
    text.value = JSON.stringify(sample(api, content[JSON_TYPE].schema), null, 2);
    return text;
  }
  const types = Object.keys(content).filter((type) => type !== "multipart/form-data");
  return types.length ? el("input", { type: "file", "aria-label": "File", accept: types.join(",") }) : null;
}

/** A response's body as text; of a file only its size. */
async function shown(response) {
  const type = response.headers.get("content-type") ?? "";
  if (/json|^text\//u.test(type)) return pretty(await response.text());
  const { size } = await response.blob();
  return size ? `${type}, ${size} bytes` : "";
}

/** JSON with indents; a token in it is taken over. */
function pretty(text) {
  try {
    const value = JSON.parse(text);
    if (typeof value.access_token === "string") bearer.value = value.access_token;
    return JSON.stringify(value, null, 2);
  } catch {
    return text;
  }
}

function responses(api, operation) {
  const rows = Object.entries(operation.responses ?? {}).sort().map(([status, thing]) => {
    const response = resolve(api, thing);
    const media = Object.values(response.content ?? {})[0];
    const shows = media && !status.startsWith("4") && !status.startsWith("5");
    const example = shows ? el("pre", {}, JSON.stringify(sample(api, media.schema ?? {}), null, 2)) : null;
    return row(status, ...prose(response.description), example);
  });
  return [el("h3", {}, "Responses"), el("table", {}, rows)];
}

function section(api, tag, operations) {
  const cards = operations.map(({ method, path, operation }) => {
    const name = method.toUpperCase();
    const summary = el("summary", {},
      el("span", { class: `method ${name}` }, name),
      el("span", { class: "path" }, path),
      el("span", { class: "what" }, ...prose(operation.summary)));
    const card = el("details", { id: operation.operationId }, summary);
    card.addEventListener("toggle", () => {
      if (!card.open || card.children.length > 1) return;
      const about = operation.description === operation.summary ? "" : operation.description;
      const text = about ? el("p", { class: "about" }, ...prose(about)) : null;
      card.append(el("div", { class: "body" }, ...[text, form(api, method, path, operation), responses(api, operation)].flat().filter(Boolean)));
    });
    return card;
  });
  return el("section", { id: `tag-${tag.name}` }, el("h2", {}, tag.name), el("p", { class: "about" }, ...prose(tag.description)), cards);
}

function problems(api) {
  const rows = Object.entries(api["x-problem-codes"] ?? {}).map(([code, meaning]) => {
    const entry = row(code, ...prose(meaning));
    entry.id = code;
    return entry;
  });
  return el("section", { id: "problems" }, el("h2", {}, "Problems"),
    el("p", { class: "about" }, ...prose("Every error is `application/problem+json`. Its `code` is stable.")),
    el("table", {}, rows));
}

/** The fields of a frame, and of each kind of what stands in it. */
function frameFields(live, payload) {
  const kinds = Object.values(resolve(live, payload).properties ?? {}).flatMap((value) => alternatives(resolve(live, value)));
  return [fields(live, payload), ...kinds.flatMap((kind) => [el("h3", {}, typeName(live, kind)), fields(live, kind)])];
}

/** The frames of the WebSocket: those that a client sends with what answers them, then those that it gets. */
function frames(live) {
  const { messages } = live.channels.live;
  const nameOf = ({ $ref }) => $ref.split("/").pop();
  const replies = new Map();
  for (const { action, messages: [asked], reply } of Object.values(live.operations))
    if (action === "receive") replies.set(nameOf(asked), reply.messages.map(nameOf));
  const cards = Object.entries(messages).map(([name, thing]) => {
    const message = resolve(live, thing);
    const answers = replies.get(name);
    const summary = el("summary", {},
      el("span", { class: `method ${answers ? "POST" : "GET"}` }, answers ? "send" : "receive"),
      el("span", { class: "path" }, message.name),
      el("span", { class: "what" }, ...prose(message.summary)));
    const examples = message.examples.map(({ payload }) => el("pre", {}, JSON.stringify(payload, null, 2)));
    const links = (answers ?? []).flatMap((answer) => [" ", el("a", { href: `#frame-${answer}` }, answer.replaceAll("_", " "))]);
    const body = [
      answers ? el("p", { class: "about" }, "Answered with:", ...links) : null,
      ...frameFields(live, message.payload), el("h3", {}, "Examples"), ...examples];
    return el("details", { id: `frame-${name}` }, summary, el("div", { class: "body" }, body.filter(Boolean)));
  });
  const codes = Object.entries(live.channels.live["x-close-codes"]).map(([code, meaning]) => row(code, ...prose(meaning)));
  return el("section", { id: "frames" }, el("h2", {}, "WebSocket"),
    el("p", { class: "about" }, ...prose(live.info.description)),
    el("p", { class: "about" }, ...prose(live.channels.live.description)),
    cards, el("h3", {}, "Close codes"), el("table", {}, codes));
}

/** What the address names; nothing when it is not an encoded text. */
function named() {
  try {
    return decodeURIComponent(location.hash.slice(1));
  } catch {
    return "";
  }
}

/** Opens what the address names. */
function openTarget() {
  const target = document.getElementById(named());
  if (!target) return;
  if (target.tagName === "DETAILS") target.open = true;
  target.scrollIntoView();
}

async function main() {
  const [api, live] = await Promise.all(["/openapi.json", "/asyncapi.json"].map(async (path) => (await fetch(path)).json()));
  const all = Object.entries(api.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ method, path, operation: item[method] })));
  const contents = document.getElementById("contents");
  const operations = document.getElementById("operations");
  operations.replaceChildren(el("p", { class: "intro" }, ...prose(api.info.description)));
  for (const tag of api.tags ?? []) {
    const mine = all.filter(({ operation }) => (operation.tags ?? []).includes(tag.name));
    if (!mine.length) continue;
    operations.append(section(api, tag, mine));
    contents.append(el("h2", {}, tag.name),
      ...mine.map(({ operation }) => el("a", { href: `#${operation.operationId}` }, operation.operationId.replaceAll("_", " "))));
  }
  operations.append(frames(live), problems(api));
  contents.append(el("h2", {}, "More"), el("a", { href: "#frames" }, "WebSocket"), el("a", { href: "#problems" }, "problems"));
  openTarget();
  window.addEventListener("hashchange", openTarget);
}

await main();
