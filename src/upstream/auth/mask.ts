// Makes what an upstream says fit for a log, an error or a client: one that echoes our secrets must not make us repeat
// them, and nothing that it says may act on a terminal or break a line. Every such text goes through here.

/** Tokens that are remembered: they live for minutes, and an upstream that echoes one does so at once. */
const TOKENS_LIMIT = 32;
/** What is shorter is no secret, and may be a word of any sentence. */
const SHORTEST_TOKEN = 8;

export class Mask {
  readonly #secrets = new Set<string>();
  readonly #tokens = new Set<string>();
  #pattern: RegExp | undefined;

  /** Hides these from now on. Must be told of every form in which a secret is sent. */
  add(...secrets: readonly string[]): void {
    for (const secret of secrets) if (secret !== '') this.#secrets.add(secret);
    this.#pattern = undefined;
  }

  /** Hides a token that was issued to us, until enough others were. */
  addToken(token: string): void {
    if (token.length < SHORTEST_TOKEN) return;
    this.#tokens.add(token);
    const [oldest] = this.#tokens;
    if (this.#tokens.size > TOKENS_LIMIT && oldest !== undefined) this.#tokens.delete(oldest);
    this.#pattern = undefined;
  }

  /** Whether the text holds one of our secrets. */
  isIn(text: string): boolean {
    return [...this.#secrets, ...this.#tokens].some(secret => text.includes(secret));
  }

  /** The text without our secrets, in upper or lower case: a secret in a host name has lost its case. */
  hide(text: string): string {
    this.#pattern ??= patternOf([...this.#secrets, ...this.#tokens]);
    return text.replace(this.#pattern, '***');
  }

  /** The text in one line, without our secrets, at most so long. */
  clean(text: string, limit = Infinity): string {
    return printable(this.hide(text)).slice(0, limit);
  }

  /** The error, whose message and particulars are clean. What led to it is left out: its text is in the message. */
  cleanError<E>(error: E): E {
    if (!(error instanceof Error)) return error;
    error.message = this.clean(error.message);
    delete error.cause;
    return error;
  }
}

/** Without what moves a cursor, hides or reorders text, or ends a line. */
function printable(text: string): string {
  return text.replace(/[\p{C}\p{Zl}\p{Zp}]+/gu, ' ').trim();
}

/** Matches nothing where there is nothing to hide. The longer of two that overlap goes first. */
function patternOf(secrets: readonly string[]): RegExp {
  const escaped = secrets
    .toSorted((a, b) => b.length - a.length)
    .map(secret => secret.replace(/[\\^$.*+?()[\]{}|/-]/g, '\\$&'));
  return new RegExp(escaped.length === 0 ? '(?!)' : escaped.join('|'), 'gi');
}
