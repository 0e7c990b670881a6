// Signing up and logging in.

import { Problem, logIn, register } from "/web/api.js";
import { el, mark } from "/web/dom.js";

const FIELDS = {
  login: { label: "User name or email", autocomplete: "username", autocapitalize: "none", spellcheck: "false" },
  username: {
    label: "User name",
    hint: "3 to 32 of a–z, 0–9, dot, dash and underscore",
    autocomplete: "username",
    autocapitalize: "none",
    spellcheck: "false",
  },
  name: {
    label: "Your name",
    hint: "What others see. Optional.",
    autocomplete: "name",
    isOptional: true,
  },
  email: { label: "Email", type: "email", autocomplete: "email" },
  password: { label: "Password", type: "password", autocomplete: "current-password" },
  new_password: {
    label: "Password",
    type: "password",
    autocomplete: "new-password",
    hint: "At least 8 characters; a few words make a good one",
  },
};

const FORMS = {
  login: {
    title: "Welcome back",
    action: "Log in",
    fields: ["login", "password"],
    other: "New here?",
    turn: "Sign up",
  },
  register: {
    title: "Create your account",
    action: "Sign up",
    fields: ["username", "name", "email", "new_password"],
    other: "Have an account?",
    turn: "Log in",
  },
};

/** The page of somebody who is not logged in. Calls `onEntered` after success. */
export function authView(onEntered, notice) {
  const root = el("main", { class: "auth" });
  const show = (kind, text) => {
    root.replaceChildren(card(kind, text, onEntered, () => show(kind === "login" ? "register" : "login")));
    document.title = `${FORMS[kind].action} · Rookery`;
    root.querySelector("input").focus();
  };
  queueMicrotask(() => show("login", notice));
  return root;
}

function card(kind, notice, onEntered, turn) {
  const form = FORMS[kind];
  const inputs = new Map(form.fields.map((name) => [name.replace("new_", ""), field(name)]));
  const problem = el("p", { class: "form-problem", role: "alert", hidden: true });
  const submit = el("button", { class: "button button-primary button-wide", type: "submit", text: form.action });
  const onsubmit = async (event) => {
    event.preventDefault();
    clearProblems(inputs, problem);
    if (!checkFilled(inputs)) return;
    submit.disabled = true;
    try {
      await enter(kind, inputs);
      onEntered();
    } catch (failure) {
      showProblem(failure, kind, inputs, problem);
    } finally {
      submit.disabled = false;
    }
  };
  return el(
    "div",
    { class: "auth-card" },
    el("p", { class: "brand" }, mark(), el("span", { text: "Rookery" })),
    el("h1", { text: form.title }),
    notice && el("p", { class: "form-notice", role: "status", text: notice }),
    el("form", { onsubmit, novalidate: true }, problem, ...[...inputs.values()].map(({ root }) => root), submit),
    el(
      "p",
      { class: "auth-turn" },
      `${form.other} `,
      el("button", { type: "button", class: "link", text: form.turn, onclick: turn }),
    ),
  );
}

function field(name) {
  const { label, hint, isOptional, ...attributes } = FIELDS[name];
  const id = `field-${name}`;
  const input = el("input", {
    id,
    name,
    type: "text",
    "aria-describedby": `${id}-note`,
    required: !isOptional,
    ...attributes,
  });
  const note = el("span", { class: "field-note", id: `${id}-note`, text: hint || "" });
  const caption = el("label", { for: id, text: label });
  return {
    root: el("div", { class: "field" }, caption, withReveal(input), note),
    input,
    note,
    hint: hint || "",
    isOptional,
  };
}

/** A password may be looked at while it is typed. */
function withReveal(input) {
  if (input.type !== "password") return input;
  const button = el("button", {
    type: "button",
    class: "link reveal",
    text: "Show",
    "aria-pressed": "false",
    "aria-label": "Show password",
  });
  button.addEventListener("click", () => {
    const isHidden = input.type === "password";
    input.type = isHidden ? "text" : "password";
    button.textContent = isHidden ? "Hide" : "Show";
    button.setAttribute("aria-pressed", String(isHidden));
  });
  return el("div", { class: "with-reveal" }, input, button);
}

function enter(kind, inputs) {
  const value = (name) => inputs.get(name).input.value;
  if (kind === "login") return logIn(value("login").trim(), value("password"));
  const fields = { username: value("username").trim(), email: value("email").trim(), password: value("password") };
  const name = value("name").trim();
  return register(name ? { ...fields, name } : fields);
}

function clearProblems(inputs, problem) {
  problem.hidden = true;
  for (const { input, note, hint, root } of inputs.values()) {
    input.removeAttribute("aria-invalid");
    root.classList.remove("is-invalid");
    note.textContent = hint;
  }
}

function blame({ input, note, root }, text) {
  input.setAttribute("aria-invalid", "true");
  root.classList.add("is-invalid");
  note.textContent = text;
}

function checkFilled(inputs) {
  const empty = [...inputs.values()].filter(({ input, isOptional }) => !isOptional && input.value.trim() === "");
  for (const field of empty) blame(field, "Please fill this in.");
  if (empty.length > 0) empty[0].input.focus();
  return empty.length === 0;
}

/** Says what is wrong beside the field that is to blame, or above the form. */
function showProblem(failure, kind, inputs, problem) {
  const isProblem = failure instanceof Problem;
  const blamed = isProblem ? failure.errors.map(({ pointer, detail }) => [pointer.replace(/^\//, ""), detail]) : [];
  if (isProblem && failure.status === 409)
    blamed.push([failure.code.includes("email") ? "email" : "username", failure.message]);
  const known = blamed.filter(([name]) => inputs.has(name));
  for (const [name, detail] of known) blame(inputs.get(name), sentence(detail));
  if (known.length > 0) {
    inputs.get(known[0][0]).input.focus();
    return;
  }
  const isWrong = kind === "login" && isProblem && failure.status === 401;
  problem.textContent = isWrong ? "Wrong user name or password." : sentence(failure.message);
  problem.hidden = false;
  if (isWrong) inputs.get("password").input.select();
}

function sentence(text) {
  const start = text.charAt(0).toLocaleUpperCase() + text.slice(1);
  return /[.!?]$/.test(start) ? start : `${start}.`;
}
