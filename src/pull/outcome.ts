// The result of a pull, beside its bytes.

/** As in logs, metrics and the X-Cache header. */
export type Outcome = 'hit' | 'miss' | 'joined' | 'revalidated' | 'stale' | 'bypass';

/** Why a response is older than it should be. */
export interface Staleness {
  readonly ageMs: number;
  readonly why: string;
}
