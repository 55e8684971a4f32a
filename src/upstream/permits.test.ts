import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { turns } from '../../test/support/async.ts';
import { Permits } from './permits.ts';

const never = new AbortController().signal;
const mover = (name: string, client = 'c') => ({ repository: { upstream: 'ghcr.io', name }, client });

/** Permits of which one repository has taken all for large blobs that are for anyone. */
async function takenBy(name: string) {
  const permits = new Permits();
  const taken = await Promise.all(Array.from({ length: 32 }, () => permits.acquireLarge(mover(name), never)));
  return { permits, taken };
}

describe('permits', () => {
  test('are for any size as long as one is free, and then for small blobs', async () => {
    const { permits, taken } = await takenBy('bulk');
    assert.equal((await permits.acquire(mover('bulk'), never)).isForSmall, true);
    taken[0]?.release();
    assert.equal((await permits.acquire(mover('bulk'), never)).isForSmall, false);
  });

  test('of other repositories do not keep the first blob of one waiting', async () => {
    const { permits } = await takenBy('bulk');
    assert.equal((await permits.acquire(mover('first'), never)).isForSmall, false);
    assert.equal((await permits.acquire(mover('first'), never)).isForSmall, true);
    const second = await permits.acquireLarge(mover('second'), never);
    assert.deepEqual([second.isForSmall, second.isAwaited], [false, false]);
  });

  test('are awaited only by work that could use them', async () => {
    const { permits, taken } = await takenBy('bulk');
    const small = await permits.acquire(mover('bulk'), never);
    assert.deepEqual([small.isAwaited, taken[0]?.isAwaited], [false, false]);
    void permits.acquireLarge(mover('bulk'), never);
    assert.deepEqual([small.isAwaited, taken[0]?.isAwaited], [false, true]);
    for (let count = 0; count < 32; count++) void permits.acquire(mover('bulk'), never);
    await turns();
    assert.equal(small.isAwaited, true);
  });

  test('go round clients, then repositories', async () => {
    const { permits, taken } = await takenBy('bulk');
    const log: string[] = [];
    for (const [name, client] of [
      ['bulk', 'greedy'],
      ['bulk', 'greedy'],
      ['bulk', 'greedy'],
      ['bulk', 'modest'],
    ] as const) {
      void permits.acquireLarge(mover(name, client), never).then(() => log.push(client));
    }
    await turns();
    assert.equal(taken[0]?.isAwaited, true);
    taken[0]?.release();
    taken[1]?.release();
    await turns();
    assert.deepEqual(log, ['greedy', 'modest']);
  });
});
