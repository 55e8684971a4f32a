// The globs of the config: owners, tags and repository names. `*` stands for any run of characters, also
// none, and also across `/`, so that `team/*` covers `team/a/b`; every other character stands for itself.

/** What can occur in an owner, a tag or a repository name, and `*`. */
const GLOB = /^[A-Za-z0-9._/*-]+$/;

/**
 * Whether `text` is a glob that could match anything at all. What other tools read as wildcards (`?`, `[a-z]`,
 * `{a,b}`, `!`) is refused, since here it would silently match nothing.
 */
export function isGlob(text: string): boolean {
  return GLOB.test(text);
}

/** Tells whether all of a text matches. Each literal part is searched for once, from left to right: nothing backtracks. */
export function matcherOf(glob: string): (text: string) => boolean {
  const [head = '', ...parts] = glob.split('*');
  const tail = parts.pop();
  if (tail === undefined) return text => text === glob;
  return text => {
    const end = text.length - tail.length;
    if (end < head.length || !text.startsWith(head) || !text.endsWith(tail)) return false;
    let at = head.length;
    for (const part of parts) {
      const found = text.indexOf(part, at);
      if (found < 0 || found + part.length > end) return false;
      at = found + part.length;
    }
    return true;
  };
}
