// Drives official Socket.IO clients for a test: one JSON command a line on the standard input, one JSON answer a line on
// the standard output, by the command's number. Ends well when the input ends.

import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const PATIENCE_MS = 30_000;
const clients = new Map();

/** A client with everything that came to it and was not yet asked for. */
class Client {
  constructor({ url, auth, transports }) {
    this.received = [];
    this.endings = [];
    this.waiting = () => {};
    this.socket = io(url, { auth, transports, forceNew: true, reconnectionDelay: 10, reconnectionDelayMax: 50 });
    this.socket.onAny((event, data) => this.note(this.received, { event, data }));
    this.socket.on("disconnect", (reason) => this.note(this.endings, reason));
  }

  note(list, item) {
    list.push(item);
    this.waiting();
  }

  /** Waits until `find` finds something. */
  async until(find) {
    const deadline = Date.now() + PATIENCE_MS;
    for (;;) {
      const found = find();
      if (found !== undefined) return found;
      if (Date.now() > deadline) throw new Error("it did not come in time");
      await new Promise((resolve) => {
        this.waiting = resolve;
        setTimeout(resolve, 1_000).unref();
      });
    }
  }
}

const commands = {
  /** Connects, or tells why not. */
  connect({ client, ...options }) {
    const made = new Client(options);
    clients.set(client, made);
    return new Promise((resolve) => {
      made.socket.once("connect", () => resolve({ connected: true }));
      made.socket.once("connect_error", (error) => {
        made.socket.disconnect();
        resolve({ connected: false, error: error.message });
      });
    });
  },

  /** Emits an event and gives its acknowledgement. */
  emit({ client, event, data }) {
    const socket = clients.get(client).socket.timeout(PATIENCE_MS);
    return data === undefined ? socket.emitWithAck(event) : socket.emitWithAck(event, data);
  },

  /** The next event of one of these names; others before it are passed over. */
  next({ client, events }) {
    const { received } = clients.get(client);
    return clients.get(client).until(() => {
      while (received.length > 0) {
        const next = received.shift();
        if (events.includes(next.event)) return next;
      }
    });
  },

  /** The names and data of everything that came and was not asked for. */
  received({ client }) {
    return clients.get(client).received.splice(0);
  },

  /** Why the client was disconnected, once it is. */
  ending({ client }) {
    return clients.get(client).until(() => clients.get(client).endings.shift());
  },

  /** Stops to read what comes over a WebSocket, or goes on. */
  stall({ client, on }) {
    const tcp = clients.get(client).socket.io.engine.transport.ws._socket;
    if (on) tcp.pause();
    else tcp.resume();
    return null;
  },

  /** The places of the events of a name that came and were not asked for, once the client is disconnected. */
  async places({ client, event }) {
    await commands.ending({ client });
    const { received } = clients.get(client);
    return received.splice(0).flatMap(({ event: name, data }) => {
      if (name === "closing") return [{ closing: data }];
      return name === event ? [{ conversation: data.conversation, epoch: data.epoch, prev: data.prev, seq: data.seq }] : [];
    });
  },

  /** How the client talks to the server now. */
  transport({ client, wanted }) {
    const transport = () => clients.get(client).socket.io.engine.transport.name;
    return clients.get(client).until(() => (wanted === undefined || transport() === wanted ? transport() : undefined));
  },

  /** Breaks the connection, as a network does, and comes back by itself with another `auth`. */
  async breakOff({ client, auth }) {
    const { socket } = clients.get(client);
    socket.auth = auth;
    const back = new Promise((resolve) => socket.once("connect", resolve));
    socket.io.engine.close();
    await back;
    return null;
  },

  /** Leaves for good. */
  leave({ client }) {
    clients.get(client).socket.disconnect();
    return null;
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { number, name, ...rest } = JSON.parse(line);
  Promise.resolve()
    .then(() => commands[name](rest))
    .then((answer) => ({ number, answer }))
    .catch((error) => ({ number, failure: String(error) }))
    .then((answer) => process.stdout.write(`${JSON.stringify(answer)}\n`));
}
process.exit(0);
