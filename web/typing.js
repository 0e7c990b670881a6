// Who is typing where. Somebody who says no more has stopped.

const TYPING_MS = 6000;

export class Typing {
  #conversations = new Map();

  /** `onChange(conversation)` is called when somebody begins or ends. */
  constructor(onChange) {
    this.onChange = onChange;
  }

  /** The users who are typing in a conversation. */
  in(conversation) {
    return [...(this.#conversations.get(conversation) || new Map()).keys()];
  }

  begin(conversation, user) {
    const users = this.#conversations.get(conversation) || new Map();
    clearTimeout(users.get(user));
    users.set(
      user,
      setTimeout(() => this.end(conversation, user), TYPING_MS),
    );
    this.#conversations.set(conversation, users);
    this.onChange(conversation);
  }

  end(conversation, user) {
    const users = this.#conversations.get(conversation);
    if (!users || !users.has(user)) return;
    clearTimeout(users.get(user));
    users.delete(user);
    if (users.size === 0) this.#conversations.delete(conversation);
    this.onChange(conversation);
  }
}
