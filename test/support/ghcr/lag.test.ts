// The lag after writes: reads, and the checks of a manifest that is pushed, see what was there before.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { makeImage } from '../images.ts';
import { ask, errorOf } from './ask.ts';
import { ACCEPT, image, NAME, Pusher } from './fixture.ts';
import { type Switches, startGhcr } from './ghcr.ts';

describe('a fake that lags', () => {
  async function start(switches: Partial<Switches>) {
    let nowMs = 0;
    const ghcr = await startGhcr({ now: () => nowMs, switches: { auth: 'none', allowDelete: true, ...switches } });
    const read = async (path: string, method = 'GET') => {
      const got = await ask(`${ghcr.url}/v2/${NAME}/${path}`, { method, headers: ACCEPT });
      return got.status === 200
        ? (got.headers['docker-content-digest'] ?? JSON.parse(got.body.toString()))
        : got.status;
    };
    return {
      ghcr,
      client: new Pusher(ghcr),
      read,
      tags: async () => (await read('tags/list')).tags,
      advance: (ms: number) => {
        nowMs += ms;
      },
      [Symbol.asyncDispose]: () => ghcr.close(),
    };
  }
  const other = makeImage({ layers: [10], seed: 'other' });
  const { digest } = image.manifest;

  test('shows neither tag nor manifest nor blob before its time, by GET, HEAD or list', async () => {
    await using lagging = await start({ redirects: false });
    const { ghcr, client, read, tags, advance } = lagging;
    await client.image(image, 'before');
    ghcr.switches.lagMs = 5000;
    const blob = other.layers[0] ?? assert.fail();
    await client.blob(blob);
    await client.manifest('v1', image.manifest.bytes, image.manifest.mediaType);
    for (const method of ['GET', 'HEAD']) {
      assert.deepEqual([await read('manifests/v1', method), await read(`blobs/${blob.digest}`, method)], [404, 404]);
    }
    assert.deepEqual(await tags(), ['before']);
    advance(4999);
    assert.equal(await read('manifests/v1'), 404);
    advance(1);
    for (const method of ['GET', 'HEAD']) {
      assert.deepEqual(
        [await read('manifests/v1', method), await read(`blobs/${blob.digest}`, method)],
        [digest, blob.digest],
      );
    }
    assert.deepEqual(await tags(), ['before', 'v1']);
  });

  test('shows where a tag was before, until the newest write that is due', async () => {
    await using lagging = await start({});
    const { ghcr, client, read, advance } = lagging;
    await client.image(image, 'v1');
    await client.image(other, 'other');
    const lags = [9000, 2000];
    ghcr.switches.lagMs = kind => (kind === 'tag' ? (lags.shift() ?? 0) : 0);
    await client.manifest('v1', other.manifest.bytes, other.manifest.mediaType);
    assert.equal(await read('manifests/v1'), digest);
    await client.manifest('v1', image.manifest.bytes, image.manifest.mediaType);
    advance(2000);
    assert.equal(await read('manifests/v1'), digest);
    advance(7000);
    assert.equal(await read('manifests/v1'), digest, 'the earlier write is never seen');
    ghcr.setTag(NAME, 'v1', other.manifest.digest);
    assert.equal(await read('manifests/v1'), other.manifest.digest, 'a test is not lagged');
  });

  test('rejects a manifest right after its blobs, and an index right after its manifests', async () => {
    await using lagging = await start({ lagMs: 3000 });
    const { client, advance } = lagging;
    for (const blob of [image.config, ...image.layers]) await client.blob(blob);
    const push = () => client.manifest('v1', image.manifest.bytes, image.manifest.mediaType);
    const got = await push();
    assert.deepEqual([got.status, errorOf(got).code], [400, 'MANIFEST_BLOB_UNKNOWN']);
    advance(3000);
    assert.equal((await push()).status, 201);
  });

  test('shows what was deleted for a while', async () => {
    await using lagging = await start({ redirects: false });
    const { ghcr, client, read, tags, advance } = lagging;
    await client.image(image, 'v1');
    await client.image(image, 'v2');
    const blob = image.layers[0] ?? assert.fail();
    ghcr.switches.lagMs = 1000;
    assert.equal((await client.ask('DELETE', 'manifests/v2')).status, 202);
    assert.equal((await client.ask('DELETE', `manifests/${digest}`)).status, 202);
    assert.equal((await client.ask('DELETE', `blobs/${blob.digest}`)).status, 202);
    const paths = ['manifests/v1', 'manifests/v2', `manifests/${digest}`, `blobs/${blob.digest}`];
    assert.deepEqual(await Promise.all(paths.map(path => read(path))), [digest, digest, digest, blob.digest]);
    assert.deepEqual((await tags()).sort(), ['v1', 'v2']);
    advance(1000);
    assert.deepEqual(await Promise.all(paths.map(path => read(path))), [404, 404, 404, 404]);
    assert.deepEqual(await tags(), []);
  });

  test('lists referrers late where it has that API', async () => {
    await using lagging = await start({ referrers: 'supported', lagMs: kind => (kind === 'manifest' ? 1000 : 0) });
    const { client, read, advance } = lagging;
    const referrer = makeImage({ layers: [10], subject: image.manifest });
    await client.image(referrer, referrer.manifest.digest);
    const listed = async () => (await read(`referrers/${digest}`)).manifests.length;
    assert.equal(await listed(), 0);
    advance(1000);
    assert.equal(await listed(), 1);
  });
});
