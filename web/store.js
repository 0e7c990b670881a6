// What this tab knows: conversations, users, messages; kept whole by positions and `prev`.

import { pathOf, request, withQuery } from "/web/api.js";
import { complete, lastActivity } from "/web/summary.js";
import { Typing } from "/web/typing.js";
import { Marks } from "/web/marks.js";
import { Thread, changeMessage, messageOf } from "/web/thread.js";

/** A direct conversation that has just been opened and holds nothing yet stands first. */
const NEVER = "9999";
const LIST_PAGE = 100;
const MAX_LIST_PAGES = 5;
const EVENTS_PAGE = 100;
/** A gap of more pages is not read event by event: the newest messages are read instead. */
const MAX_REPAIR_PAGES = 20;
/** Frames held back while a gap is read; beyond it they are dropped and the gap is read once more. */
const MAX_HELD_FRAMES = 1000;
/** Conversations whose messages are kept after they were left. */
const MAX_THREADS = 20;
/** Users that are remembered; others are asked for again. */
const MAX_USERS = 5000;
const MAX_MEETINGS = 3;
const MEET_AGAIN_MS = 1500;
const REPAIR_AGAIN_MS = 5000;
/** When to ask again for what the server could not tell of a conversation. */
const COMPLETE_AGAIN_MS = 10_000;

/**
 * Emits `conversations` (the list changed), `thread` (messages of a conversation), `members`, `typing`, `users`,
 * `message` (a message was sent, by anybody) and `left` (no member any more); `detail` is the conversation's id.
 */
export class Store extends EventTarget {
  conversations = new Map();
  users = new Map();
  isLoaded = false;
  problem = null;
  #threads = new Map();
  #fetching = new Map();
  #repairs = new Map();
  #marks = new Marks();
  #incomplete = new Set();
  #isClosed = false;
  #loadingAgain;
  typing = new Typing((conversation) => this.#emit("typing", conversation));

  constructor(me) {
    super();
    this.me = me;
    this.users.set(me.id, me);
  }

  /** Ends what would go on by itself. */
  close() {
    this.#isClosed = true;
    this.#marks.close();
  }

  #emit(name, detail) {
    this.dispatchEvent(new CustomEvent(name, { detail }));
  }

  // Conversations.

  /** All conversations, latest activity first. */
  sorted() {
    const place = (conversation) => lastActivity(conversation) || NEVER;
    return [...this.conversations.values()].sort((one, other) => (place(one) < place(other) ? 1 : -1));
  }

  /** Messages that were not read, in all conversations. */
  unread() {
    return [...this.conversations.values()].reduce((sum, { unread }) => sum + unread, 0);
  }

  /** Reads the list and takes over what is newer than what is known. */
  async loadConversations() {
    try {
      const seen = new Set();
      let cursor;
      for (let page = 0; page < MAX_LIST_PAGES; page += 1) {
        const answer = await request("GET", withQuery("/v1/conversations", { limit: LIST_PAGE, cursor }));
        for (const conversation of answer.items) {
          seen.add(conversation.id);
          this.#take(conversation);
        }
        cursor = answer.next;
        if (!cursor) break;
      }
      if (!cursor) this.#forgetOthers(seen);
      this.problem = null;
    } catch (problem) {
      this.problem = problem;
      if (problem.status === 503) await this.#loadGroups();
    }
    this.isLoaded = true;
    this.#emit("conversations");
  }

  /** While the server cannot reach its store, it lists groups alone. The whole list is asked for again. */
  async #loadGroups() {
    clearTimeout(this.#loadingAgain);
    this.#loadingAgain = setTimeout(() => this.#isClosed || this.loadConversations(), COMPLETE_AGAIN_MS);
    const path = withQuery("/v1/conversations", { kind: "group", limit: LIST_PAGE });
    const answer = await request("GET", path).catch(() => ({ items: [] }));
    for (const conversation of answer.items) this.#take(conversation);
  }

