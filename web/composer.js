// The field to write in, for a new message or for another text of an old one.

import { el, icon, iconButton } from "/web/dom.js";

/** How often, at most, others are told that somebody is typing. */
const TYPING_EVERY_MS = 3000;

export class Composer {
  #edited = null;
  #kept = "";
  #toldAt = -TYPING_EVERY_MS;

  /** `act` is `{send(text), edit(message, text), editLast(), typing()}`; `edit` gives a promise. */
  constructor(act) {
    this.act = act;
    this.input = el("textarea", {
      rows: "1",
      "aria-label": "Write a message",
      placeholder: "Write a message",
      enterkeyhint: "send",
    });
    this.input.addEventListener("input", () => this.#typed());
    this.input.addEventListener("keydown", (event) => this.#key(event));
    this.submit = el(
      "button",
      { type: "submit", class: "send", "aria-label": "Send", title: "Send (Enter)" },
      icon("send"),
    );
    this.banner = el(
      "div",
      { class: "edit-banner", hidden: true },
      icon("edit"),
      el("span", { text: "Editing your message" }),
      iconButton("close", "Stop editing", () => this.#endEdit()),
    );
    this.problem = el("p", { class: "composer-problem", role: "alert", hidden: true });
    const onsubmit = (event) => {
      event.preventDefault();
      this.#submitText();
    };
    this.root = el(
      "form",
      { class: "composer", onsubmit },
      this.banner,
      this.problem,
      el("div", { class: "composer-line" }, this.input, this.submit),
    );
    this.#fit();
  }

  focus() {
    this.input.focus();
  }

  setEnabled(isEnabled) {
    this.root.hidden = !isEnabled;
  }

  /** Hands over what was written and not sent, and is empty then. */
  take() {
    const draft = this.#edited ? this.#kept : this.input.value;
    this.#edited = null;
    this.put("");
    return draft;
  }

  put(text) {
    this.input.value = text;
    this.banner.hidden = this.#edited === null;
    this.problem.hidden = true;
    this.#fit();
  }

  /** Turns to another text for a message. */
  beginEdit(message) {
    if (!this.#edited) this.#kept = this.input.value;
    this.#edited = message;
    this.put(message.text);
    this.focus();
  }

  #endEdit() {
    this.#edited = null;
    this.put(this.#kept);
    this.#kept = "";
    this.focus();
  }

  #typed() {
    this.#fit();
    const now = performance.now();
    if (this.#edited || this.input.value.trim() === "" || now - this.#toldAt < TYPING_EVERY_MS) return;
    this.#toldAt = now;
    this.act.typing();
  }

  #key(event) {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
      event.preventDefault();
      this.#submitText();
    } else if (event.key === "Escape" && this.#edited) {
      event.stopPropagation();
      this.#endEdit();
    } else if (event.key === "ArrowUp" && this.input.value === "") {
      event.preventDefault();
      this.act.editLast();
    }
  }

  async #submitText() {
    const text = this.input.value.trim();
    if (text === "") return;
    if (!this.#edited) {
      this.put("");
      this.#toldAt = -TYPING_EVERY_MS;
      this.act.send(text);
      return;
    }
    const message = this.#edited;
    if (text === message.text) {
      this.#endEdit();
      return;
    }
    this.submit.disabled = true;
    try {
      await this.act.edit(message, text);
      if (this.#edited === message) this.#endEdit();
    } catch (problem) {
      this.problem.textContent = problem.message;
      this.problem.hidden = false;
    } finally {
      this.submit.disabled = false;
    }
  }

  /** As high as what is written, up to what the style allows. */
  #fit() {
    this.input.style.height = "auto";
    this.input.style.height = `${this.input.scrollHeight}px`;
    this.submit.classList.toggle("is-ready", this.input.value.trim() !== "");
  }
}
