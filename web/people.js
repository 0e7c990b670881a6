// Finding users, and the dialogs that begin with them: a direct chat, a group, an invitation.

import { pathOf, request, withQuery } from "/web/api.js";
import { avatar, debounced, dialog, el } from "/web/dom.js";
import { newId } from "/web/format.js";

const FOUND = 30;

/** A search field and its results. `onPick(user)` is called for each choice; `isTaken(user)` marks those that are no choice any more. */
function userSearch(store, onPick, isTaken) {
  const input = el("input", {
    type: "search",
    placeholder: "Search by name or user name",
    "aria-label": "Search users",
    autocomplete: "off",
    autocapitalize: "none",
    spellcheck: "false",
  });
  const list = el("ul", { class: "people", "aria-label": "Users found" });
  const note = el("p", { class: "people-note", role: "status" });
  let asked = 0;
  let found = [];
  const draw = () =>
    list.replaceChildren(...found.map((user) => el("li", {}, userButton(user, isTaken(user), onPick))));
  const search = async () => {
    asked += 1;
    const turn = asked;
    const query = input.value.trim().replace(/^@/, "");
    try {
      const { items } = await request("GET", withQuery("/v1/users", { query, limit: FOUND }));
      if (turn !== asked) return;
      store.addUsers(items);
      found = items.filter(({ id }) => id !== store.me.id);
      note.textContent = found.length > 0 ? "" : noneFound(query);
    } catch (problem) {
      if (turn !== asked) return;
      found = [];
      note.textContent = problem.message;
    }
    draw();
  };
  input.addEventListener("input", debounced(200, search));
  input.addEventListener("keydown", (event) => {
    const first = list.querySelector("button:not(:disabled)");
    if (event.key === "ArrowDown") focusRow(event, first);
    if (event.key !== "Enter") return;
    event.preventDefault();
    if (first && input.value.trim() !== "") first.click();
  });
  list.addEventListener("keydown", (event) => moveInList(event, list, input));
  search();
  return { root: el("div", { class: "people-search" }, input, note, list), input, draw };
}

function noneFound(query) {
  return query ? `Nobody is called “${query}”.` : "Nobody else is here yet. Ask somebody to sign up!";
}

function focusRow(event, row) {
  if (!row) return;
  event.preventDefault();
  row.focus();
}

function moveInList(event, list, input) {
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  const rows = [...list.querySelectorAll("button:not(:disabled)")];
  const at = rows.indexOf(document.activeElement) + (event.key === "ArrowDown" ? 1 : -1);
  focusRow(event, at < 0 ? input : rows[at]);
}

function userButton(user, taken, onPick) {
  const name = user.name || user.username;
  return el(
    "button",
    {
      type: "button",
      class: "person",
      disabled: taken === "member",
      "aria-pressed": taken === "chosen" ? "true" : undefined,
      onclick: () => onPick(user),
    },
    avatar(user.id, name, user),
    el(
      "span",
      { class: "person-names" },
      el("span", { class: "person-name", text: name }),
      el("span", { class: "person-username", text: `@${user.username}` }),
    ),
    taken && el("span", { class: "tag", text: taken }),
  );
}

/** A search whose choices are gathered as removable tags. Gives the element and the chosen users. */
function userChoice(store, isMember) {
  const chosen = new Map();
  const chips = el("ul", { class: "chips", "aria-label": "Chosen" });
  const toggle = (user) => {
    if (!chosen.delete(user.id)) chosen.set(user.id, user);
    draw();
  };
  const taken = ({ id }) => (isMember(id) && "member") || (chosen.has(id) && "chosen");
  const search = userSearch(store, toggle, taken);
  const draw = () => {
    chips.replaceChildren(...[...chosen.values()].map((user) => el("li", {}, chip(user, toggle))));
    search.draw();
    search.input.focus();
  };
  return { root: el("div", {}, chips, search.root), chosen, focus: () => search.input.focus() };
}

function chip(user, onRemove) {
  const name = user.name || user.username;
  return el("button", {
    type: "button",
    class: "chip",
    "aria-label": `Remove ${name}`,
    text: name,
    onclick: () => onRemove(user),
  });
}

/** A form in a dialog: `run` does the work, and what goes wrong is said above the buttons. */
function formDialog(title, action, children, run) {
  const problem = el("p", { class: "form-problem", role: "alert", hidden: true });
  const submit = el("button", { type: "submit", class: "button button-primary", text: action });
  const onsubmit = async (event) => {
    event.preventDefault();
    submit.disabled = true;
    problem.hidden = true;
    try {
      await run();
      node.close();
    } catch (failure) {
      problem.textContent = failure.message;
      problem.hidden = false;
    } finally {
      submit.disabled = false;
    }
  };
  const cancel = el("button", { type: "button", class: "button", text: "Cancel", onclick: () => node.close() });
  const actions = el("div", { class: "dialog-actions" }, cancel, submit);
  const node = dialog(
    title,
    el("form", { class: "dialog-form", onsubmit, novalidate: true }, ...children, problem, actions),
  );
  return node;
}

/** Chooses a user and opens the direct conversation with them. */
export function newDirectDialog(store, onOpen) {
  const problem = el("p", { class: "form-problem", role: "alert", hidden: true });
  const pick = async (user) => {
    try {
      const conversation = await request("POST", "/v1/conversations", { kind: "direct", user: user.id });
      store.adopt(conversation);
      node.close();
      onOpen(conversation.id);
    } catch (failure) {
      problem.textContent = failure.message;
      problem.hidden = false;
    }
  };
  const search = userSearch(store, pick, () => "");
  const node = dialog("New chat", problem, search.root);
  search.input.focus();
}

/** Names a group, chooses its members, and opens it. */
export function newGroupDialog(store, onOpen) {
  const id = newId(store.me.id);
  const name = nameField("", "For example: Weekend hike");
  const members = userChoice(store, () => false);
  const run = async () => {
    const body = { id, kind: "group", name: name.input.value.trim(), members: [...members.chosen.keys()] };
    const conversation = await request("POST", "/v1/conversations", body);
    store.adopt(conversation);
    onOpen(conversation.id);
  };
  formDialog("New group", "Create group", [name.root, members.root], run);
  name.input.focus();
}

/** Adds users to a group. */
export function inviteDialog(store, conversation, isMember) {
  const members = userChoice(store, isMember);
  const run = async () => {
    const users = [...members.chosen.keys()];
    if (users.length === 0) throw new Error("Choose at least one user.");
    await request("POST", pathOf(conversation.id, "members"), { users });
    store.fetchConversation(conversation.id);
  };
  formDialog(`Invite to ${store.nameOf(conversation)}`, "Invite", [members.root], run);
  members.focus();
}

/** Gives a group another name. */
export function renameDialog(store, conversation) {
  const name = nameField(conversation.name || "", "");
  const run = async () => {
    store.adopt(await request("PATCH", pathOf(conversation.id), { name: name.input.value.trim() }));
  };
  formDialog("Rename group", "Rename", [name.root], run);
  name.input.select();
}

function nameField(value, placeholder) {
  const input = el("input", { id: "group-name", type: "text", placeholder, autocomplete: "off", required: true });
  input.value = value;
  return { input, root: el("div", { class: "field" }, el("label", { for: "group-name", text: "Name" }), input) };
}