  /** What the whole list does not name has gone; a direct conversation without messages is in no list. */
  #forgetOthers(seen) {
    for (const conversation of [...this.conversations.values()]) {
      if (conversation.kind === "group" && !seen.has(conversation.id) && !this.#fetching.has(conversation.id)) {
        this.#forget(conversation.id);
      }
    }
  }

  /** Takes a conversation as the server tells it; gives it as it is held. */
  #take(fetched) {
    const held = this.conversations.get(fetched.id);
    if (fetched.unread === null) this.#completeLater(fetched.id);
    const { peer, ...known } = complete(fetched, held);
    const { position } = known;
    const fresh = { ...known, peer, summary_seq: position.seq };
    if (peer && !this.users.get(peer.id)) this.addUsers([peer]);
    if (!held) {
      this.conversations.set(fresh.id, fresh);
      this.#nameIt(fresh);
      return fresh;
    }
    const isAhead = held.position.epoch === position.epoch && held.summary_seq > position.seq;
    const thread = this.#threads.get(fresh.id);
    // Where messages are held, only events that were applied to them move the position.
    if (thread && thread.isFollowed && held.position.epoch === position.epoch) fresh.position = held.position;
    else if (thread && thread.isFollowed) this.#reread(thread);
    const { last_message, unread, updated_at, summary_seq, position: heldPosition } = held;
    const ahead = { last_message, unread, updated_at, summary_seq, position: heldPosition };
    Object.assign(held, fresh, isAhead ? ahead : {});
    return held;
  }

  /** Asks again for what the server could not tell. */
  #completeLater(id) {
    if (this.#incomplete.has(id)) return;
    this.#incomplete.add(id);
    setTimeout(() => {
      this.#incomplete.delete(id);
      if (this.conversations.has(id) && !this.#isClosed) this.fetchConversation(id);
    }, COMPLETE_AGAIN_MS);
  }

  #nameIt(conversation) {
    const peer = this.peerOf(conversation);
    if (peer) this.user(peer);
    if (conversation.last_message) this.user(conversation.last_message.sender);
  }

  /** Takes in a conversation that the server just told of. */
  adopt(conversation) {
    const held = this.#take(conversation);
    this.#emit("conversations", held.id);
    return held;
  }

  /** Reads one conversation; gives it, or `null` when there is none for us. */
  fetchConversation(id) {
    if (!this.#fetching.has(id)) {
      const reading = request("GET", pathOf(id))
        .then((conversation) => this.adopt(conversation))
        .catch((problem) => {
          if (problem.status === 404) this.#forget(id);
          return null;
        })
        .finally(() => this.#fetching.delete(id));
      this.#fetching.set(id, reading);
    }
    return this.#fetching.get(id);
  }

  /** We are no member any more, by our own doing. */
  leave(id) {
    this.#forget(id);
  }

  #forget(id) {
    const conversation = this.conversations.get(id);
    if (!conversation) return;
    this.conversations.delete(id);
    this.#threads.delete(id);
    this.#repairs.delete(id);
    this.#emit("left", conversation);
    this.#emit("conversations", id);
  }

  /** The other one of a direct conversation (oneself in notes to oneself); `null` for a group. */
  peerOf(conversation) {
    if (conversation.kind !== "direct") return null;
    const [first, second] = conversation.id.split("~");
    return first === this.me.id ? second : first;
  }

  /** What a conversation is called here. */
  nameOf(conversation) {
    const peer = this.peerOf(conversation);
    if (!peer) return conversation.name || "Unnamed group";
    return peer === this.me.id ? "Notes to yourself" : this.userName(peer);
  }

  // Users.

  /** A user as far as known; an unknown one is asked for, and `users` emitted when the answer is there. */
  user(id) {
    const known = this.users.get(id);
    if (known !== undefined) return known;
    this.users.set(id, null);
    request("GET", `/v1/users/${id}`).then(
      (user) => this.addUsers([user]),
      () => setTimeout(() => this.users.get(id) === null && this.users.delete(id), 10_000),
    );
    return null;
  }

  /** Takes in users that came with another answer. */
  addUsers(users) {
    for (const user of users) this.users.set(user.id, user);
    for (const id of this.users.keys()) {
      if (this.users.size <= MAX_USERS) break;
      if (id !== this.me.id) this.users.delete(id);
    }
    this.#emit("users");
  }

  userName(id) {
    const user = this.user(id);
    if (!user) return "…";
    return user.name || user.username;
  }

  // Messages.

  /** The messages of a conversation, made when missing. Those that were not looked at for long are let go. */
  thread(id) {
    const thread = this.#threads.get(id) || new Thread(id);
    this.#threads.delete(id);
    this.#threads.set(id, thread);
    if (this.#threads.size > MAX_THREADS) this.#threads.delete(this.#threads.keys().next().value);
    return thread;
  }

  /** Reads an older page, or the newest one at first. */
  async loadOlder(id) {
    const thread = this.thread(id);
    if (!thread.isFollowed) {
      const conversation = this.conversations.get(id);
      // Events up to here are in the page that is read next; later ones are applied to it.
      if (conversation)
        conversation.position = {
          ...conversation.position,
          seq: Math.max(conversation.position.seq, conversation.summary_seq),
        };
    }
    const reading = thread.loadOlder();
    this.#emit("thread", id);
    await reading;
    if (thread.problem && thread.problem.status === 404) this.#forget(id);
    this.#emit("thread", id);
  }

  #reread(thread) {
    thread.clear();
    this.loadOlder(thread.conversation);
  }

  /** Puts a message into its conversation, as an answer told it. */
  putMessage(message) {
    const conversation = this.conversations.get(message.conversation);
    if (conversation && message.seq >= (conversation.last_message ? conversation.last_message.seq : 0)) {
      conversation.last_message = { ...message };
      this.#emit("conversations", conversation.id);
    }
    const thread = this.#threads.get(message.conversation);
    if (!thread || !thread.isLoaded) return;
    thread.put(message);
    this.#emit("thread", message.conversation);
  }

  /** Where to resume: the positions of the conversations whose messages are held. */
  positions() {
    const held = [...this.#threads.values()].filter((thread) => thread.isFollowed);
    const known = held.map(({ conversation }) => this.conversations.get(conversation));
    const placed = known.filter((conversation) => conversation && conversation.position.epoch);
    return Object.fromEntries(placed.map(({ id, position }) => [id, position]));
  }

  /** Reads held messages anew where the server could not tell all that happened; without a conversation, everywhere. */
  reread(incomplete) {
    const named = new Set(incomplete.map(({ conversation }) => conversation));
    const isNamed = (conversation) => named.has(undefined) || named.has(conversation);
    const isConcerned = (thread) => thread.isFollowed && isNamed(thread.conversation);
    for (const thread of [...this.#threads.values()].filter(isConcerned)) this.#reread(thread);
  }

  // Live.

  /** Takes in a frame of the live connection. */
  receive(frame) {
    if (frame.type === "event") this.#event(frame);
    else if (frame.type === "typing" && frame.user !== this.me.id) this.typing.begin(frame.conversation, frame.user);
    else if (frame.type === "read" && (!frame.user || frame.user === this.me.id))
      this.#wasRead(frame.conversation, frame.seq);
    else if (frame.type === "removed") this.#forget(frame.conversation);
  }

  #event(frame) {
    if (frame.event.kind === "message") this.#emit("message", frame.at);
    const conversation = this.conversations.get(frame.conversation);
    if (!conversation) {
      this.#meet(frame.conversation, MAX_MEETINGS);
      return;
    }
    const repair = this.#repairs.get(conversation.id);
    if (repair) {
      repair.frames.push(frame);
      if (repair.frames.length > MAX_HELD_FRAMES) repair.frames.length = 0;
      return;
    }
    const { epoch, seq } = conversation.position;
    if (epoch !== frame.epoch) this.#repair(conversation, true);
    else if (frame.prev > seq) this.#repair(conversation, false, frame);
    else if (frame.seq > seq) this.#apply(conversation, frame);
  }

  /** A conversation that is new to us. The server may need a moment to know that we are in it, wherever we ask. */
  async #meet(id, attempts) {
    const conversation = await this.fetchConversation(id);
    if (conversation || attempts <= 1 || this.#isClosed) return;
    setTimeout(() => this.conversations.has(id) || this.#meet(id, attempts - 1), MEET_AGAIN_MS);
  }

  #apply(conversation, frame) {
    conversation.position = { epoch: frame.epoch, seq: frame.seq };
    const thread = this.#threads.get(conversation.id);
    if (thread && thread.isFollowed) {
      thread.apply(frame);
      this.#emit("thread", conversation.id);
    }
    if (frame.seq > conversation.summary_seq) this.#summarise(conversation, frame);
  }

  /** Keeps the row of the list: last message, unread, members, name. */
  #summarise(conversation, { seq, at, event }) {
    conversation.summary_seq = seq;
    if (event.kind === "message") {
      conversation.last_message = messageOf(conversation.id, seq, at, event);
      if (event.sender !== this.me.id) conversation.unread += 1;
      this.typing.end(conversation.id, event.sender);
      this.user(event.sender);
    } else if (event.kind === "edit" || event.kind === "delete") {
      const last = conversation.last_message;
      if (last && last.id === event.message) changeMessage(last, at, event);
    } else if (event.kind === "group_updated") {
      conversation.name = event.name;
    } else if (event.kind === "member_added" || event.kind === "member_removed") {
      this.#membersChanged(conversation, event);
    }
    this.#emit("conversations", conversation.id);
  }

  #membersChanged(conversation, event) {
    if (event.kind === "member_removed" && event.user === this.me.id) {
      this.#forget(conversation.id);
      return;
    }
    conversation.members_count += event.kind === "member_added" ? 1 : -1;
    // An owner who leaves is followed by another: the record tells whom.
    if (event.kind === "member_removed") this.fetchConversation(conversation.id);
    this.#emit("members", conversation.id);
  }

  /** Reads what lies between the last applied event and now, while frames are held back. */
  async #repair(conversation, isNewEpoch, frame) {
    const repair = { frames: frame ? [frame] : [] };
    this.#repairs.set(conversation.id, repair);
    const thread = this.#threads.get(conversation.id);
    const isHeld = thread && thread.isFollowed && !isNewEpoch;
    const isWhole = isHeld && (await this.#readEvents(conversation).catch(() => false));
    if (!isWhole) {
      const fetched = await this.fetchConversation(conversation.id);
      if (!fetched) {
        this.#repairLater(conversation, isNewEpoch);
        return;
      }
      conversation.position = { ...conversation.position, seq: conversation.summary_seq };
      if (thread && thread.isFollowed) this.#reread(thread);
    }
    this.#repairs.delete(conversation.id);
    for (const held of repair.frames) this.#event(held);
  }

  /** Nothing can be read now. Frames that come meanwhile are let go, for they will be read too. */
  #repairLater(conversation, isNewEpoch) {
    this.#repairs.set(conversation.id, { frames: { length: 0, push() {} } });
    setTimeout(() => {
      this.#repairs.delete(conversation.id);
      const isKnown = this.conversations.get(conversation.id) === conversation;
      if (isKnown && !this.#isClosed) this.#repair(conversation, isNewEpoch);
    }, REPAIR_AGAIN_MS);
  }

  /** Applies events up to the newest. Gives whether all were there. */
  async #readEvents(conversation) {
    for (let page = 0; page < MAX_REPAIR_PAGES; page += 1) {
      const { epoch, seq } = conversation.position;
      const path = withQuery(pathOf(conversation.id, "events"), { after_seq: seq, epoch, limit: EVENTS_PAGE });
      const answer = await request("GET", path);
      for (const frame of answer.items) {
        if (frame.prev > conversation.position.seq) return false;
        if (frame.seq > conversation.position.seq) this.#apply(conversation, frame);
      }
      if (answer.complete) return true;
      if (answer.items.length === 0) return false;
    }
    return false;
  }

  // Read marks.

  #wasRead(id, seq) {
    const conversation = this.conversations.get(id);
    if (!conversation || seq < ((conversation.read && conversation.read.seq) || 0)) return;
    conversation.read = { seq };
    if (seq >= conversation.summary_seq || !conversation.last_message || seq >= conversation.last_message.seq) {
      conversation.unread = 0;
      conversation.mentions = 0;
    } else {
      this.fetchConversation(id);
    }
    this.#emit("conversations", id);
  }

  /** Everything that is here has been seen: clears the count and tells the server. */
  markRead(id) {
    const conversation = this.conversations.get(id);
    if (!conversation || !conversation.last_message) return;
    const { seq } = conversation.last_message;
    const read = (conversation.read && conversation.read.seq) || 0;
    if (seq <= read && conversation.unread === 0) return;
    this.#wasRead(id, seq);
    this.#marks.tell(id, seq);
  }
}
