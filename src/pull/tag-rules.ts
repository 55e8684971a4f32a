// The rules of the configuration for tags; the first that matches applies.
import { matcherOf } from '../base/glob.ts';
import type { Repository } from '../oci/reference.ts';

export interface TagRule {
  /** How long a tag is served without asking the upstream; Infinity: forever. */
  readonly freshMs: number;
  /** Whether a tag that was deleted upstream is still served. */
  readonly keepDeleted: boolean;
  /** Whether nobody moves or deletes it. */
  readonly writeOnce: boolean;
}

/** A rule with what it applies to: a glob over the tag, and one over the repository name, absent for any. */
export interface TagPattern extends TagRule {
  readonly match: string;
  readonly images?: string;
}

/** For a tag that no rule matches. */
const ASK_ALWAYS: TagPattern = { match: '*', freshMs: 0, keepDeleted: false, writeOnce: false };

export function tagRules(patterns: readonly TagPattern[]): (repository: Repository, tag: string) => TagPattern {
  const rules = patterns.map(rule => ({
    rule,
    matchesTag: matcherOf(rule.match),
    matchesName: matcherOf(rule.images ?? '*'),
  }));
  return ({ name }, tag) =>
    rules.find(({ matchesTag, matchesName }) => matchesTag(tag) && matchesName(name))?.rule ?? ASK_ALWAYS;
}
