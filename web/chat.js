// One conversation: its head, its messages, and the field to write in.

import { pathOf, request } from "/web/api.js";
import { avatar, batched, confirm, debounced, el, icon, redraw, toast } from "/web/dom.js";
import { counted } from "/web/format.js";
import { Composer } from "/web/composer.js";
import { DetailsView } from "/web/details.js";
import { placeChildren } from "/web/list.js";
import { rowsOf } from "/web/rows.js";
import { Tray } from "/web/tray.js";

/** Nearer to the end than this, new messages pull the view along. */
const AT_END_PX = 80;
/** Nearer to the beginning than this, older messages are read. */
const AT_START_PX = 600;
/** Pages that are read at once to show where the unread messages begin. */
const MAX_UNREAD_PAGES = 3;
const READ_DELAY_MS = 250;
/** Screen readers say what comes into a log. What comes while it is busy they do not, if it stays busy for a moment. */
const BUSY_MS = 500;

export class ChatView {
  id = null;
  #rows = new Map();
  #newAfter = null;
  #isAtEnd = true;
  #missed = 0;
  #shownNewest = 0;
  #settling;
  #drafts = new Map();
  #trays = new Map();

  constructor(store, outbox, socket, { go }) {
    this.store = store;
    this.outbox = outbox;
    this.list = el("ol", { class: "messages" });
    this.start = el("div", { class: "messages-start" });
    this.scroller = el(
      "div",
      { class: "scroller", role: "log", "aria-label": "Messages", "aria-live": "polite", tabindex: "0" },
      el("div", { class: "messages-frame" }, this.start, this.list),
    );
    this.jump = el("button", { type: "button", class: "jump", hidden: true, onclick: () => this.#toEnd(true) });
    this.head = el("header", { class: "chat-head" });
    this.composer = new Composer({
      send: (text, attachments) => this.#send(text, attachments),
      edit: (message, text) => this.#edit(message, text),
      editLast: () => this.#editLast(),
      typing: () => socket.post({ type: "typing", conversation: this.id }),
    });
    this.details = new DetailsView(store, { go });
    const column = el(
      "section",
      { class: "chat-column", "aria-label": "Conversation" },
      this.head,
      el("div", { class: "scroll-area" }, this.scroller, this.jump),
      this.composer.root,
    );
    this.root = el("div", { class: "chat" }, column, this.details.root);
    this.#takeDrops(column);
    this.#listen();
  }

  #listen() {
    const drawRows = batched(() => this.#drawRows());
    const drawHead = batched(() => this.#drawHead());
    const ifMine =
      (run) =>
      ({ detail }) =>
        detail === this.id && run();
    this.store.addEventListener("thread", ifMine(drawRows));
    this.outbox.addEventListener("change", ifMine(drawRows));
    this.store.addEventListener("typing", ifMine(drawHead));
    this.store.addEventListener("conversations", () => {
      if (this.id) drawHead();
    });
    this.store.addEventListener("users", () => {
      if (!this.id) return;
      drawHead();
      drawRows();
    });
    this.scroller.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    new ResizeObserver(() => this.#isAtEnd && this.#toEnd()).observe(this.scroller);
    this.markRead = debounced(READ_DELAY_MS, () => this.#markRead());
    document.addEventListener("visibilitychange", () => this.markRead());
    addEventListener("focus", () => this.markRead());
  }

  /** Files that are dropped on the conversation go with the next message. */
  #takeDrops(column) {
    const hasFiles = ({ dataTransfer }) => this.id !== null && [...dataTransfer.types].includes("Files");
    const isOver = (over) => column.classList.toggle("is-dropping", over);
    column.addEventListener("dragover", (event) => {
      if (!hasFiles(event)) return;
      event.preventDefault();
      isOver(true);
    });
    column.addEventListener("dragleave", (event) => {
      if (!column.contains(event.relatedTarget)) isOver(false);
    });
    column.addEventListener("drop", (event) => {
      isOver(false);
      if (!hasFiles(event)) return;
      event.preventDefault();
      this.composer.attach([...event.dataTransfer.files]);
    });
  }

  /** Shows a conversation; `null` when none is on screen. */
  async show(id, { withDetails } = {}) {
    this.root.classList.toggle("has-details", Boolean(withDetails));
    this.details.show(withDetails ? id : null);
    if (id === this.id) {
      if (id !== null) this.#drawHead();
      return;
    }
    if (this.id) this.#keepDraft();
    this.id = id;
    if (id === null) return;
    this.#rows = new Map();
    this.list.replaceChildren();
    this.#isAtEnd = true;
    this.#missed = 0;
    this.#shownNewest = 0;
    this.composer.put(this.#drafts.get(id) || "");
    this.composer.setTray(this.#trays.get(id) || new Tray());
    const conversation = this.store.conversations.get(id) || (await this.store.fetchConversation(id));
    if (this.id !== id) return;
    this.#newAfter = firstUnread(conversation);
    this.#drawHead();
    this.#drawRows();
    if (conversation) await this.#loadUnread(conversation);
    if (this.id !== id) return;
    this.#drawRows();
    this.#toNewMark();
  }

  /** Reads the newest messages, and older ones up to where the unread ones begin, if that is not far. */
  async #loadUnread({ id }) {
    const thread = this.store.thread(id);
    for (let page = 0; page < MAX_UNREAD_PAGES; page += 1) {
      const isEnough = thread.isLoaded && (this.#newAfter === null || thread.reaches(this.#newAfter));
      if (isEnough || thread.problem || this.id !== id) break;
      await this.store.loadOlder(id);
    }
    if (this.#newAfter !== null && !thread.reaches(this.#newAfter)) this.#newAfter = null;
  }

  #keepDraft() {
    const draft = this.composer.take();
    if (draft) this.#drafts.set(this.id, draft);
    else this.#drafts.delete(this.id);
    if (this.composer.tray.isEmpty) this.#trays.delete(this.id);
    else this.#trays.set(this.id, this.composer.tray);
  }

  /** Puts the cursor into the field, where that does not raise a keyboard over the screen. */
  focus() {
    if (matchMedia("(pointer: fine)").matches) this.composer.focus();
  }

  // The head.

  #drawHead() {
    const conversation = this.store.conversations.get(this.id);
    this.composer.setEnabled(Boolean(conversation));
    if (!conversation) {
      redraw(this.head, [], () => [backLink("#/"), el("h1", { class: "chat-title", text: "Not here" })]);
      return;
    }
    const { store, id } = this;
    const name = store.nameOf(conversation);
    const peer = store.peerOf(conversation);
    const picture = peer ? (store.user(peer) || {}).picture : undefined;
    const isOpen = this.root.classList.contains("has-details");
    const typing = store.typing.in(id);
    const subtitle = this.#subtitle(conversation, peer, typing);
    redraw(this.head, [id, name, picture, isOpen, subtitle], () => [
      backLink("#/"),
      el(
        "a",
        {
          class: "chat-title-link",
          href: isOpen ? `#/c/${id}` : `#/c/${id}/details`,
          title: isOpen ? "Close details" : "Details",
        },
        avatar(peer || id, name, { picture, group: !peer }),
        el(
          "span",
          { class: "chat-titles" },
          el("h1", { class: "chat-title", text: name }),
          el("span", { class: typing.length ? "chat-subtitle is-typing" : "chat-subtitle", text: subtitle }),
        ),
      ),
      detailsLink(id, isOpen),
    ]);
  }

  #subtitle(conversation, peer, typing) {
    const names = typing.map((id) => this.store.userName(id));
    if (names.length > 2) return "Several people are typing…";
    if (names.length > 0) return `${names.join(" and ")} ${names.length === 1 ? "is" : "are"} typing…`;
    if (!peer) return counted(conversation.members_count, "member", "members");
    const user = this.store.user(peer);
    return user && !user.deleted ? `@${user.username}` : "";
  }

  // The messages.

  #drawRows() {
    const { store, id } = this;
    const conversation = store.conversations.get(id);
    if (!conversation) {
      this.list.replaceChildren();
      this.list.hidden = true;
      this.start.replaceChildren(
        el("p", { text: id ? "This conversation does not exist, or you are not a member." : "" }),
      );
      return;
    }
    const thread = store.thread(id);
    const act = {
      edit: (message) => this.composer.beginEdit(message),
      remove: (message) => this.#remove(message),
      retry: (entry) => this.outbox.retry(entry),
      discard: (entry) => this.outbox.discard(entry),
    };
    const wanted = rowsOf({
      store,
      thread,
      conversation,
      pending: this.outbox.pending(id),
      newAfter: this.#newAfter,
      act,
    });
    const anchor = this.#isAtEnd ? null : this.#anchor();
    const rows = new Map();
    for (const { key, signature, make } of wanted) {
      const known = this.#rows.get(key);
      rows.set(key, known && known.signature === signature ? known : { signature, node: make() });
    }
    this.list.hidden = wanted.length === 0;
    this.#drawBusy(thread);
    this.#rows = rows;
    placeChildren(
      this.list,
      [...rows.values()].map(({ node }) => node),
    );
    this.#drawStart(thread, wanted.length);
    if (thread.items.length > 0) this.#countMissed(thread);
    if (this.#isAtEnd) this.#toEnd();
    else if (anchor && rows.has(anchor.key))
      this.scroller.scrollTop += rows.get(anchor.key).node.offsetTop - anchor.top;
    this.#loadIfNear(thread);
    this.markRead();
  }

  #drawBusy(thread) {
    if (thread.isLoading) {
      clearTimeout(this.#settling);
      this.#settling = undefined;
      this.scroller.setAttribute("aria-busy", "true");
      return;
    }
    this.#settling ??= setTimeout(() => {
      this.#settling = undefined;
      this.scroller.setAttribute("aria-busy", "false");
    }, BUSY_MS);
  }

  #drawStart(thread, count) {
    let content;
    if (thread.problem) {
      const again = el("button", {
        type: "button",
        class: "button",
        text: "Try again",
        onclick: () => this.store.loadOlder(this.id),
      });
      content = el("div", { class: "start-problem" }, el("p", { text: thread.problem.message }), again);
    } else if (thread.isLoading || !thread.isLoaded) content = el("p", { class: "loading", text: "Loading…" });
    else if (thread.hasOlder) content = el("p", { class: "loading", text: " " });
    else content = el("p", { text: count === 0 ? "Nothing here yet. Say hello!" : "This is the beginning of the conversation." });
    this.start.replaceChildren(content);
  }

  /** The first message on screen, to hold it in place while rows above it come and go. Marks may move past it. */
  #anchor() {
    const top = this.scroller.scrollTop;
    for (const [key, { node }] of this.#rows) {
      const isMessage = node.classList.contains("message");
      if (isMessage && node.offsetTop + node.offsetHeight > top) return { key, top: node.offsetTop };
    }
    return null;
  }

