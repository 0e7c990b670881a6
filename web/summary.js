// A conversation's row in the list, as far as the server can tell it.

/**
 * A conversation as the server tells it. While it cannot reach its store, what it does not know is `null`: that stays as
 * it is held, and where nothing is held, the place is one before everything.
 */
export function complete(fetched, held) {
  if (fetched.unread !== null) return fetched;
  const { unread = 0, mentions = 0, read = { seq: 0 }, last_message = null } = held || {};
  const position = fetched.position || (held ? held.position : { epoch: null, seq: 0 });
  return { ...fetched, unread, mentions, read, position, last_message: fetched.last_message || last_message };
}

/** When something last happened in a conversation that its row should tell; empty when nothing has. */
export function lastActivity({ last_message, created_at }) {
  return last_message ? last_message.created_at : created_at || "";
}
