// The messages of one conversation that this tab holds: the newest pages, kept up by events.

import { pathOf, request, withQuery } from "/web/api.js";

const PAGE = 50;
/** More than this is let go at the old end when new messages come; scrolling up reads it again. */
const MAX_HELD = 1000;
/** Events that came while a page was under way, which may not show them yet; they are applied to it again. */
const MAX_EARLY = 1000;
/** What a message says; a deleted one says nothing. */
const CONTENT = ["text", "image", "video", "attachment", "mentions", "reactions", "reply_to"];

export class Thread {
  /** Messages and, between them, what happened to the group, in order of `seq`. */
  items = [];
  /** Whether there are older messages to be read. */
  hasOlder = true;
  isLoaded = false;
  isLoading = false;
  /** Why the last page could not be read. */
  problem = null;
  #byId = new Map();
  #early = [];
  /** Counts how often everything was forgotten: a page that was asked for before is not taken in after it. */
  #generation = 0;

  constructor(conversation) {
    this.conversation = conversation;
  }

  get(id) {
    return this.#byId.get(id);
  }

  /** Whether events are applied: to what is here, or to the page that is on its way. */
  get isFollowed() {
    return this.isLoaded || this.isLoading;
  }

  /** Whether everything after `seq` is held. */
  reaches(seq) {
    return this.isLoaded && (!this.hasOlder || this.items[0].seq <= seq);
  }

  /** Reads the next older page, or the newest one at first. Gives whether anything was read. */
  async loadOlder() {
    if (this.isLoading || !this.hasOlder) return false;
    this.isLoading = true;
    this.problem = null;
    const generation = this.#generation;
    const oldest = this.items.find((item) => !item.notice);
    const parameters = { limit: PAGE, before_seq: this.isLoaded && oldest ? oldest.seq : undefined };
    let page = null;
    let failure = null;
    try {
      page = await request("GET", withQuery(pathOf(this.conversation, "messages"), parameters));
    } catch (problem) {
      failure = problem;
    }
    if (generation !== this.#generation) return false;
    if (page) this.#take(page);
    this.problem = failure;
    this.isLoading = false;
    this.#early = [];
    return page !== null;
  }

  #take(page) {
    for (const message of page.items) this.put(message);
    for (const frame of this.#early) this.#change(frame);
    this.hasOlder = page.next !== null && page.items.length > 0;
    this.isLoaded = true;
  }

  /** Forgets everything, also what is on its way: what follows is read anew. */
  clear() {
    this.#generation += 1;
    this.items = [];
    this.#byId.clear();
    this.#early = [];
    this.hasOlder = true;
    this.isLoaded = false;
    this.isLoading = false;
  }

  /** Puts a message at its place, or replaces it by a state that is not older. */
  put(message) {
    const known = this.#byId.get(message.id);
    if (known) {
      if (message.updated_at < known.updated_at) return;
      for (const part of CONTENT) delete known[part];
      Object.assign(known, message);
      return;
    }
    this.#byId.set(message.id, message);
    this.#insert(message);
  }

  #insert(item) {
    let at = this.items.length;
    while (at > 0 && this.items[at - 1].seq > item.seq) at -= 1;
    this.items.splice(at, 0, item);
  }

  /** Lets the oldest messages go when there are too many. */
  trim() {
    if (this.items.length <= MAX_HELD) return;
    for (const item of this.items.splice(0, this.items.length - MAX_HELD)) this.#byId.delete(item.id);
    this.hasOlder = true;
  }

  /** Takes an event of the conversation into account. */
  apply(frame) {
    if (this.isLoading && this.#early.length < MAX_EARLY) this.#early.push(frame);
    this.#change(frame);
  }

  #change({ seq, at, event }) {
    if (event.kind === "message") {
      this.put(messageOf(this.conversation, seq, at, event));
    } else if (event.kind === "edit" || event.kind === "delete") {
      changeMessage(this.#byId.get(event.message), at, event);
    } else if (["member_added", "member_removed", "group_updated"].includes(event.kind)) {
      const notice = { id: event.id, seq, created_at: at, updated_at: at, notice: event };
      if (!this.#byId.has(notice.id)) {
        this.#byId.set(notice.id, notice);
        this.#insert(notice);
      }
    }
  }
}

/** The message that an event sends. */
export function messageOf(conversation, seq, at, event) {
  const { image, video, attachment, text = "" } = event;
  const kind = (image && "image") || (video && "video") || (attachment && "attachment") || "text";
  return {
    ...event,
    conversation,
    seq,
    kind,
    text,
    created_at: event.sent_at || at,
    updated_at: event.sent_at || at,
    deleted: false,
  };
}

/** Edits or deletes a message as an event says, unless its state is newer already. */
export function changeMessage(message, at, event) {
  if (!message || message.deleted || at < message.updated_at) return;
  message.updated_at = at;
  if (event.kind === "edit") {
    message.text = event.text;
    return;
  }
  message.deleted = true;
  for (const part of CONTENT) delete message[part];
}
