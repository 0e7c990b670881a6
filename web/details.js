// Who is in a conversation, and what may be done about it.

import { pathOf, request, withQuery } from "/web/api.js";
import { avatar, batched, confirm, el, icon, iconButton, redraw, toast } from "/web/dom.js";
import { counted } from "/web/format.js";
import { inviteDialog, renameDialog } from "/web/people.js";

const PAGE = 50;

export class DetailsView {
  id = null;
  #members = [];
  #cursor = null;
  #problem = null;
  #asked = 0;

  constructor(store, { go }) {
    this.store = store;
    this.go = go;
    this.body = el("div", { class: "details-body" });
    this.root = el("aside", { class: "details", "aria-label": "Details", hidden: true }, this.body);
    const draw = batched(() => this.id && this.#draw());
    store.addEventListener("users", draw);
    store.addEventListener("conversations", ({ detail }) => (!detail || detail === this.id) && draw());
    store.addEventListener("members", ({ detail }) => detail === this.id && this.#reload());
  }

  /** Shows the details of a conversation, or nothing for `null`. */
  show(id) {
    this.root.hidden = id === null;
    if (id === this.id) return;
    this.id = id;
    this.#members = [];
    this.#cursor = null;
    if (id !== null) this.#reload();
  }

  /** Reads as many members anew as are shown. */
  async #reload() {
    const conversation = this.store.conversations.get(this.id);
    if (conversation && conversation.kind === "direct") {
      this.#draw();
      return;
    }
    const limit = Math.min(100, Math.max(PAGE, this.#members.length));
    await this.#read({ limit }, (items) => items);
  }

  async #read(parameters, join) {
    this.#asked += 1;
    const turn = this.#asked;
    try {
      const page = await request("GET", withQuery(pathOf(this.id, "members"), parameters));
      if (turn !== this.#asked) return;
      const members = page.items.map((item) => ({ user: item.user || item, role: item.role }));
      this.store.addUsers(members.map(({ user }) => user));
      this.#members = join(members);
      this.#cursor = page.next;
      this.#problem = null;
    } catch (problem) {
      if (turn !== this.#asked) return;
      this.#problem = problem;
    }
    this.#draw();
  }

  #more() {
    this.#read({ limit: PAGE, cursor: this.#cursor }, (items) => [...this.#members, ...items]);
  }

  #draw() {
    const conversation = this.store.conversations.get(this.id);
    if (!conversation) {
      redraw(this.body, [], () => []);
      return;
    }
    const peer = this.store.peerOf(conversation);
    const { id, name, role, members_count } = conversation;
    const signature = [id, name, role, members_count, this.#members, this.#cursor, this.#problem?.message];
    redraw(this.body, [...signature, peer && this.store.user(peer)], () => [
      el(
        "header",
        { class: "details-head" },
        el("h2", { text: peer ? "About this chat" : "About this group" }),
        el(
          "a",
          { class: "icon-button", href: `#/c/${id}`, "aria-label": "Close details", title: "Close" },
          icon("close"),
        ),
      ),
      this.#portrait(conversation, peer),
      ...(peer ? [] : this.#groupParts(conversation)),
    ]);
  }

  #portrait(conversation, peer) {
    const name = this.store.nameOf(conversation);
    const user = peer && this.store.user(peer);
    const under = peer
      ? user && !user.deleted && `@${user.username}`
      : counted(conversation.members_count, "member", "members");
    return el(
      "div",
      { class: "portrait" },
      avatar(peer || conversation.id, name, { picture: user ? user.picture : undefined, group: !peer }),
      el("p", { class: "portrait-name", text: name }),
      under && el("p", { class: "portrait-under", text: under }),
    );
  }

  #groupParts(conversation) {
    const isOwner = conversation.role ? conversation.role === "owner" : conversation.owner === this.store.me.id;
    const known = new Set(this.#members.map(({ user }) => user.id));
    const wide = (text, iconName, onclick, extra = "") =>
      el("button", { type: "button", class: `button button-wide ${extra}`, onclick }, icon(iconName), text);
    return [
      isOwner &&
        wide(
          "Invite people",
          "person",
          () => inviteDialog(this.store, conversation, (id) => known.has(id)),
          "button-primary",
        ),
      isOwner && wide("Rename group", "edit", () => renameDialog(this.store, conversation)),
      el("h3", { text: "Members" }),
      this.#problem && el("p", { class: "form-problem", role: "alert", text: this.#problem.message }),
      el("ul", { class: "members" }, ...this.#members.map((member) => this.#member(conversation, member, isOwner))),
      this.#cursor && el("button", { type: "button", class: "link", text: "Show more", onclick: () => this.#more() }),
      el(
        "div",
        { class: "details-end" },
        wide("Leave group", "leave", () => this.#leave(conversation), "button-quiet"),
        isOwner && wide("Delete group", "trash", () => this.#deleteGroup(conversation), "button-quiet-danger"),
      ),
    ].filter(Boolean);
  }

  #member(conversation, { user, role }, isOwner) {
    const isMe = user.id === this.store.me.id;
    const name = user.name || user.username;
    return el(
      "li",
      { class: "member" },
      avatar(user.id, name, user),
      el(
        "span",
        { class: "person-names" },
        el("span", { class: "person-name", text: isMe ? `${name} (you)` : name }),
        el("span", { class: "person-username", text: `@${user.username}` }),
      ),
      role === "owner" && el("span", { class: "tag", text: "owner" }),
      isOwner && !isMe && iconButton("close", `Remove ${name}`, () => this.#remove(conversation, user, name)),
    );
  }

  async #attempt(run) {
    try {
      await run();
    } catch (problem) {
      toast(problem.message);
    }
  }

  async #remove(conversation, user, name) {
    if (!(await confirm(`Remove ${name}?`, "They will no longer see this group.", "Remove"))) return;
    await this.#attempt(async () => {
      await request("DELETE", pathOf(conversation.id, "members", user.id));
      this.store.fetchConversation(conversation.id);
      await this.#reload();
    });
  }

  async #leave(conversation) {
    if (!(await confirm("Leave group?", `You will no longer see “${this.store.nameOf(conversation)}”.`, "Leave")))
      return;
    await this.#attempt(async () => {
      await request("DELETE", pathOf(conversation.id, "members", "me"));
      this.store.leave(conversation.id);
    });
  }

  async #deleteGroup(conversation) {
    if (!(await confirm("Delete group?", "It will be deleted for all members.", "Delete"))) return;
    await this.#attempt(async () => {
      await request("DELETE", pathOf(conversation.id));
      this.store.leave(conversation.id);
    });
  }
}
