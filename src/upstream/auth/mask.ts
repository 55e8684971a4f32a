// Takes our secrets out of what an upstream says: one that echoes them must not make us repeat them in an error or log.

export class Mask {
  readonly #secrets = new Set<string>();

  /** Hides these from now on. Must be told of every form in which a secret is sent. */
  add(...secrets: readonly string[]): void {
    for (const secret of secrets) this.#secrets.add(secret);
  }

  /** The text without our secrets, and without the token of this Authorization header. */
  hide(text: string, authorization?: string): string {
    let masked = text;
    for (const secret of this.#secrets) masked = masked.replaceAll(secret, '***');
    const token = authorization?.slice(authorization.indexOf(' ') + 1);
    return token === undefined ? masked : masked.replaceAll(token, '***');
  }
}
