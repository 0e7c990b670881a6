// How far one has read, on its way to the server.

import { pathOf, request } from "/web/api.js";

const AGAIN_MS = 5000;
/** Some ten minutes. */
const MAX_ATTEMPTS = 120;

export class Marks {
  /** The latest mark of each conversation that has not arrived. */
  #told = new Map();
  #isClosed = false;

  /** Ends what would go on by itself. */
  close() {
    this.#isClosed = true;
  }

  /** Tells the server, again and again while it cannot be told and nothing later is to be said. */
  tell(conversation, seq) {
    this.#told.set(conversation, seq);
    this.#attempt(conversation, seq, 1);
  }

  async #attempt(conversation, seq, attempts) {
    const isLatest = () => !this.#isClosed && this.#told.get(conversation) === seq;
    if (!isLatest()) return;
    try {
      await request("PUT", pathOf(conversation, "read"), { seq });
    } catch (problem) {
      if (problem.isPassing && attempts < MAX_ATTEMPTS && isLatest()) {
        const wait_ms = Math.max(AGAIN_MS, problem.retry_after_ms);
        setTimeout(() => this.#attempt(conversation, seq, attempts + 1), wait_ms);
        return;
      }
    }
    if (isLatest()) this.#told.delete(conversation);
  }
}
