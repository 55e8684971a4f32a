// An index that names tens of thousands of manifests is no more than 4 MiB, and anybody who may push can send one.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestOf } from '../../../src/oci/digest.ts';
import { Manifests } from '../../../src/pull/manifests.ts';
import { LIMIT, NAME, startPushing } from '../../support/push-client.ts';

const INDEX = 'application/vnd.oci.image.index.v1+json';
const COUNT = 5_000;

test('what a large index names is looked up without holding up others', LIMIT, async t => {
  const { cache } = await startPushing(t);
  const digests = Array.from({ length: COUNT }, (_, i) => digestOf(Buffer.from(`${i}`)));
  const manifests = digests.map(digest => ({ mediaType: INDEX, digest, size: 1 }));
  const body = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: INDEX, manifests }));
  let all = 0;
  let inTurn = 0;
  let most = 0;
  const { find } = Manifests.prototype;
  t.mock.method(Manifests.prototype, 'find', function (this: Manifests, ...asked: Parameters<typeof find>) {
    if (inTurn === 0) setImmediate(() => (inTurn = 0));
    all++;
    most = Math.max(most, ++inTurn);
    return find.apply(this, asked);
  });
  const reply = await cache.get(`/v2/${NAME}/manifests/v1`, {
    ...{ method: 'PUT', body, headers: { 'content-type': INDEX } },
  });
  // The upstream has none of them.
  assert.ok(reply.status >= 400 && reply.status < 500, `${reply.status}`);
  assert.ok(all >= COUNT);
  assert.ok(most <= 300, `${most} in a row`);
});
