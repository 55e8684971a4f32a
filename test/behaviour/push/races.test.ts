// Questions to the upstream that a push overtakes.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import type { Got } from '../../support/ghcr/ask.ts';
import { answers, type Ghcr } from '../../support/ghcr/ghcr.ts';
import { makeImage } from '../../support/images.ts';
import { assertCreated, assertError, image, LIMIT, startPushing, startWithParts } from '../../support/push-client.ts';

describe('requests that were sent before a push and are answered after it', () => {
  const subject = makeImage({ layers: [10] });

  /** A request whose response is held until the returned function is called. */
  async function held(ghcr: Ghcr, endpoint: 'tags' | 'referrers', asking: () => Promise<Got>) {
    const gate = Promise.withResolvers<void>();
    const fault = ghcr.fault({ endpoint, at: 'done', gate: gate.promise, times: 1 });
    const early = asking();
    await fault.reached();
    return async () => {
      gate.resolve();
      return early;
    };
  }

  test('do not bring an old list of tags back', LIMIT, async t => {
    const { ghcr, client } = await startPushing(t);
    await client.image(image, 'v1');
    const letGo = await held(ghcr, 'tags', () => client.get('tags/list'));
    assertCreated(await client.manifest(image.manifest, 'v2'));
    assert.deepEqual(await client.tags(), ['v1', 'v2']);
    await letGo();
    assert.deepEqual(await client.tags(), ['v1', 'v2']);
  });

  test('do not make a new repository unknown', LIMIT, async t => {
    const { ghcr, client } = await startPushing(t);
    const letGo = await held(ghcr, 'tags', () => client.get('tags/list'));
    await client.image(image, 'v1');
    // An answer that is from before the push is completed by it.
    assert.equal((await letGo()).status, 200);
    assert.deepEqual(await client.tags(), ['v1']);
  });

  test('do not bring an old list of referrers back', LIMIT, async t => {
    const { ghcr, client } = await startPushing(t, { fake: { switches: { referrers: 'supported' } } });
    const path = `referrers/${subject.manifest.digest}`;
    const count = async () => JSON.parse((await client.get(path)).body.toString()).manifests.length;
    await client.image(makeImage({ layers: [11], subject: subject.manifest }));
    const letGo = await held(ghcr, 'referrers', () => client.get(path));
    await client.image(makeImage({ layers: [12], subject: subject.manifest }));
    assert.equal(await count(), 2);
    await letGo();
    assert.equal(await count(), 2);
  });

  test('do not hide a new tag, however short tags are fresh', async t => {
    const { clock, client } = await startWithParts(t, { config: { tags: [{ match: '*', fresh: '1s' }] } });
    assert.equal((await client.get('manifests/v1')).status, 404);
    assertCreated(await client.manifest(image.manifest, 'v1'));
    clock.advance(2000);
    assert.equal((await client.get('manifests/v1')).status, 200);
  });

  test('are served from what was pushed, even if the upstream fails then', LIMIT, async t => {
    const now = makeImage({ layers: [10], seed: 'now' });
    const { ghcr, clock, client } = await startPushing(t);
    await client.image(image, 'v1');
    await client.parts(now);
    clock.advance(3600_000);
    const gate = Promise.withResolvers<void>();
    const fault = ghcr.fault({
      endpoint: 'manifest',
      method: 'PUT',
      at: 'done',
      gate: gate.promise,
      times: 1,
    });
    const pushed = client.manifest(now.manifest, 'v1');
    await fault.reached();
    const pulled = client.get('manifests/v1');
    await client.get('/v2/');
    ghcr.fault({ endpoint: 'manifest', method: 'GET', answer: answers.serverError() });
    gate.resolve();
    assertCreated(await pushed);
    assert.deepEqual((await pulled).body, now.manifest.bytes);
  });

  test('of several tags of which one is denied, those that were pushed are listed', async t => {
    const { ghcr, client } = await startWithParts(t);
    assertCreated(await client.manifest(image.manifest, 'v1'));
    assert.deepEqual(await client.tags(), ['v1']);
    ghcr.fault({ endpoint: 'manifest', method: 'PUT', reference: 'b', answer: answers.denied });
    const got = await client.manifest(image.manifest, `${image.manifest.digest}?tag=a&tag=b`);
    assertError(got, 403, 'DENIED');
    assert.deepEqual(await client.tags(), ['a', 'v1']);
  });
});
