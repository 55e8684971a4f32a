// What a pull comes to, beside its bytes.

/** As in logs, metrics and the X-Cache header. */
export type Outcome = 'hit' | 'miss' | 'joined' | 'revalidated' | 'stale' | 'bypass';

/** Why an answer is older than it should be. */
export interface Staleness {
  readonly ageMs: number;
  readonly why: string;
}
