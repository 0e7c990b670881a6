// What a test sees of the page and holds up in it. It goes in before anybody logs in.

const later = window.setTimeout.bind(window);
const cancel = window.clearTimeout.bind(window);
const ask = window.fetch.bind(window);
const Own = window.WebSocket;

const hooks = {
  /** What waits for its time, and from how long a wait on it waits until it is run by `runTimers`. */
  timers: new Map(),
  frozen_ms: Infinity,
  /** The connection, the frames it brought, how often one was closed, and the type of frames that the page must not see. */
  socket: null,
  frames: [],
  closes: 0,
  deafTo: "",
  /** What was asked; what is refused; what is held up after the server has answered, and how it is let go. */
  calls: [],
  refused: "",
  held: "",
  release: null,
  /** Calls whose answers have been taken in. */
  done: [],
};
window.hooks = hooks;

/** Runs what waits for so long or longer. */
hooks.runTimers = (least_ms) => {
  for (const [id, { run, wait_ms }] of [...hooks.timers]) {
    if (wait_ms < least_ms) continue;
    window.clearTimeout(id);
    run();
  }
};

/** A frame as if the server had sent it. */
hooks.tell = (frame) => hooks.socket.dispatchEvent(new MessageEvent("message", { data: JSON.stringify(frame) }));

window.setTimeout = (run, wait_ms = 0) => {
  const fire = () => {
    hooks.timers.delete(id);
    run();
  };
  const id = later(fire, wait_ms < hooks.frozen_ms ? wait_ms : 2 ** 30);
  hooks.timers.set(id, { run, wait_ms });
  return id;
};

window.clearTimeout = (id) => {
  hooks.timers.delete(id);
  cancel(id);
};

window.fetch = async (path, options = {}) => {
  const call = `${options.method || "GET"} ${path}`;
  hooks.calls.push(call);
  if (hooks.refused && call.startsWith(hooks.refused)) return new Response("{}", { status: 503 });
  const response = await ask(path, options);
  const json = response.json.bind(response);
  response.json = async () => {
    const body = await json();
    later(() => hooks.done.push(call), 0);
    return body;
  };
  if (hooks.held && call.includes(hooks.held)) {
    await new Promise((release) => {
      hooks.release = release;
    });
  }
  return response;
};

window.WebSocket = class extends Own {
  constructor(...given) {
    super(...given);
    hooks.socket = this;
    this.addEventListener("message", (event) => {
      const frame = JSON.parse(event.data);
      hooks.frames.push(frame);
      if (frame.type === hooks.deafTo) event.stopImmediatePropagation();
    });
    this.addEventListener("close", () => {
      hooks.closes += 1;
    });
  }
};
