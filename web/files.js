// Files of messages: uploaded with their progress, shown, and saved. A file is fetched with the token, so what is
// shown is a copy of this page's own, never an address that others could open.

import { Problem, accessToken, renew, withQuery } from "/web/api.js";
import { el, icon, toast } from "/web/dom.js";
import { fileSize } from "/web/format.js";

/** What is shown as a picture, up to so many bytes; everything else is saved. */
const SHOWN = ["image/png", "image/jpeg", "image/gif", "image/webp"];
const MAX_SHOWN_BYTES = 20_000_000;
const MAX_HEIGHT_PX = 340;
/** Pictures that are kept for when their rows are drawn anew. */
const MAX_KEPT = 60;

const kept = new Map();

/** Uploads a file; gives the attachment. `told(share)` hears of the progress, from 0 to 1. */
export async function upload(file, { signal, told }) {
  const token = await accessToken();
  try {
    return await put(file, token, { signal, told });
  } catch (problem) {
    if (problem.status !== 401) throw problem;
    await renew();
    return put(file, await accessToken(), { signal, told });
  }
}

// `fetch` does not tell how much has been sent.
function put(file, token, { signal, told }) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", withQuery("/v1/attachments", { name: file.name }));
    request.setRequestHeader("Authorization", `Bearer ${token}`);
    request.setRequestHeader("Content-Type", file.type || "application/octet-stream");
    request.responseType = "json";
    request.upload.addEventListener("progress", ({ loaded, total }) => told(total > 0 ? loaded / total : 0));
    request.addEventListener("load", () => {
      if (request.status === 201) resolve(request.response);
      else reject(new Problem(request.status, request.response || {}));
    });
    request.addEventListener("error", () =>
      reject(new Problem(0, { code: "offline", detail: "The file could not be sent." })),
    );
    request.addEventListener("abort", () => reject(new Problem(0, { code: "aborted", detail: "" })));
    signal.addEventListener("abort", () => request.abort());
    request.send(file);
  });
}

async function fetchCopy({ url }) {
  const get = (token) =>
    fetch(withQuery(url, { redirect: false }), { headers: { Authorization: `Bearer ${token}` } });
  let response = await get(await accessToken());
  if (response.status === 401) {
    await renew();
    response = await get(await accessToken());
  }
  if (!response.ok) throw new Problem(response.status, await response.json().catch(() => ({})));
  return URL.createObjectURL(await response.blob());
}

/** The address of this page's copy of a picture. */
function pictureCopy(attachment) {
  const known = kept.get(attachment.id);
  const copy = known || fetchCopy(attachment);
  kept.delete(attachment.id);
  kept.set(attachment.id, copy);
  copy.catch(() => kept.delete(attachment.id));
  if (kept.size > MAX_KEPT) {
    const [[oldest, dropped]] = kept;
    kept.delete(oldest);
    dropped.then((address) => URL.revokeObjectURL(address)).catch(() => {});
  }
  return copy;
}

const awaited = new WeakMap();
const onScreen = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    if (!isIntersecting) continue;
    onScreen.unobserve(target);
    showPicture(target, awaited.get(target));
  }
});

async function showPicture(image, attachment) {
  try {
    image.src = await pictureCopy(attachment);
  } catch {
    image.classList.add("is-missing");
    image.alt = `${attachment.name}: not available`;
  }
}

/** An attachment as it stands in a message. */
export function attachmentOf(attachment) {
  const isPicture = SHOWN.includes(attachment.content_type) && attachment.width && attachment.size <= MAX_SHOWN_BYTES;
  return el("div", { class: "message-attachment" }, isPicture && picture(attachment), saveButton(attachment));
}

function picture(attachment) {
  const { width, height, name } = attachment;
  const scale = Math.min(1, MAX_HEIGHT_PX / height);
  const image = el("img", {
    class: "message-image",
    width: Math.round(width * scale),
    height: Math.round(height * scale),
    alt: name,
  });
  awaited.set(image, attachment);
  onScreen.observe(image);
  return image;
}

function saveButton(attachment) {
  const label = `Save ${attachment.name}`;
  return el(
    "button",
    { type: "button", class: "message-file", title: label, "aria-label": label, onclick: () => save(attachment) },
    icon("file"),
    el("span", { class: "message-file-name", text: attachment.name }),
    el("span", { class: "message-file-size", text: fileSize(attachment.size) }),
  );
}

async function save(attachment) {
  try {
    const address = await fetchCopy(attachment);
    el("a", { href: address, download: attachment.name }).click();
    setTimeout(() => URL.revokeObjectURL(address), 60_000);
  } catch (problem) {
    toast(problem instanceof Problem ? problem.message : "The file is not available right now.");
  }
}
