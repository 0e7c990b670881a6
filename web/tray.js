// Files that are to go with the next message: each is uploaded at once, and waits here until it is sent.

import { el, icon, iconButton } from "/web/dom.js";
import { upload } from "/web/files.js";
import { fileSize } from "/web/format.js";

/** Files that wait at once. */
const MAX_FILES = 10;

/** Emits `change` when a file came, arrived, failed or was taken away. */
export class Tray extends EventTarget {
  #files = new Set();

  constructor() {
    super();
    this.root = el("ul", { class: "tray", "aria-label": "Files to send", hidden: true });
  }

  get isEmpty() {
    return this.#files.size === 0;
  }

  /** Whether a file is still on its way. */
  get isBusy() {
    return [...this.#files].some(({ attachment, problem }) => !attachment && !problem);
  }

  get hasFailed() {
    return [...this.#files].some(({ problem }) => problem);
  }

  /** Begins to upload files; gives how many were too many. */
  add(files) {
    const taken = files.slice(0, MAX_FILES - this.#files.size);
    for (const file of taken) this.#begin(file);
    return files.length - taken.length;
  }

  /** Hands over what was uploaded, and is empty then. */
  take() {
    const attachments = [...this.#files].map(({ attachment }) => attachment).filter(Boolean);
    for (const entry of [...this.#files]) this.#remove(entry);
    return attachments;
  }

  async #begin(file) {
    const gone = new AbortController();
    const bar = el("progress", { max: "1", value: "0", "aria-label": `Uploading ${file.name}` });
    const state = el("span", { class: "tray-state", role: "status", text: fileSize(file.size) });
    const entry = { file, attachment: null, problem: null, gone };
    entry.node = el(
      "li",
      { class: "tray-file" },
      icon("file"),
      el("span", { class: "tray-name", text: file.name, title: file.name }),
      state,
      bar,
      iconButton("close", `Remove ${file.name}`, () => this.#remove(entry)),
    );
    this.#files.add(entry);
    this.root.append(entry.node);
    this.#changed();
    try {
      entry.attachment = await upload(file, { signal: gone.signal, told: (share) => (bar.value = share) });
      state.textContent = `${fileSize(file.size)} · ready`;
    } catch (problem) {
      entry.problem = problem;
      entry.node.classList.add("is-failed");
      state.textContent = problem.message;
    }
    bar.remove();
    this.#changed();
  }

  #remove(entry) {
    entry.gone.abort();
    entry.node.remove();
    this.#files.delete(entry);
    this.#changed();
  }

  #changed() {
    this.root.hidden = this.isEmpty;
    this.dispatchEvent(new Event("change"));
  }
}