  #countMissed(thread) {
    const newest = thread.items[thread.items.length - 1].seq;
    if (!this.#isAtEnd && this.#shownNewest > 0) {
      this.#missed += thread.items.filter(
        (item) => item.seq > this.#shownNewest && !item.notice && item.sender !== this.store.me.id,
      ).length;
    }
    this.#shownNewest = Math.max(newest, this.#shownNewest);
    this.#drawJump();
  }

  #drawJump() {
    this.jump.hidden = this.#isAtEnd;
    const text = this.#missed > 0 ? counted(this.#missed, "new message", "new messages") : "";
    this.jump.setAttribute("aria-label", text ? `${text}, to the end` : "To the end");
    this.jump.replaceChildren(icon("down"), ...(text ? [el("span", { text })] : []));
  }

  #scrolled() {
    const { scrollTop, scrollHeight, clientHeight } = this.scroller;
    this.#isAtEnd = scrollHeight - scrollTop - clientHeight < AT_END_PX;
    if (this.#isAtEnd) {
      this.#missed = 0;
      this.markRead();
    }
    this.#drawJump();
    if (this.id && this.store.conversations.has(this.id)) this.#loadIfNear(this.store.thread(this.id));
  }

  #loadIfNear(thread) {
    const isNear = this.scroller.scrollTop < AT_START_PX;
    if (isNear && thread.isLoaded && thread.hasOlder && !thread.isLoading && !thread.problem)
      this.store.loadOlder(this.id);
    if (this.#isAtEnd && !thread.isLoading) thread.trim();
  }

  #toEnd(isSmooth = false) {
    const behavior = isSmooth && !matchMedia("(prefers-reduced-motion: reduce)").matches ? "smooth" : "instant";
    this.scroller.scrollTo({ top: this.scroller.scrollHeight, behavior });
  }

  /** When more is new than fits the screen, shows where it begins. */
  #toNewMark() {
    const sign = this.list.querySelector(".new-mark");
    if (!sign || this.scroller.scrollHeight - sign.offsetTop < this.scroller.clientHeight) return;
    this.scroller.scrollTo({ top: sign.offsetTop - 40, behavior: "instant" });
  }

  #markRead() {
    if (!this.id || !this.#isAtEnd || document.visibilityState !== "visible") return;
    if (this.store.conversations.has(this.id) && this.store.thread(this.id).isLoaded) this.store.markRead(this.id);
  }

  // What one does.

  /** The text goes with the first file; each further file is a message of its own. */
  #send(text, attachments) {
    this.#newAfter = null;
    this.#isAtEnd = true;
    const [first, ...others] = attachments;
    this.outbox.send(this.id, text, first);
    for (const attachment of others) this.outbox.send(this.id, "", attachment);
  }

  async #edit(message, text) {
    this.store.putMessage(await request("PATCH", pathOf(message.conversation, "messages", message.id), { text }));
  }

  #editLast() {
    const own = this.store
      .thread(this.id)
      .items.filter((item) => item.sender === this.store.me.id && !item.deleted && item.text && !item.notice);
    if (own.length > 0) this.composer.beginEdit(own[own.length - 1]);
  }

  async #remove(message) {
    if (!(await confirm("Delete message?", "It will be deleted for everybody.", "Delete"))) return;
    try {
      await request("DELETE", pathOf(message.conversation, "messages", message.id));
    } catch (problem) {
      toast(problem.message);
    }
  }
}

/** After which `seq` the unread messages begin; `null` when there are none, or none was ever read. */
function firstUnread(conversation) {
  return conversation && conversation.unread > 0 ? conversation.read.seq || null : null;
}

/** On a small screen, the way back to the list. */
export function backLink(href) {
  return el(
    "a",
    { class: "icon-button back", href, "aria-label": "Back to conversations", title: "Back" },
    icon("back"),
  );
}

function detailsLink(id, isOpen) {
  const label = isOpen ? "Close details" : "Details";
  return el(
    "a",
    { class: "icon-button", href: isOpen ? `#/c/${id}` : `#/c/${id}/details`, "aria-label": label, title: label },
    icon(isOpen ? "close" : "info"),
  );
}
