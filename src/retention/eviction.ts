// Chooses what is evicted when space is needed: least recently used first, and never what is pinned. It removes nothing
// itself.
import type { Pin, UsageRow, UsageStore } from '../metadata/metadata.ts';

const ROWS_AT_ONCE = 500;

/** Content in the order in which it should go. */
export async function* evictionOrder(
  metadata: Pick<UsageStore, 'leastRecentlyUsed' | 'pinned'>,
  pins: readonly Pin[],
): AsyncGenerator<UsageRow, void> {
  for (let last: UsageRow | undefined; ; ) {
    const rows = await metadata.leastRecentlyUsed(ROWS_AT_ONCE, last);
    last = rows.at(-1);
    if (last === undefined) return;
    // Asked for last: what comes meanwhile, to be pinned, is not among the rows.
    const pinned = new Set((await metadata.pinned(pins)).map(({ digest }) => digest));
    for (const row of rows) if (!pinned.has(row.digest)) yield row;
  }
}
