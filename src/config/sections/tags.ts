// `tags` and `staleIfError`: how long a tag is served without asking its upstream. Rules are tried in order, and
// the last one always matches everything.
import { z } from 'zod';
import type { Source } from '../source.ts';
import * as value from '../values.ts';

export type TagRule = z.output<typeof rule>;

const rule = value
  .section({
    /** A glob over the tag. */
    match: value.tagGlob.prefault('*'),
    /** A glob over the repository name; absent: any. */
    images: value.nameGlob.exactOptional(),
    /** How long a tag is served without asking; Infinity: forever. */
    fresh: value.freshness.prefault('60s'),
    /** Whether a tag that was deleted upstream is still served. */
    keepDeleted: value.flag.prefault(false),
    /** Whether a push may not move it, nor anything delete it. */
    writeOnce: value.flag.prefault(false),
  })
  .transform(({ fresh, ...rest }) => ({ ...rest, freshMs: fresh }));

export const tags = value.list(rule).prefault([{}]);

/** Milliseconds: how old a tag's answer may be when its upstream fails; 0: stale tags are never served. */
export const staleIfError = value.duration.prefault('30d');

/** The rules as written, and the default one where they leave a tag unmatched. Throws ConfigError. */
export function checkTags(rules: readonly TagRule[], source: Source): readonly TagRule[] {
  if (rules.length === 0)
    throw source.error(['tags'], 'an empty list has no rule for any tag; remove the key to get the default');
  const isTotal = rules.some(({ match, images }) => match === '*' && images === undefined);
  return isTotal ? rules : [...rules, z.parse(rule, {})];
}
