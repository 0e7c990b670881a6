// The page: who is logged in, what is on screen, and the wires between the parts.

import { currentUser, logOut, onSessionLost, resumeSession } from "/web/api.js";
import { authView } from "/web/auth.js";
import { AboutView } from "/web/about.js";
import { ChatView } from "/web/chat.js";
import { ListView } from "/web/list.js";
import { Outbox } from "/web/outbox.js";
import { Socket } from "/web/socket.js";
import { Store } from "/web/store.js";
import { TopView } from "/web/top.js";
import { closeDialogs, el, mark, toast } from "/web/dom.js";

/** A connection that is back sooner than this was never announced as lost. */
const QUIET_MS = 1500;

const app = document.getElementById("app");
let running = null;

function route() {
  const [, kind, encoded, part] = location.hash.split("/");
  const id = kind === "c" && encoded ? decoded(encoded) : null;
  if (id) return { view: "chat", id, withDetails: part === "details" };
  return { view: kind === "top" || kind === "about" ? kind : "list", id: null };
}

/** What a part of the address says; `null` when it is not an encoded text. */
function decoded(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return null;
  }
}

function go(hash) {
  if (location.hash !== hash) location.hash = hash;
}

/** Everything that lives as long as somebody is logged in. */
class Session {
  constructor(me) {
    this.store = new Store(me);
    this.socket = new Socket();
    this.outbox = new Outbox(this.socket, this.store);
    this.list = new ListView(this.store, { open: (id) => go(`#/c/${id}`), logOut });
    this.chat = new ChatView(this.store, this.outbox, this.socket, { go });
    this.top = new TopView(this.store);
    this.about = new AboutView(this.socket);
    this.empty = el(
      "div",
      { class: "empty" },
      mark(),
      el("h1", { text: "Choose a conversation, or start a new one." }),
    );
    this.stage = el("main", { class: "stage" }, this.empty);
    this.banner = el("div", { class: "connection", role: "status", hidden: true });
    this.root = el("div", { class: "shell" }, this.banner, this.list.root, this.stage);
    this.#wire();
    this.#navigate();
    this.#start();
  }

  #wire() {
    this.onHash = () => this.#navigate();
    addEventListener("hashchange", this.onHash);
    this.socket.addEventListener("state", () => this.#connectionChanged());
    this.socket.addEventListener("frame", ({ detail }) => this.#frame(detail));
    this.store.addEventListener("conversations", () => this.#title());
    this.store.addEventListener("left", ({ detail }) => this.#left(detail));
  }

  async #start() {
    await this.store.loadConversations();
    if (running === this) this.socket.open();
  }

  #frame(frame) {
    if (frame.type === "hello") {
      const positions = this.store.positions();
      const isNew = Object.keys(positions).length === 0;
      // Either lets live events come; a resume must name a position.
      this.socket.post(isNew ? { type: "ping" } : { type: "resume", positions });
      this.store.loadConversations();
    } else if (frame.type === "resumed") {
      if (!frame.complete) this.store.reread(frame.incomplete || [{}]);
    } else {
      this.store.receive(frame);
    }
  }

  #navigate() {
    const { view, id, withDetails } = route();
    const screen = { chat: this.chat, top: this.top, about: this.about }[view];
    this.root.dataset.view = view;
    this.stage.replaceChildren(screen ? screen.root : this.empty);
    this.chat.show(id, { withDetails });
    this.top.show(view === "top");
    this.about.show(view === "about");
    this.list.select(id || view);
    if (view === "chat" && !withDetails) this.chat.focus();
    this.#title();
  }

  #title() {
    const unread = this.store.unread();
    document.title = unread > 0 ? `(${unread}) Rookery` : "Rookery";
  }

  #left(conversation) {
    if (route().id !== conversation.id) return;
    toast(`You are no longer in “${this.store.nameOf(conversation)}”.`);
    go("#/");
  }

  #connectionChanged() {
    const { state } = this.socket;
    this.root.dataset.connection = state;
    if (state === "live") {
      clearTimeout(this.announcing);
      this.announcing = undefined;
      this.banner.hidden = true;
      return;
    }
    if (!this.banner.hidden) this.#announce();
    else this.announcing ??= setTimeout(() => this.#announce(), QUIET_MS);
  }

  #announce() {
    if (!navigator.onLine) this.banner.textContent = "You are offline. Your messages will be sent when you are back online.";
    else if (this.socket.isCrowded)
      this.banner.textContent = "You have too many windows open. Close one, and this one will connect.";
    else this.banner.textContent = "Connection lost. Reconnecting…";
    this.banner.hidden = false;
  }

  close() {
    clearTimeout(this.announcing);
    removeEventListener("hashchange", this.onHash);
    this.top.show(false);
    this.about.show(false);
    this.chat.show(null);
    this.outbox.close();
    this.socket.close();
    this.store.close();
    closeDialogs();
  }
}

function showAuth(notice) {
  app.replaceChildren(authView(enter, notice));
}

function enter() {
  running = new Session(currentUser());
  app.replaceChildren(running.root);
}

onSessionLost((reason) => {
  if (running) running.close();
  running = null;
  go("#/");
  showAuth(reason);
});

if (resumeSession()) enter();
else showAuth("");
