// The globs of the config, over owners, tags and repository names. `*` matches any run of characters, also an empty one,
// and also across `/`, so that `team/*` covers `team/a/b`; every other character matches itself.

/** What can occur in an owner, a tag or a repository name, and `*`. */
const GLOB = /^[A-Za-z0-9._/*-]+$/;

/**
 * Whether `text` is a glob that could match anything at all. The wildcards of other tools (`?`, `[a-z]`, `{a,b}`, `!`)
 * are rejected, since here they would silently match nothing.
 */
export function isGlob(text: string): boolean {
  return GLOB.test(text);
}

/** A test of whole texts. Each literal part is searched for once, from left to right, so nothing backtracks. */
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
