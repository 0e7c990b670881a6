// Messages on their way. Each keeps its id from the first attempt on, so that it takes effect once however
// often it is sent; those of one conversation go one after the other, so that they keep their order.

import { pathOf, request } from "/web/api.js";
import { newId } from "/web/format.js";
import { messageOf } from "/web/thread.js";

const MAX_ATTEMPTS = 5;
/** Without any answer it is worth while to wait for longer: some ten minutes in all. */
const MAX_UNANSWERED = 25;
const MAX_WAIT_MS = 30_000;
/**
 * A longer text goes by HTTP. The server closes a connection that brings a frame of more than 64 KiB; to an HTTP
 * request it says what is wrong.
 */
const MAX_FRAME_TEXT_BYTES = 32 * 1024;

/** Emits `change` with the conversation's id. */
export class Outbox extends EventTarget {
  #queues = new Map();
  #busy = new Set();
  /** What ends each pause, and whether a returning connection is a reason to. */
  #pauses = new Map();
  #isClosed = false;

  constructor(socket, store) {
    super();
    this.socket = socket;
    this.store = store;
    // A returning connection is the moment to try again.
    socket.addEventListener("state", () => {
      if (socket.state === "live") this.#wake();
    });
  }

  /** Gives up everything: what one user wrote is never sent as the next one. */
  close() {
    this.#isClosed = true;
    this.#queues.clear();
    for (const wake of [...this.#pauses.keys()]) wake();
  }

  /** What is on its way or has failed in a conversation, oldest first. */
  pending(conversation) {
    return this.#queues.get(conversation) || [];
  }

  /** Sends a text, an attachment that was uploaded, or both. */
  send(conversation, text, attachment) {
    const id = newId(this.store.me.id);
    const created_at = new Date().toISOString();
    const entry = { id, conversation, text, attachment, created_at, attempts: 0, problem: null };
    this.#queues.set(conversation, [...this.pending(conversation), entry]);
    this.#changed(conversation);
    this.#work(conversation);
  }

  /** Sends what has failed once more, with the same id. */
  retry(entry) {
    entry.problem = null;
    entry.attempts = 0;
    this.#changed(entry.conversation);
    this.#work(entry.conversation);
  }

  /** Gives up what has failed. */
  discard(entry) {
    this.#remove(entry);
    this.#changed(entry.conversation);
  }

  #remove(entry) {
    const rest = this.pending(entry.conversation).filter(({ id }) => id !== entry.id);
    if (rest.length > 0) this.#queues.set(entry.conversation, rest);
    else this.#queues.delete(entry.conversation);
  }

  #changed(conversation) {
    this.dispatchEvent(new CustomEvent("change", { detail: conversation }));
  }

  async #work(conversation) {
    if (this.#busy.has(conversation)) return;
    this.#busy.add(conversation);
    while (!this.#isClosed) {
      const entry = this.pending(conversation).find(({ problem }) => problem === null);
      if (!entry) break;
      await this.#attempt(entry);
    }
    this.#busy.delete(conversation);
  }

  async #attempt(entry) {
    entry.attempts += 1;
    try {
      const message = await this.#transmit(entry);
      this.#remove(entry);
      this.store.putMessage(message);
    } catch (problem) {
      if (this.#isClosed) return;
      const most = problem.status === 0 ? MAX_UNANSWERED : MAX_ATTEMPTS;
      if (problem.isPassing && entry.attempts < most) await this.#pause(entry, problem);
      else entry.problem = problem;
    }
    this.#changed(entry.conversation);
  }

  async #transmit({ id, conversation, text, attachment }) {
    const content = attachment ? { text, attachment: { id: attachment.id } } : { text };
    if (this.socket.state !== "live" || isLong(text)) {
      return request("POST", pathOf(conversation, "messages"), { id, ...content });
    }
    const ack = await this.socket.request({ type: "send", id, conversation, ...content });
    const event = { id, kind: "message", sender: this.store.me.id, text, attachment };
    return messageOf(conversation, ack.seq, ack.at, event);
  }

  /** Waits as long as the server asks, or longer each time; a returning connection ends the wait. */
  #pause(entry, problem) {
    const bound_ms = Math.min(MAX_WAIT_MS, 500 * 2 ** Math.min(entry.attempts, 10));
    const wait_ms = Math.max(problem.retry_after_ms, Math.random() * bound_ms);
    return new Promise((resolve) => {
      const wake = () => {
        clearTimeout(timer);
        this.#pauses.delete(wake);
        resolve();
      };
      const timer = setTimeout(wake, wait_ms);
      this.#pauses.set(wake, problem.status === 0);
    });
  }

  #wake() {
    for (const [wake, isUnanswered] of [...this.#pauses]) if (isUnanswered) wake();
  }
}

function isLong(text) {
  return new TextEncoder().encode(JSON.stringify(text)).length > MAX_FRAME_TEXT_BYTES;
}
