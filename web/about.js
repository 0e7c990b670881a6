// The server's health, and links to its documentation.

import { requestOpen } from "/web/api.js";
import { el } from "/web/dom.js";
import { backLink } from "/web/chat.js";

const EVERY_MS = 10_000;

const CHECKS = [
  ["Alive", "/healthz", "The process answers."],
  ["Ready", "/readyz", "It can store and read."],
];
const LINKS = [
  ["/docs", "API reference"],
  ["/openapi.json", "OpenAPI description"],
  ["/asyncapi.json", "AsyncAPI description of the WebSocket"],
  ["/metrics", "Metrics"],
  ["/.well-known/jwks.json", "Signing keys"],
];

export class AboutView {
  #timer;
  #isShown = false;

  constructor(socket) {
    this.socket = socket;
    this.live = checkRow("Live connection", "Messages arrive as they are sent.");
    this.rows = CHECKS.map(([name, path, text]) => ({ path, ...checkRow(name, text) }));
    this.root = el(
      "section",
      { class: "page about", "aria-label": "About" },
      el("header", { class: "page-head" }, backLink("#/"), el("h1", { text: "About" })),
      el(
        "div",
        { class: "page-body" },
        el("p", {
          class: "lead",
          text: "Rookery stores every message before anyone sees it, exactly once and in one order for everybody.",
        }),
        el(
          "section",
          { class: "card" },
          el("h2", { text: "Health" }),
          el("ul", { class: "checks" }, ...[...this.rows, this.live].map(({ root }) => root)),
        ),
        el(
          "section",
          { class: "card" },
          el("h2", { text: "Documentation" }),
          el(
            "ul",
            { class: "links" },
            ...LINKS.map(([href, text]) =>
              el("li", {}, el("a", { href, target: "_blank", rel: "noopener", text }), el("code", { text: href })),
            ),
          ),
        ),
      ),
    );
    socket.addEventListener("state", () => this.#drawLive());
  }

  show(isShown) {
    this.#isShown = isShown;
    clearTimeout(this.#timer);
    if (isShown) this.#read();
  }

  #drawLive() {
    const { state } = this.socket;
    this.live.set(state === "live", state === "live" ? "connected" : "reconnecting");
  }

  async #read() {
    this.#drawLive();
    await Promise.all(this.rows.map(check));
    if (!this.#isShown) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#read(), EVERY_MS);
  }
}

async function check({ path, set }) {
  const begun = performance.now();
  try {
    await requestOpen("GET", path);
    set(true, `yes, in ${Math.max(1, Math.round(performance.now() - begun))} ms`);
  } catch (problem) {
    set(false, problem.status === 0 ? "no answer" : problem.message);
  }
}

function checkRow(name, text) {
  const value = el("span", { class: "check-value", text: "…" });
  const root = el(
    "li",
    { class: "check" },
    el("span", { class: "check-dot", "aria-hidden": "true" }),
    el("span", { class: "check-names" }, el("span", { text: name }), el("span", { class: "check-text", text })),
    value,
  );
  const set = (isGood, words) => {
    root.classList.toggle("is-good", isGood);
    root.classList.toggle("is-bad", !isGood);
    value.textContent = words;
  };
  return { root, set };
}
