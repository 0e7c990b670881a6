// The top five: who writes most, and where most is written.

import { request, withQuery } from "/web/api.js";
import { avatar, el } from "/web/dom.js";
import { backLink } from "/web/chat.js";
import { clock, counted, number } from "/web/format.js";

const LIMIT = 5;
/** At most one reading in this time, however many messages arrive. */
const EVERY_MS = 1000;
/** Messages of conversations that are not ours are seen only so. */
const IDLE_EVERY_MS = 15_000;
/** Counting follows the log by a moment: how often to look again for a message that was just sent. */
const MAX_LOOKS = 8;
const HOUR_MS = 60 * 60 * 1000;

const PRESETS = [
  ["All time", () => ["", ""]],
  ["Last hour", () => [local(new Date(Date.now() - HOUR_MS)), ""]],
  ["Today", () => [local(new Date(new Date().setHours(0, 0, 0, 0))), ""]],
  ["Last 7 days", () => [local(new Date(Date.now() - 7 * 24 * HOUR_MS)), ""]],
];

/** A time as a `datetime-local` field wants it. */
function local(date) {
  return new Date(date - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
}

export class TopView {
  #isShown = false;
  #timer;
  #looksLeft = 0;
  #last = "";
  #asked = 0;

  constructor(store) {
    this.store = store;
    this.start = el("input", { type: "datetime-local", id: "top-start" });
    this.end = el("input", { type: "datetime-local", id: "top-end" });
    this.problem = el("p", { class: "form-problem", role: "alert", hidden: true });
    this.users = el("ol", { class: "ranking", id: "top-users" });
    this.chats = el("ol", { class: "ranking", id: "top-chats" });
    this.asOf = el("span", { class: "as-of" });
    this.presets = el(
      "div",
      { class: "presets", role: "group", "aria-label": "Time" },
      ...PRESETS.map(([name, range]) => this.#preset(name, range)),
    );
    for (const input of [this.start, this.end]) input.addEventListener("change", () => this.#changed());
    this.root = el(
      "section",
      { class: "page top", "aria-label": "Top five" },
      el("header", { class: "page-head" }, backLink("#/"), el("h1", { text: "Top five" }), this.asOf),
      el(
        "div",
        { class: "page-body" },
        this.#range(),
        this.problem,
        el(
          "div",
          { class: "cards" },
          card("People", "who wrote the most messages in groups", this.users),
          card("Chats", "groups with the most messages", this.chats),
        ),
      ),
    );
    this.#markPreset();
    store.addEventListener("message", () => this.#expectMore());
    document.addEventListener("visibilitychange", () => this.#plan(0));
  }

  #range() {
    const field = (label, input) => el("div", { class: "field" }, el("label", { for: input.id, text: label }), input);
    return el(
      "div",
      { class: "range" },
      this.presets,
      el("div", { class: "range-fields" }, field("From", this.start), field("Until", this.end)),
    );
  }

  #preset(name, range) {
    const onclick = () => {
      [this.start.value, this.end.value] = range();
      this.#changed(name);
    };
    return el("button", { type: "button", class: "preset", "aria-pressed": "false", text: name, onclick });
  }

  #markPreset(name) {
    const chosen = name || (this.start.value || this.end.value ? "" : "All time");
    for (const button of this.presets.children)
      button.setAttribute("aria-pressed", String(button.textContent === chosen));
  }

  #changed(preset) {
    this.#markPreset(preset);
    this.#plan(0);
  }

  /** Begins or ends to keep itself fresh. */
  show(isShown) {
    this.#isShown = isShown;
    clearTimeout(this.#timer);
    if (isShown) this.#read();
  }

  #plan(wait_ms) {
    if (!this.#isShown) return;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#read(), wait_ms);
  }

  #expectMore() {
    if (!this.#isShown) return;
    if (this.#looksLeft === 0) this.#plan(EVERY_MS / 2);
    this.#looksLeft = MAX_LOOKS;
  }

  async #read() {
    if (document.visibilityState !== "visible") return;
    this.#asked += 1;
    const turn = this.#asked;
    const instant = ({ value }) => (value ? new Date(value).toISOString() : "");
    const parameters = { start: instant(this.start), end: instant(this.end), limit: LIMIT };
    let answers;
    try {
      answers = await Promise.all(
        ["top-users", "top-conversations"].map((what) =>
          request("GET", withQuery(`/v1/analytics/${what}`, parameters)),
        ),
      );
      if (turn !== this.#asked) return;
      this.problem.hidden = true;
      this.#draw(...answers);
    } catch (problem) {
      if (turn !== this.#asked) return;
      this.problem.textContent = problem.status === 403 ? "Only analysts can see this." : problem.message;
      this.problem.hidden = false;
    }
    this.#goOn(answers);
  }

  /** Looks again soon while a message is expected to show, else after a while. */
  #goOn(answers) {
    const seen = JSON.stringify((answers || []).map(({ items }) => items));
    if (seen !== this.#last) this.#looksLeft = Math.min(this.#looksLeft, 1);
    this.#last = seen;
    if (this.#looksLeft > 0) {
      this.#looksLeft -= 1;
      this.#plan(EVERY_MS);
    } else {
      this.#plan(IDLE_EVERY_MS);
    }
  }

  #draw(users, chats) {
    drawRanking(
      this.users,
      users.items.map(({ user, messages }) => ({
        id: user.id,
        name: user.name || user.username,
        under: `@${user.username}`,
        messages,
        user,
      })),
    );
    drawRanking(
      this.chats,
      chats.items.map(({ conversation, messages }) => this.#chat(conversation, messages)),
    );
    const asOf = new Date(users.as_of || Date.now());
    this.asOf.textContent = `Live · as of ${clock(asOf)}`;
  }

  #chat(conversation, messages) {
    const known = this.store.conversations.get(conversation.id);
    const name = conversation.name || (known ? this.store.nameOf(known) : "");
    const href = known && `#/c/${conversation.id}`;
    return { id: conversation.id, name: name || "A private group", isHidden: !name, isGroup: true, messages, href };
  }
}

function card(title, subtitle, list) {
  return el(
    "section",
    { class: "card" },
    el("h2", { text: title }),
    el("p", { class: "card-subtitle", text: subtitle }),
    list,
  );
}

function drawRanking(list, entries) {
  const most = Math.max(1, ...entries.map(({ messages }) => messages));
  const rows = entries.map((entry) => rankRow(entry, entry.messages / most));
  list.replaceChildren(
    ...(rows.length > 0 ? rows : [el("li", { class: "ranking-empty", text: "No messages in this time." })]),
  );
}

function rankRow(entry, share) {
  const bar = el("span", { class: "bar", "aria-hidden": "true" });
  bar.style.setProperty("--share", String(share));
  const name = entry.href
    ? el("a", { class: "rank-name", href: entry.href, text: entry.name })
    : el("span", { class: entry.isHidden ? "rank-name is-hidden" : "rank-name", text: entry.name });
  return el(
    "li",
    { class: "rank", "data-id": entry.id },
    avatar(entry.id, entry.name, { group: entry.isGroup, picture: entry.user && entry.user.picture }),
    el("span", { class: "rank-names" }, name, bar),
    el("span", {
      class: "rank-count",
      text: number(entry.messages),
      title: counted(entry.messages, "message", "messages"),
    }),
  );
}
