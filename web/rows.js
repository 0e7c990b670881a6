// The rows of a conversation: messages, days, what happened to the group, and the mark before what is new.

import { avatar, el, icon, linked } from "/web/dom.js";
import { attachmentOf } from "/web/files.js";
import { clock, dayKey, dayLabel, fullTime } from "/web/format.js";
import { contentOf } from "/web/list.js";

/** Messages of one sender within this time stand together. */
const TOGETHER_MS = 5 * 60 * 1000;

/**
 * What is to be seen, in order: each row with a key that stays, a signature that changes when it must be drawn
 * anew, and `make` to draw it. `view` is `{store, thread, pending, conversation, newAfter, act}`.
 */
export function rowsOf(view) {
  const items = [...view.thread.items, ...waiting(view)];
  const rows = [];
  let day = "";
  let isMarked = false;
  items.forEach((item, at) => {
    const key = dayKey(item.created_at);
    const startsDay = key !== day;
    if (startsDay) rows.push(dayRow(key, item.created_at));
    day = key;
    if (!isMarked && isNew(view, item)) {
      isMarked = true;
      rows.push(newRow(item.id));
    }
    rows.push(item.notice ? noticeRow(view, item) : messageRow(view, items, at));
  });
  return rows;
}

/** What is on its way, less what has arrived already. */
function waiting({ store, thread, pending }) {
  return pending
    .filter(({ id }) => !thread.get(id))
    .map((entry) => ({
      id: entry.id,
      sender: store.me.id,
      text: entry.text,
      attachment: entry.attachment,
      created_at: entry.created_at,
      updated_at: entry.created_at,
      entry,
    }));
}

function isNew({ newAfter, store, thread }, item) {
  return (
    newAfter !== null && thread.reaches(newAfter) && item.seq > newAfter && !item.notice && item.sender !== store.me.id
  );
}

function dayRow(key, at) {
  const label = dayLabel(at);
  return { key: `day ${key}`, signature: label, make: () => el("li", { class: "day" }, el("span", { text: label })) };
}

function newRow(id) {
  return { key: `new ${id}`, signature: "", make: () => el("li", { class: "new-mark" }, el("span", { text: "New" })) };
}

function noticeRow({ store }, item) {
  const { notice } = item;
  const who = (id) => (id === store.me.id ? "You" : store.userName(id));
  const text = {
    member_added: () =>
      notice.sender === notice.user
        ? `${who(notice.user)} joined`
        : `${who(notice.sender)} added ${whom(store, notice.user)}`,
    member_removed: () =>
      notice.sender === notice.user
        ? `${who(notice.user)} left`
        : `${who(notice.sender)} removed ${whom(store, notice.user)}`,
    group_updated: () => `${who(notice.sender)} named the group “${notice.name}”`,
  }[notice.kind]();
  return {
    key: item.id,
    signature: text,
    make: () => el("li", { class: "notice", title: fullTime(item.created_at), text }),
  };
}

function whom(store, id) {
  return id === store.me.id ? "you" : store.userName(id);
}

function stand(one, other) {
  if (!one || !other || one.notice || other.notice || one.sender !== other.sender) return false;
  if (dayKey(one.created_at) !== dayKey(other.created_at)) return false;
  return Math.abs(new Date(one.created_at) - new Date(other.created_at)) < TOGETHER_MS;
}

function messageRow(view, items, at) {
  const { store, conversation, thread } = view;
  const message = items[at];
  const isOwn = message.sender === store.me.id;
  const sender = store.user(message.sender);
  const problem = message.entry && message.entry.problem;
  const replied = message.reply_to && thread.get(message.reply_to);
  const shape = {
    isOwn,
    isFirst: !stand(items[at - 1], message) || isNewBetween(view, items[at - 1], message),
    isLast: !stand(message, items[at + 1]),
    name: !isOwn && conversation.kind === "group" ? store.userName(message.sender) : "",
    senderName: store.userName(message.sender),
    picture: sender ? sender.picture : undefined,
    isEdited: !message.deleted && !message.entry && message.updated_at > message.created_at,
    state: message.entry ? (problem ? "failed" : "sending") : "sent",
    problem: problem ? problem.message : "",
    quote: replied ? contentOf(replied) : "",
  };
  const signature = JSON.stringify([shape, message.text, message.deleted, message.kind, message.created_at]);
  return { key: message.id, signature, make: () => drawMessage(message, shape, view) };
}

