import assert from 'node:assert/strict';
import { test } from 'node:test';
import { bodyOf, get, MIB, serve, sourceOf, to } from '../../../test/support/bodies.ts';
import { testRandom } from '../../../test/support/clock.ts';
import { pumpBuffers } from './pump.ts';
import { sendSource } from './send.ts';

test('large buffers are limited, the others get smaller ones, and none is lost however a response ends', async t => {
  const CLIENTS = 100;
  const ends: ((into: Uint8Array) => number)[] = [
    into => into.fill(7).length,
    () => 0,
    () => {
      throw new Error('rotten');
    },
  ];
  const large: number[] = [];
  for (const end of [...ends, ...ends]) {
    // The first reading of each waits for those of all others.
    const sizes: number[] = [];
    const all = Promise.withResolvers<void>();
    const { url } = await serve(t, outgoing => {
      const { source } = sourceOf(MIB, async into => {
        if (sizes.push(into.byteLength) === CLIENTS) all.resolve();
        await all.promise;
        return end(into);
      });
      sendSource(to(outgoing), {}, source, undefined, { pump: pumpBuffers, random: testRandom() }).catch(() => {});
    });
    const bodies = await Promise.allSettled(Array.from({ length: CLIENTS }, async () => bodyOf(await get(url))));
    for (const body of bodies) {
      if (end === ends[0]) assert(body.status === 'fulfilled' && body.value.equals(Buffer.alloc(MIB, 7)));
      else assert.equal(body.status, 'rejected');
    }
    large.push(sizes.slice(0, CLIENTS).filter(size => size > 64 * 1024).length);
  }
  assert.deepEqual(large, Array(large.length).fill(64));
});
