// The HTTP API and the session behind it.

/** A failure as the API tells it (RFC 9457), or `offline` when no answer came at all. */
export class Problem extends Error {
  constructor(status, body = {}, retryAfterSeconds = 0) {
    super(body.detail || body.title || `the server answered ${status}`);
    this.status = status;
    this.code = body.code || "unknown";
    this.errors = body.errors || [];
    this.retry_after_ms = retryAfterSeconds * 1000;
  }

  /** Whether the same request may succeed later. */
  get isPassing() {
    return (
      this.status === 0 || this.status === 429 || this.status === 502 || this.status === 503 || this.status === 504
    );
  }
}

const REQUEST_TIMEOUT_MS = 20_000;

async function send(method, path, body, token) {
  const headers = {};
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (token) headers.Authorization = `Bearer ${token}`;
  let response;
  try {
    response = await fetch(path, {
      method,
      headers,
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(REQUEST_TIMEOUT_MS),
      cache: "no-store",
    });
  } catch {
    throw new Problem(0, { code: "offline", detail: "The server cannot be reached right now." });
  }
  if (response.status === 204) return null;
  const answer = await response.json().catch(() => ({}));
  if (response.ok) return answer;
  throw new Problem(response.status, answer, Number(response.headers.get("Retry-After")) || 0);
}

// The session stands in `sessionStorage`, so each tab is a user of its own. A duplicated tab shares its
// refresh token, and a token presented twice ends the session: tabs take turns by a lock and tell each other
// the next token.

const STORED = "rookery.session";
const RENEW_BEFORE_MS = 60_000;
const HANDOVER_MS = 250;

let session = JSON.parse(sessionStorage.getItem(STORED) || "null");
let renewal = null;
let renewTimer;
/** Counts log-ins and log-outs: what was begun before one of them is not taken up after it. */
let sitting = 0;
const lost = new Set();
const tabs = new BroadcastChannel("rookery");

tabs.addEventListener("message", ({ data }) => {
  if (session && data.used === session.refresh_token) keep(data.next);
});

function keep(next) {
  session = next;
  clearTimeout(renewTimer);
  if (next === null) {
    sessionStorage.removeItem(STORED);
    return;
  }
  sessionStorage.setItem(STORED, JSON.stringify(next));
  planRenewal();
}

function planRenewal() {
  const left_ms = session.expires_at - Date.now();
  const ahead_ms = Math.min(RENEW_BEFORE_MS, left_ms / 3);
  const wait_ms = Math.max(1000, left_ms - ahead_ms - Math.random() * ahead_ms);
  renewTimer = setTimeout(() => renew().catch(() => {}), Math.min(wait_ms, 2 ** 31 - 1));
}

function loggedOut() {
  return new Problem(401, { code: "unauthenticated", detail: "You are logged out." });
}

function take(answer) {
  keep({
    user: answer.user,
    access_token: answer.access_token,
    refresh_token: answer.refresh_token,
    expires_at: Date.now() + answer.expires_in * 1000,
  });
  return session;
}

function begin(answer) {
  sitting += 1;
  return take(answer);
}

function end(reason) {
  if (session === null) return;
  sitting += 1;
  renewal = null;
  keep(null);
  for (const listener of lost) listener(reason);
}

async function exchange() {
  const used = session.refresh_token;
  const begun = sitting;
  try {
    const answer = await send("POST", "/v1/auth/refresh", { refresh_token: used });
    if (begun !== sitting) throw loggedOut();
    take(answer);
    tabs.postMessage({ used, next: session });
  } catch (problem) {
    if (begun !== sitting) throw loggedOut();
    if (problem.status >= 400 && problem.status < 500 && problem.status !== 429) {
      end("Your session has ended. Please log in again.");
    }
    throw problem;
  }
}

async function exchangeInTurn() {
  if (!navigator.locks) return exchange();
  const before = session.refresh_token;
  const name = `rookery.refresh.${session.user.id}`;
  const mine = await navigator.locks.request(name, { ifAvailable: true }, async (lock) => {
    if (lock) await exchange();
    return lock !== null;
  });
  if (mine) return undefined;
  return navigator.locks.request(name, async () => {
    await new Promise((resolve) => setTimeout(resolve, HANDOVER_MS));
    if (session && session.refresh_token === before) await exchange();
  });
}

/** Exchanges the refresh token for new ones; calls that come together share one exchange. */
export function renew() {
  if (session === null) return Promise.reject(loggedOut());
  if (renewal === null) {
    const mine = exchangeInTurn().finally(() => {
      if (renewal === mine) renewal = null;
    });
    renewal = mine;
  }
  return renewal;
}

/** Who is logged in here, or `null`. */
export function currentUser() {
  return session && session.user;
}

/** An access token that is good for a little longer, renewed when it is not. */
export async function accessToken() {
  if (session && session.expires_at - Date.now() < 5000) await renew();
  return session && session.access_token;
}

/** Calls `listener(reason)` when the session has ended. */
export function onSessionLost(listener) {
  lost.add(listener);
}

/** Takes up the session that this tab had before it was reloaded. Gives whether there is one. */
export function resumeSession() {
  if (session) planRenewal();
  return session !== null;
}

/** Signs up; gives the session. */
export async function register(fields) {
  return begin(await send("POST", "/v1/auth/register", fields));
}

/** Logs in; gives the session. */
export async function logIn(login, password) {
  return begin(await send("POST", "/v1/auth/login", { login, password }));
}

/** Logs out, here at once and at the server if it can be reached. */
export async function logOut() {
  const token = session && session.access_token;
  end("");
  if (token) await send("POST", "/v1/auth/logout", undefined, token).catch(() => {});
}

/**
 * A request as the user who is logged in. An expired token is renewed and the request sent once more, but never as
 * another user than the one who was logged in when it was made.
 */
export async function request(method, path, body) {
  const begun = sitting;
  const token = await accessToken();
  if (begun !== sitting || session === null) throw loggedOut();
  try {
    return await send(method, path, body, token);
  } catch (problem) {
    if (problem.status !== 401 || begun !== sitting) throw problem;
    if (session.access_token === token) await renew();
    if (begun !== sitting) throw loggedOut();
    return send(method, path, body, session.access_token);
  }
}

/** A request without a session. */
export function requestOpen(method, path) {
  return send(method, path);
}

/** A path with its parameters; those that are empty are left out. */
export function withQuery(path, parameters) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== null && value !== "") query.set(name, String(value));
  }
  const text = query.toString();
  return text ? `${path}?${text}` : path;
}

/** The path of a conversation, or of something in it. */
export function pathOf(conversation, ...rest) {
  return ["/v1/conversations", encodeURIComponent(conversation), ...rest.map(encodeURIComponent)].join("/");
}
