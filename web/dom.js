// Elements, icons, avatars, dialogs and toasts. Whatever users wrote goes in by `textContent` alone.

const SVG = "http://www.w3.org/2000/svg";

const ICONS = {
  back: "M15 5l-7 7 7 7",
  chart: "M4 20V11M10 20V4M16 20v-7M21 20H3",
  chat: "M4 6a2 2 0 0 1 2-2h12a2 2 0 0 1 2 2v8a2 2 0 0 1-2 2h-7l-5 4v-4a2 2 0 0 1-2-2z",
  clip: "M20 11.5l-8.2 8.2a5.2 5.2 0 0 1-7.4-7.4l8.5-8.5a3.5 3.5 0 0 1 5 5l-8.5 8.4a1.7 1.7 0 0 1-2.4-2.4l7.8-7.8",
  close: "M6 6l12 12M18 6L6 18",
  down: "M12 5v14M6 13l6 6 6-6",
  edit: "M4 20l1-4L16 5l3 3L8 19zM14 7l3 3",
  file: "M7 3h7l4 4v14H7zM14 3v4h4",
  group:
    "M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM2.5 20a6.5 6.5 0 0 1 13 0M16 4.4a3.5 3.5 0 0 1 0 6.2M18 14.4a6.5 6.5 0 0 1 3.5 5.6",
  info: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM12 11v5M12 8v.01",
  leave: "M10 4H6a2 2 0 0 0-2 2v12a2 2 0 0 0 2 2h4M15 8l4 4-4 4M19 12H9",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  person: "M10 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7zM3 20a7 7 0 0 1 11-5.7M18 14v6M15 17h6",
  plus: "M12 5v14M5 12h14",
  search: "M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13zM15.5 15.5L20 20",
  send: "M12 19V6M6 11l6-6 6 6",
  trash: "M4 7h16M9 7V4h6v3M6 7l1 13h10l1-13",
};

/** The mark of the house: a speech bubble with a rook's battlements. */
const MARK = "M4 3h3v2h3V3h4v2h3V3h3v12a3 3 0 0 1-3 3h-5l-5 4v-4H7a3 3 0 0 1-3-3z";

