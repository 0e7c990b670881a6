// The field to write in, for a new message or for another text of an old one.

import { el, icon, iconButton } from "/web/dom.js";
import { counted } from "/web/format.js";
import { Tray } from "/web/tray.js";

/** How often, at most, others are told that somebody is typing. */
const TYPING_EVERY_MS = 3000;

export class Composer {
  #edited = null;
  #kept = "";
  #toldAt = -TYPING_EVERY_MS;

  /** `act` is `{send(text, attachments), edit(message, text), editLast(), typing()}`; `edit` gives a promise. */
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
    this.picker = el("input", { type: "file", multiple: true, hidden: true, tabindex: "-1" });
    this.picker.addEventListener("change", () => {
      this.attach([...this.picker.files]);
      this.picker.value = "";
    });
    this.clip = iconButton("clip", "Attach files", () => this.picker.click());
    this.input.addEventListener("paste", (event) => {
      const files = [...event.clipboardData.files];
      if (files.length > 0) event.preventDefault();
      this.attach(files);
    });
    this.traySlot = el("div", {});
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
      this.traySlot,
      el("div", { class: "composer-line" }, this.clip, this.picker, this.input, this.submit),
    );
    this.setTray(new Tray());
    this.#fit();
  }

  /** Shows the files that wait in another conversation. */
  setTray(tray) {
    if (this.tray) this.tray.removeEventListener("change", this.onTray);
    this.tray = tray;
    this.onTray = () => this.#fit();
    tray.addEventListener("change", this.onTray);
    this.traySlot.replaceChildren(tray.root);
    this.#fit();
  }

  /** Begins to upload files that are to go with the next message. */
  attach(files) {
    if (files.length === 0 || this.root.hidden) return;
    if (this.#edited) this.#endEdit();
    const surplus = this.tray.add(files);
    this.#tell(surplus > 0 ? `${counted(surplus, "file is", "files are")} too many at once.` : "");
    this.focus();
  }

  #tell(text) {
    this.problem.textContent = text;
    this.problem.hidden = text === "";
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
    this.clip.disabled = this.#edited !== null;
    this.#tell("");
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
    if (!this.#edited) {
      this.#sendNew(text);
      return;
    }
    if (text === "") return;
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
      this.#tell(problem.message);
    } finally {
      this.submit.disabled = false;
    }
  }

  #sendNew(text) {
    if (this.tray.isBusy) {
      this.#tell("A file is still uploading.");
      return;
    }
    if (this.tray.hasFailed) {
      this.#tell("Remove the files that could not be sent.");
      return;
    }
    const attachments = this.tray.take();
    if (text === "" && attachments.length === 0) return;
    this.put("");
    this.#toldAt = -TYPING_EVERY_MS;
    this.act.send(text, attachments);
  }

  /** As high as what is written, up to what the style allows. */
  #fit() {
    this.input.style.height = "auto";
    this.input.style.height = `${this.input.scrollHeight}px`;
    const isReady = this.input.value.trim() !== "" || (this.tray && !this.tray.isEmpty && !this.tray.isBusy);
    this.submit.classList.toggle("is-ready", isReady);
  }
}
