// The list of conversations, with what leads elsewhere.

import { avatar, batched, el, icon, iconButton, mark, redraw } from "/web/dom.js";
import { number, shortTime } from "/web/format.js";
import { lastActivity } from "/web/summary.js";
import { newDirectDialog, newGroupDialog } from "/web/people.js";

/** More rows than this are drawn only on demand. */
const ROWS = 100;

export class ListView {
  #rows = new Map();
  #limit = ROWS;
  #filter = "";
  #selected = "";

  constructor(store, { open, logOut }) {
    this.store = store;
    this.list = el("ul", { class: "conversations", "aria-label": "Conversations" });
    this.note = el("div", { class: "list-note" });
    this.search = el("input", {
      type: "search",
      placeholder: "Find a conversation",
      "aria-label": "Find a conversation",
      autocomplete: "off",
    });
    this.search.addEventListener("input", () => {
      this.#filter = this.search.value.trim().toLocaleLowerCase();
      this.#draw();
    });
    const newDirect = () => newDirectDialog(store, open);
    const newGroup = () => newGroupDialog(store, open);
    this.root = el(
      "nav",
      { class: "sidebar", "aria-label": "Conversations" },
      el(
        "header",
        { class: "sidebar-head" },
        el("a", { class: "brand", href: "#/", "aria-label": "Rookery, home" }, mark(), el("span", { text: "Rookery" })),
        iconButton("chat", "New chat", newDirect),
        iconButton("group", "New group", newGroup),
      ),
      el("div", { class: "sidebar-search" }, icon("search"), this.search),
      el("div", { class: "sidebar-body" }, this.list, this.note),
      this.#foot(logOut),
    );
    const draw = batched(() => this.#draw());
    for (const name of ["conversations", "users", "typing"]) store.addEventListener(name, draw);
    this.emptyNote = emptyNote(newDirect, newGroup);
    this.#draw();
  }

  #foot(logOut) {
    const { me } = this.store;
    const name = me.name || me.username;
    return el(
      "footer",
      { class: "sidebar-foot" },
      el("a", { class: "foot-link", href: "#/top" }, icon("chart"), el("span", { text: "Top five" })),
      el("a", { class: "foot-link", href: "#/about" }, icon("info"), el("span", { text: "About" })),
      el(
        "div",
        { class: "me" },
        avatar(me.id, name, me),
        el(
          "span",
          { class: "person-names" },
          el("span", { class: "person-name", text: name }),
          el("span", { class: "person-username", text: `@${me.username}` }),
        ),
        iconButton("leave", "Log out", logOut),
      ),
    );
  }