/**
 * Makes an element. `class`, `text` and `on…` functions are taken as such, `true` and `false` set or leave out
 * an attribute, everything else is an attribute.
 */
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(props)) {
    if (value === undefined || value === null || value === false) continue;
    if (key === "class") node.className = value;
    else if (key === "text") node.textContent = value;
    else if (typeof value === "function") node.addEventListener(key.slice(2), value);
    else node.setAttribute(key, value === true ? "" : String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

function svg(path, className) {
  const node = document.createElementNS(SVG, "svg");
  node.setAttribute("viewBox", "0 0 24 24");
  node.setAttribute("class", className);
  node.setAttribute("aria-hidden", "true");
  const shape = document.createElementNS(SVG, "path");
  shape.setAttribute("d", path);
  node.append(shape);
  return node;
}

/** A stroked icon by its name; decoration only, so whatever bears it needs a label. */
export function icon(name) {
  return svg(ICONS[name], "icon");
}

/** The mark of the house. */
export function mark() {
  return svg(MARK, "mark");
}

/** A button that shows only an icon; its label is read out and shown as a tip. */
export function iconButton(name, label, onclick, props = {}) {
  return el(
    "button",
    { type: "button", class: "icon-button", "aria-label": label, title: label, onclick, ...props },
    icon(name),
  );
}

/** Up to two initials on a colour that belongs to the id; a picture if there is one. */
export function avatar(id, name, { picture, group } = {}) {
  const node = el("span", { class: group ? "avatar avatar-group" : "avatar", "aria-hidden": "true" });
  const seed = id.slice(-12);
  let hash = 0;
  for (let at = 0; at < seed.length; at += 1) hash = (hash * 31 + seed.charCodeAt(at)) >>> 0;
  node.style.setProperty("--hue", String(hash % 360));
  const words = name
    .trim()
    .split(/[\s._-]+/u)
    .filter(Boolean);
  const initials = [words[0], words.length > 1 ? words[words.length - 1] : undefined].filter(Boolean);
  node.textContent = initials.map((word) => Array.from(word)[0].toLocaleUpperCase()).join("") || "?";
  if (picture && picture.startsWith("https:")) {
    const image = el("img", { src: picture, alt: "", referrerpolicy: "no-referrer", loading: "lazy" });
    image.addEventListener("error", () => image.remove());
    node.append(image);
  }
  return node;
}

/** Text with its web addresses made into links. */
export function linked(text) {
  const fragment = document.createDocumentFragment();
  let done = 0;
  for (const match of text.matchAll(/https?:\/\/[^\s<>"']+[^\s<>"'.,;:!?)\]}]/giu)) {
    fragment.append(text.slice(done, match.index));
    fragment.append(el("a", { href: match[0], target: "_blank", rel: "noopener noreferrer", text: match[0] }));
    done = match.index + match[0].length;
  }
  fragment.append(text.slice(done));
  return fragment;
}

/** A modal dialog with a heading and a close button. It removes itself when it is closed. */
export function dialog(title, ...children) {
  const heading = el("h2", { text: title, id: "dialog-title" });
  const node = el(
    "dialog",
    { "aria-labelledby": "dialog-title" },
    el(
      "header",
      { class: "dialog-head" },
      heading,
      iconButton("close", "Close", () => node.close()),
    ),
    ...children,
  );
  node.addEventListener("close", () => node.remove());
  node.addEventListener("pointerdown", (event) => {
    if (event.target === node) node.close();
  });
  document.body.append(node);
  node.showModal();
  return node;
}

/** Closes whatever dialog is open. */
export function closeDialogs() {
  for (const node of [...document.querySelectorAll("dialog[open]")]) node.close();
}

/** Asks before something that cannot be undone. Gives whether the answer was yes. */
export function confirm(title, text, action) {
  return new Promise((resolve) => {
    let answer = false;
    const yes = () => {
      answer = true;
      node.close();
    };
    const node = dialog(
      title,
      el("p", { class: "dialog-text", text }),
      el(
        "div",
        { class: "dialog-actions" },
        el("button", { type: "button", class: "button", text: "Cancel", autofocus: true, onclick: () => node.close() }),
        el("button", { type: "button", class: "button button-danger", text: action, onclick: yes }),
      ),
    );
    node.classList.add("dialog-small");
    node.addEventListener("close", () => resolve(answer));
  });
}

const drawn = new WeakMap();

/**
 * Draws what is in a node, but only when `signature` differs from the last one: a click that has begun and the focus
 * are not lost for nothing. The focus returns to what has the same class.
 */
export function redraw(node, signature, content) {
  const text = JSON.stringify(signature);
  if (drawn.get(node) === text) return;
  drawn.set(node, text);
  const focused = node !== document.activeElement && node.contains(document.activeElement) && document.activeElement;
  node.replaceChildren(...content());
  if (focused)
    [...node.querySelectorAll(focused.localName)].find(({ className }) => className === focused.className)?.focus();
}

/** The most toasts on screen at once. */
const MAX_TOASTS = 3;

/** Says something at the edge of the screen for a few seconds. */
export function toast(text) {
  const area = document.getElementById("toasts");
  while (area.childElementCount >= MAX_TOASTS) area.firstElementChild.remove();
  const node = el("div", { class: "toast", text });
  area.append(node);
  setTimeout(() => node.remove(), 5000);
}

/** Calls `run` once, a moment after the first of many calls: a burst of changes is drawn once. */
export function batched(run) {
  let planned = false;
  return () => {
    if (planned) return;
    planned = true;
    setTimeout(() => {
      planned = false;
      run();
    }, 10);
  };
}

/** Calls `run` when the calls have stopped for so long. */
export function debounced(delay_ms, run) {
  let timer;
  return (...args) => {
    clearTimeout(timer);
    timer = setTimeout(() => run(...args), delay_ms);
  };
}
