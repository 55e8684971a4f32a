// What the configuration says of tags: the first rule that matches holds.
import { matcherOf } from '../base/glob.ts';
import type { Repository } from '../oci/reference.ts';

export interface TagRule {
  /** How long a tag is served without asking; Infinity: forever. */
  readonly freshMs: number;
  /** A tag that is gone upstream is still served. */
  readonly keepDeleted: boolean;
}

/** A rule with what it is for: a glob over the tag, and one over the repository name, absent for any. */
export interface TagPattern extends TagRule {
  readonly match: string;
  readonly images?: string;
}

/** Where no rule matches. */
const ASK_ALWAYS: TagRule = { freshMs: 0, keepDeleted: false };

export function tagRules(patterns: readonly TagPattern[]): (repository: Repository, tag: string) => TagRule {
  const rules = patterns.map(rule => ({
    rule,
    matchesTag: matcherOf(rule.match),
    matchesName: matcherOf(rule.images ?? '*'),
  }));
  return ({ name }, tag) =>
    rules.find(({ matchesTag, matchesName }) => matchesTag(tag) && matchesName(name))?.rule ?? ASK_ALWAYS;
}
