// Times, counts and ids.

const TIME = new Intl.DateTimeFormat(undefined, { hour: "numeric", minute: "2-digit" });
const WEEKDAY = new Intl.DateTimeFormat(undefined, { weekday: "short" });
const LONG_WEEKDAY = new Intl.DateTimeFormat(undefined, { weekday: "long" });
const SHORT_DATE = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const DATE = new Intl.DateTimeFormat(undefined, { weekday: "long", day: "numeric", month: "long", year: "numeric" });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "medium" });
const NUMBER = new Intl.NumberFormat();

const DAY_MS = 24 * 60 * 60 * 1000;

/** How many midnights of this place lie between a time and now. */
function daysAgo(at) {
  const midnight = (date) => new Date(date.getFullYear(), date.getMonth(), date.getDate());
  return Math.round((midnight(new Date()) - midnight(at)) / DAY_MS);
}

/** `14:05`. */
export function clock(at) {
  return TIME.format(new Date(at));
}

/** The whole date and time, for a tip. */
export function fullTime(at) {
  return FULL.format(new Date(at));
}

/** What a day separator says. */
export function dayLabel(at) {
  const date = new Date(at);
  const days = daysAgo(date);
  if (days === 0) return "Today";
  if (days === 1) return "Yesterday";
  return days > 1 && days < 7 ? LONG_WEEKDAY.format(date) : DATE.format(date);
}

/** A day as a key: equal for two times of the same day here. */
export function dayKey(at) {
  return new Date(at).toDateString();
}

/** What a row of the list says: today the time, then the day, then the date. */
export function shortTime(at) {
  const date = new Date(at);
  const days = daysAgo(date);
  if (days <= 0) return TIME.format(date);
  return days < 7 ? WEEKDAY.format(date) : SHORT_DATE.format(date);
}

/** A number with the separators of this place. */
export function number(count) {
  return NUMBER.format(count);
}

/** `1 member`, `2 members`. */
export function counted(count, one, many) {
  return `${number(count)} ${count === 1 ? one : many}`;
}

/** Bytes, for people. */
export function fileSize(bytes) {
  if (bytes < 1000) return `${bytes} B`;
  if (bytes < 1_000_000) return `${(bytes / 1000).toFixed(0)} kB`;
  return `${(bytes / 1_000_000).toFixed(1)} MB`;
}

/** A new UUIDv7, born in the region of `kin`: the twelve bits after the version tell it. */
export function newId(kin) {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  let rest = Date.now();
  for (let at = 5; at >= 0; at -= 1) {
    bytes[at] = rest % 256;
    rest = Math.floor(rest / 256);
  }
  const region = Number.parseInt(kin.slice(15, 18), 16) || 0;
  bytes[6] = 0x70 | (region >> 8);
  bytes[7] = region & 0xff;
  bytes[8] = 0x80 | (bytes[8] & 0x3f);
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join("-");
}
