// Chooses what is evicted when space is needed: least recently used first, and never what is pinned. It removes nothing
// itself.
import type { ContentRow, Pin, UsageStore } from '../metadata/metadata.ts';

const ROWS_AT_ONCE = 100;

/** Content in the order in which it should go. Whoever takes the next row must have removed the one before. */
export async function* evictionOrder(
  metadata: Pick<UsageStore, 'leastRecentlyUsed'>,
  pins: readonly Pin[],
): AsyncGenerator<ContentRow, void> {
  for (;;) {
    const rows = await metadata.leastRecentlyUsed(ROWS_AT_ONCE, pins);
    if (rows.length === 0) return;
    yield* rows;
  }
}