function isNewBetween(view, before, message) {
  return isNew(view, message) && Boolean(before) && !isNew(view, before);
}

function drawMessage(message, shape, { act }) {
  const flags = [
    "message",
    shape.isOwn ? "is-own" : "is-other",
    shape.isFirst && "is-first",
    shape.isLast && "is-last",
    message.deleted && "is-deleted",
    `is-${shape.state}`,
  ];
  const actions = shape.isOwn && shape.state === "sent" && !message.deleted ? ownActions(message, act) : null;
  // What can be done with a message shows when it is pointed at, touched or reached by the keyboard.
  const focus = actions && { tabindex: 0, role: "group", "aria-label": `Your message: ${contentOf(message)}` };
  const bubble = el("div", { class: "bubble", ...focus }, ...content(message, shape), meta(message, shape));
  return el(
    "li",
    { class: flags.filter(Boolean).join(" "), "data-id": message.id },
    !shape.isOwn &&
      el("span", { class: "message-face" }, shape.isLast && avatar(message.sender, shape.senderName, shape)),
    el(
      "div",
      { class: "message-body" },
      shape.isFirst && shape.name && el("span", { class: "message-sender", text: shape.name }),
      el("div", { class: "message-line" }, bubble, actions),
      shape.state === "failed" && failure(message, shape, act),
    ),
  );
}

function content(message, shape) {
  if (message.deleted) return [el("span", { class: "message-text", text: "Message deleted" })];
  return [
    shape.quote && el("span", { class: "message-quote", text: shape.quote }),
    message.image && imageOf(message.image),
    message.video && linkOf(message.video.url, `Video on ${message.video.source}`),
    message.attachment && attachmentOf(message.attachment),
    message.text && el("span", { class: "message-text" }, linked(message.text)),
  ];
}

function imageOf({ url, width, height }) {
  if (!/^https:/iu.test(url)) return linkOf(url, "Image");
  return el("img", {
    class: "message-image",
    src: url,
    width,
    height,
    alt: "Image",
    loading: "lazy",
    referrerpolicy: "no-referrer",
  });
}

/** A link for what is shown elsewhere; an address of another scheme stays text. */
function linkOf(url, label) {
  if (!/^https?:/iu.test(url)) return el("span", { text: `${label}: ${url}` });
  return el("a", { href: url, target: "_blank", rel: "noopener noreferrer", text: label });
}

function meta(message, shape) {
  const words = [shape.isEdited && "edited", shape.state === "sending" && "sending…"].filter(Boolean);
  const time = el("time", {
    datetime: message.created_at,
    title: fullTime(message.created_at),
    text: clock(message.created_at),
  });
  return el("span", { class: "message-meta" }, words.length > 0 && `${words.join(" · ")} · `, time);
}

function ownActions(message, act) {
  const button = (name, label, run) =>
    el(
      "button",
      { type: "button", class: "message-action", "aria-label": label, title: label, onclick: run },
      icon(name),
    );
  return el(
    "div",
    { class: "message-actions", role: "group", "aria-label": "Edit or delete" },
    message.text && button("edit", "Edit", () => act.edit(message)),
    button("trash", "Delete", () => act.remove(message)),
  );
}

function failure(message, shape, act) {
  return el(
    "div",
    { class: "message-failure", role: "alert" },
    el("span", { text: `Not sent: ${shape.problem}` }),
    el("button", { type: "button", class: "link", text: "Try again", onclick: () => act.retry(message.entry) }),
    el("button", { type: "button", class: "link", text: "Discard", onclick: () => act.discard(message.entry) }),
  );
}
