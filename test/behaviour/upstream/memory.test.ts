// The memory that bodies take while they are read whole has a bound; what does not fit fails at once, and small bodies fit.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { startBoth } from '../../support/cache.ts';
import { makeImage } from '../../support/images.ts';

const MIB = 1024 * 1024;

test('large pages at once are turned away when they do not fit, and nothing small is', async t => {
  const { ghcr, cache, clock } = await startBoth(t);
  const tags = Array.from({ length: 60_000 }, (_, i) => `${i}`.padStart(100, 'a'));
  const body = JSON.stringify({ tags });
  assert(body.length > 5.5 * MIB);
  const names = Array.from({ length: 20 }, (_, i) => `owner/app-${i}`);
  const image = makeImage({ layers: [] });
  for (const name of [...names, 'owner/small']) ghcr.push(name, image, 'v1');
  const stalled = ghcr.fault({ endpoint: 'tags', answer: { status: 200, body }, stallAfter: Math.floor(5.5 * MIB) });
  const states = new Map<string, number>();
  const lists = names.map(async name => {
    const reply = await cache.get(`/v2/${name}/tags/list`);
    states.set(name, reply.status);
    return reply;
  });
  await stalled.reached(20);
  const small = await cache.get('/v2/owner/small/manifests/v1');
  assert.equal(small.status, 200);
  stalled.remove();
  const replies = await Promise.all(lists);
  const turnedAway = replies.filter(({ status }) => status === 503);
  assert(turnedAway.length >= 10, `${turnedAway.length}`);
  for (const { headers } of turnedAway) assert.equal(headers['retry-after'], '1');
  assert(replies.filter(({ status }) => status === 200).length >= 1);
  // All of it is given back.
  clock.advance(60_000);
  for (const name of names) assert.equal((await cache.get(`/v2/${name}/tags/list?n=1`)).status, 200);
});