  /** Marks what is open: a conversation's id or the name of another view. */
  select(selected) {
    this.#selected = selected;
    for (const [id, row] of this.#rows) markCurrent(row.link, id === selected);
    for (const link of this.root.querySelectorAll(".foot-link"))
      markCurrent(link, link.getAttribute("href") === `#/${selected}`);
  }

  #draw() {
    const all = this.store.sorted();
    const matching = this.#filter
      ? all.filter((one) => this.store.nameOf(one).toLocaleLowerCase().includes(this.#filter))
      : all;
    const shown = matching.slice(0, this.#limit);
    const focused = document.activeElement && document.activeElement.closest(".conversations > li");
    const rows = new Map();
    for (const conversation of shown) rows.set(conversation.id, this.#row(conversation));
    this.#rows = rows;
    placeChildren(
      this.list,
      [...rows.values()].map(({ root }) => root),
    );
    if (focused && this.list.contains(focused)) focused.firstElementChild.focus({ preventScroll: true });
    this.#drawNote(all.length, matching.length);
    this.select(this.#selected);
  }

  #drawNote(all, matching) {
    const { problem, isLoaded } = this.store;
    let note = null;
    if (!isLoaded) note = el("p", { class: "list-hint", text: "Loading…" });
    else if (problem && all === 0) note = this.#retryNote(problem);
    else if (all === 0) note = this.emptyNote;
    else if (matching === 0) note = el("p", { class: "list-hint", text: "No conversation with that name." });
    else if (matching > this.#limit)
      note = el("button", { type: "button", class: "link", text: "Show more", onclick: () => this.#more() });
    this.note.replaceChildren(...(note ? [note] : []));
  }

  #retryNote(problem) {
    const again = el("button", {
      type: "button",
      class: "button",
      text: "Try again",
      onclick: () => this.store.loadConversations(),
    });
    return el("div", { class: "list-hint" }, el("p", { text: problem.message }), again);
  }

  #more() {
    this.#limit += ROWS;
    this.#draw();
  }

  #row(conversation) {
    const { store } = this;
    const name = store.nameOf(conversation);
    const peer = store.peerOf(conversation);
    const typing = store.typing.in(conversation.id);
    const preview = typing.length > 0 ? `${store.userName(typing[0])} is typing…` : previewOf(store, conversation);
    const at = lastActivity(conversation);
    const time = at ? shortTime(at) : "";
    const picture = peer ? (store.user(peer) || {}).picture : undefined;
    const row = this.#rows.get(conversation.id) || newRow(conversation.id);
    const { unread } = conversation;
    const badge =
      unread > 0 &&
      el(
        "span",
        { class: "badge" },
        unread > 99 ? "99+" : number(unread),
        el("span", { class: "visually-hidden", text: " unread" }),
      );
    row.link.classList.toggle("is-unread", unread > 0);
    redraw(row.link, [name, preview, time, unread, typing.length > 0, picture], () => [
      avatar(peer || conversation.id, name, { picture, group: !peer }),
      el(
        "span",
        { class: "conversation-lines" },
        el(
          "span",
          { class: "conversation-line" },
          el("span", { class: "conversation-name", text: name }),
          el("time", { class: "conversation-time", datetime: at || undefined, text: time }),
        ),
        el(
          "span",
          { class: "conversation-line" },
          el("span", {
            class: typing.length > 0 ? "conversation-preview is-typing" : "conversation-preview",
            text: preview,
          }),
          badge,
        ),
      ),
    ]);
    return row;
  }
}

function newRow(id) {
  const link = el("a", { class: "conversation", href: `#/c/${id}` });
  return { link, root: el("li", { "data-id": id }, link) };
}

/** Puts children in order, moving only those that are not yet at their place. */
export function placeChildren(parent, children) {
  const wanted = new Set(children);
  for (const child of [...parent.children]) if (!wanted.has(child)) child.remove();
  let next = parent.firstElementChild;
  for (const child of children) {
    if (child === next) next = next.nextElementSibling;
    else parent.insertBefore(child, next);
  }
}

function markCurrent(link, isCurrent) {
  if (isCurrent) link.setAttribute("aria-current", "page");
  else link.removeAttribute("aria-current");
}

function emptyNote(newDirect, newGroup) {
  return el(
    "div",
    { class: "list-empty" },
    el("p", { class: "list-empty-title", text: "No conversations yet" }),
    el("p", { text: "Start a chat, or create a group." }),
    el("button", { type: "button", class: "button button-primary", text: "New chat", onclick: newDirect }),
    el("button", { type: "button", class: "button", text: "New group", onclick: newGroup }),
  );
}

/** What the row says under the name. */
function previewOf(store, conversation) {
  const message = conversation.last_message;
  if (!message) return conversation.kind === "group" ? "Group created" : "No messages yet";
  const isMine = message.sender === store.me.id;
  const who = isMine ? "You: " : conversation.kind === "group" ? `${store.userName(message.sender)}: ` : "";
  return who + contentOf(message);
}

/** A message in a few words. */
export function contentOf(message) {
  if (message.deleted) return "Message deleted";
  if (message.text) return message.text.replace(/\s+/gu, " ").slice(0, 140);
  if (message.attachment) return message.attachment.name;
  return { image: "Image", video: "Video", attachment: "Attachment" }[message.kind] || "Message";
}
