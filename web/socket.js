// The live connection: opens, proves it is alive, comes back by itself, and matches answers to requests.

import { Problem, accessToken, currentUser, renew, request } from "/web/api.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 30_000;
const ANSWER_TIMEOUT_MS = 10_000;
const HELLO_TIMEOUT_MS = 15_000;
const TOKEN_REFUSED = 4401;
const TOO_MANY = 4429;
/** How soon, at the earliest, a window tries again that is one too many. */
const CROWDED_WAIT_MS = 10_000;

/**
 * Emits `state` when `state` changes (`connecting`, `live`, `waiting`, `closed`) and `frame` with every frame
 * that is no answer. A connection is `live` from the server's `hello`.
 */
export class Socket extends EventTarget {
  state = "closed";
  /** Whether the last connection was refused because the user has too many. */
  isCrowded = false;
  #socket = null;
  #failures = 0;
  #requests = new Map();
  #nextRef = 0;
  #heartbeat_ms = 30_000;
  #heardAt = 0;
  #timer;
  #pulse;

  constructor() {
    super();
    addEventListener("online", () => this.#hurry());
    document.addEventListener("visibilitychange", () => {
      if (document.visibilityState === "visible") this.#hurry();
    });
  }

  /** Connects, and from then on reconnects until `close`. */
  async open() {
    if (this.state === "connecting" || this.state === "live") return;
    clearTimeout(this.#timer);
    this.#become("connecting");
    let token;
    try {
      token = await accessToken();
    } catch {
      if (this.state === "connecting") this.#wait();
      return;
    }
    if (this.state !== "connecting" || !token) return;
    const address = new URL("/v1/ws", location.href);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    const socket = new WebSocket(address, ["rookery.v1", `bearer.${token}`]);
    this.#socket = socket;
    this.#timer = setTimeout(() => socket.close(), HELLO_TIMEOUT_MS);
    socket.addEventListener("message", ({ data }) => this.#receive(socket, data));
    socket.addEventListener("close", ({ code, reason }) => this.#lost(socket, code, reason));
  }

  /** Disconnects for good. */
  close() {
    clearTimeout(this.#timer);
    this.#become("closed");
    const socket = this.#socket;
    this.#drop();
    if (socket) socket.close(1000);
  }

  /** Sends a frame without waiting for an answer; nothing happens when there is no connection. */
  post(frame) {
    if (this.state === "live") this.#socket.send(JSON.stringify(frame));
  }

  /** Sends a frame and gives the server's `ack`. Fails with a `Problem` that is passing when none came. */
  request(frame) {
    if (this.state !== "live") return Promise.reject(noAnswer());
    this.#nextRef += 1;
    const ref = `r${this.#nextRef}`;
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => this.#settle(ref, ({ reject: refuse }) => refuse(noAnswer())), ANSWER_TIMEOUT_MS);
      this.#requests.set(ref, { resolve, reject, timer });
      this.#socket.send(JSON.stringify({ ...frame, ref }));
    });
  }

  #settle(ref, how) {
    const pending = this.#requests.get(ref);
    if (!pending) return;
    clearTimeout(pending.timer);
    this.#requests.delete(ref);
    how(pending);
  }

  #receive(socket, data) {
    if (socket !== this.#socket) return;
    this.#heardAt = performance.now();
    let frame;
    try {
      frame = JSON.parse(data);
    } catch {
      return;
    }
    if (frame.type === "ack") {
      this.#settle(frame.ref, ({ resolve }) => resolve(frame));
    } else if (frame.type === "error" && frame.ref) {
      // What may be tried again says when; anything else fails for good.
      const problem = new Problem(frame.retry_after_ms ? 503 : 422, frame, (frame.retry_after_ms || 0) / 1000);
      this.#settle(frame.ref, ({ reject }) => reject(problem));
    } else {
      if (frame.type === "hello") this.#greeted(frame);
      this.dispatchEvent(new CustomEvent("frame", { detail: frame }));
    }
  }

  #greeted(hello) {
    clearTimeout(this.#timer);
    this.#failures = 0;
    this.isCrowded = false;
    this.#heartbeat_ms = Math.max(5, hello.heartbeat_seconds || 30) * 1000;
    clearInterval(this.#pulse);
    this.#pulse = setInterval(() => this.#beat(), this.#heartbeat_ms);
    this.#become("live");
  }

  /** A connection that has been silent for two beats is dead, whatever the network says. */
  #beat() {
    const silent_ms = performance.now() - this.#heardAt;
    if (silent_ms > 2.5 * this.#heartbeat_ms) {
      const socket = this.#socket;
      socket.close();
      this.#lost(socket, 1006, "");
      return;
    }
    this.post({ type: "ping" });
  }

  #lost(socket, code, reason) {
    if (socket !== this.#socket) return;
    this.#drop();
    if (this.state === "closed") return;
    this.#failures += 1;
    this.isCrowded = code === TOO_MANY;
    this.#wait(this.isCrowded ? CROWDED_WAIT_MS : askedWait(reason));
    // During the handshake a refused token shows as a plain failure: any request finds out and renews it.
    if (code === TOKEN_REFUSED)
      renew().then(
        () => this.#hurry(),
        () => {},
      );
    else if (this.#failures % 3 === 0) request("GET", `/v1/users/${currentUser().id}`).catch(() => {});
  }

  #drop() {
    clearInterval(this.#pulse);
    clearTimeout(this.#timer);
    this.#socket = null;
    for (const ref of [...this.#requests.keys()]) this.#settle(ref, ({ reject }) => reject(noAnswer()));
  }

  /**
   * Waits as long as the server asks for, and for a random time below a bound that doubles: clients that were cut
   * together return apart.
   */
  #wait(least_ms = 0) {
    this.#become("waiting");
    const bound_ms = Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** Math.min(this.#failures, 10));
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.open(), least_ms + Math.random() * bound_ms);
  }

  #hurry() {
    if (this.state === "waiting") this.open();
  }

  #become(state) {
    if (this.state === state) return;
    this.state = state;
    this.dispatchEvent(new Event("state"));
  }
}

/** How long a server that sends its clients away asks this one to wait; the reason of a close is JSON, or empty. */
function askedWait(reason) {
  try {
    return Math.min(LONGEST_WAIT_MS, Math.max(0, Number(JSON.parse(reason).after_ms) || 0));
  } catch {
    return 0;
  }
}

function noAnswer() {
  return new Problem(0, { code: "offline", detail: "No answer came." });
}
