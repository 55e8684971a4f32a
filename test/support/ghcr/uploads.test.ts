// Uploads: streamed, whole and in chunks, mounts, limits, and what an upload that fails or expires leaves.
import assert from 'node:assert/strict';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { bytesOf, contentOf, randomContent } from '../images.ts';
import { ask, errorOf } from './ask.ts';
import { image, layer, layerBytes, MIB, NAME, Pusher, slowly, startOpen } from './fixture.ts';

describe('uploads', () => {
  test('POST returns where to continue: a relative path, with `upload` in the singular', async () => {
    await using ghcr = await startOpen();
    const { status, headers, body } = await new Pusher(ghcr).start();
    const uuid = String(headers['docker-upload-uuid']);
    assert.equal(status, 202);
    assert.match(uuid, /^[0-9a-f-]{36}$/);
    assert.equal(headers.location, `/v2/${NAME}/blobs/upload/${uuid}`);
    assert.equal(headers.range, '0-0');
    assert.equal(body.length, 0);
    assert.equal(ghcr.count({ endpoint: 'upload-start', method: 'POST', repository: NAME }), 1);
  });

  test('one streamed PATCH, then PUT', async () => {
    await using ghcr = await startOpen();
    const pusher = new Pusher(ghcr);
    const location = await pusher.location();
    const patched = await pusher.patch(location, slowly(layerBytes, 30_000));
    assert.equal(patched.status, 202);
    assert.equal(patched.headers.location, location);
    assert.equal(patched.headers.range, '0-99999');
    const status = await pusher.ask('GET', location);
    assert.deepEqual([status.status, status.headers.range], [204, '0-99999']);

    const done = await pusher.finish(location, layer.digest);
    assert.equal(done.status, 201);
    assert.equal(done.headers.location, `/v2/${NAME}/blobs/${layer.digest}`);
    assert.equal(done.headers['docker-content-digest'], layer.digest);
    assert.deepEqual(await pusher.pull(layer.digest), layerBytes);
    assert.equal(errorOf(await pusher.patch(location, 'x')).code, 'BLOB_UPLOAD_UNKNOWN');
    assert.equal(ghcr.received({ endpoint: 'upload' }), layer.sizeBytes + 1);
    assert.equal(ghcr.received({ method: 'PUT', digest: layer.digest }), 0);
  });

  test('monolithic PUT, with its length or in chunks', async () => {
    await using ghcr = await startOpen();
    const pusher = new Pusher(ghcr);
    assert.equal((await pusher.blob(layer)).status, 201);
    const other = randomContent(9 * MIB, 'chunked');
    const body = slowly(bytesOf(other), MIB);
    assert.equal((await pusher.finish(await pusher.location(), other.digest, body)).status, 201);
    assert.deepEqual(await pusher.pull(other.digest), bytesOf(other));
  });

  test('chunks are accepted in order, up to a limit', async () => {
    await using ghcr = await startOpen({ chunkLimitBytes: 40_000 });
    const pusher = new Pusher(ghcr);
    const location = await pusher.location();
    const chunk = (start: number, end: number) =>
      pusher.patch(location, layerBytes.subarray(start, end), `${start}-${end - 1}`);
    const tooLarge = await chunk(0, 40_001);
    assert.equal(tooLarge.status, 416);
    assert.deepEqual(errorOf(tooLarge), {
      code: 'REQUESTED_RANGE_NOT_SATISFIABLE',
      message: 'the request body is too large and exceeds the maximum permissible limit of 4.00MiB',
    });
    assert.equal((await chunk(0, 40_000)).headers.range, '0-39999');
    assert.equal((await chunk(50_000, 60_000)).status, 416);
    assert.equal((await chunk(0, 40_000)).status, 416);
    assert.equal((await pusher.patch(location, 'x', 'bytes 40000-40000/*')).status, 416);
    assert.equal((await pusher.patch(location, 'xy', '40000-40000')).status, 400);
    assert.equal((await chunk(40_000, 80_000)).status, 202);
    assert.equal((await pusher.finish(location, layer.digest, layerBytes.subarray(80_000))).status, 201);
    assert.deepEqual(await pusher.pull(layer.digest), layerBytes);
  });

  test('the limit of a chunk is 4 MiB', async () => {
    await using ghcr = await startOpen();
    const pusher = new Pusher(ghcr);
    const location = await pusher.location();
    const bytes = Buffer.alloc(4 * MIB + 1);
    assert.equal((await pusher.patch(location, bytes, `0-${4 * MIB}`)).status, 416);
    assert.equal((await pusher.patch(location, bytes.subarray(1), `0-${4 * MIB - 1}`)).status, 202);
  });

  test('a failed finish leaves nothing', async t => {
    await using ghcr = await startOpen();
    const pusher = new Pusher(ghcr);
    const rows: [string, string][] = [
      ['the digest of something else', image.config.digest],
      ['no digest', ''],
      ['an unsupported algorithm', contentOf(layerBytes, 'sha512').digest],
    ];
    for (const [name, digest] of rows) {
      await t.test(name, async () => {
        const location = await pusher.location();
        const got = await pusher.finish(location, digest, layerBytes);
        assert.deepEqual([got.status, errorOf(got).code], [404, 'BLOB_UPLOAD_INVALID']);
        assert.equal((await pusher.ask('GET', location)).status, 404);
      });
    }
    assert.equal((await pusher.ask('HEAD', `blobs/${layer.digest}`)).status, 404);
    ghcr.switches.badFinish = 400;
    const got = await pusher.finish(await pusher.location(), image.config.digest, layerBytes);
    assert.deepEqual([got.status, errorOf(got).code], [400, 'DIGEST_INVALID']);
    ghcr.switches.digests = ['sha256', 'sha512'];
    assert.equal((await pusher.blob(contentOf(layerBytes, 'sha512'))).status, 201);
  });

  test('an upload can be cancelled, belongs to its repository, and expires', async () => {
    let now = 0;
    await using ghcr = await startOpen({}, { now: () => now });
    const pusher = new Pusher(ghcr);
    const location = await pusher.location();
    assert.equal((await pusher.ask('GET', location.replace(NAME, 'owner/other'))).status, 404);
    assert.equal((await pusher.ask('POST', location)).status, 405);
    assert.equal((await pusher.ask('DELETE', location)).status, 204);
    assert.equal((await pusher.ask('DELETE', location)).status, 404);
    const second = await pusher.location();
    now = 10 * 60_000;
    assert.equal((await pusher.ask('GET', second)).status, 404);
  });

  test('the Location can be absolute, have a query that must be sent back, or be anything', async () => {
    await using ghcr = await startOpen({ uploadLocation: 'absolute' });
    const pusher = new Pusher(ghcr);
    assert.ok((await pusher.location()).startsWith(`${ghcr.url}/v2/${NAME}/blobs/upload/`));
    assert.equal((await pusher.blob(layer)).status, 201);

    Object.assign(ghcr.switches, { uploadLocation: 'relative', uploadState: true });
    const first = await pusher.location();
    assert.match(first, /\?_state=/);
    assert.equal((await pusher.patch(first.replace(/\?.*/, ''), layerBytes)).status, 404);
    const { headers } = await pusher.patch(first, layerBytes);
    assert.equal((await pusher.finish(first, layer.digest)).status, 404);
    assert.equal((await pusher.finish(headers.location ?? '', layer.digest)).status, 201);

    ghcr.switches.uploadLocation = path => `http://elsewhere.example${path}`;
    assert.match(await pusher.location(), /^http:\/\/elsewhere\.example\/v2\//);
  });

  test('a layer can be too large, by its Content-Length or by its actual size', async () => {
    await using ghcr = await startOpen({ blobLimitBytes: 99_999 });
    const pusher = new Pusher(ghcr);
    for (const body of [layerBytes, slowly(layerBytes, 30_000)]) {
      const location = await pusher.location();
      assert.equal((await pusher.finish(location, layer.digest, body)).status, 413);
      assert.equal((await pusher.ask('GET', location)).status, 404);
    }
    const location = await pusher.location();
    assert.equal((await pusher.patch(location, layerBytes.subarray(1))).status, 202);
    assert.equal((await pusher.patch(location, 'x')).status, 413);
  });

  test('blobs are mounted from packages that hold them', async () => {
    await using ghcr = await startOpen();
    ghcr.push('other/base', image);
    const pusher = new Pusher(ghcr);
    const mounted = await pusher.start(`?mount=${layer.digest}&from=other/base`);
    assert.equal(mounted.status, 201);
    assert.equal(mounted.headers.location, `/v2/${NAME}/blobs/${layer.digest}`);
    assert.equal(mounted.headers['docker-content-digest'], layer.digest);
    assert.deepEqual(await pusher.pull(layer.digest), layerBytes);
    for (const query of [
      `?mount=${image.config.digest}`,
      `?mount=${image.config.digest}&from=other/none`,
      `?mount=${randomContent(1).digest}&from=other/base`,
    ]) {
      const got = await pusher.start(query);
      assert.deepEqual([got.status, got.headers.range], [202, '0-0'], query);
    }
  });

  test('requests for one upload are handled one after another', async () => {
    await using ghcr = await startOpen();
    const pusher = new Pusher(ghcr);
    const location = await pusher.location();
    const fault = ghcr.fault({ endpoint: 'upload', stallRequestAfter: 10, times: 1 });
    const first = pusher.patch(location, layerBytes.subarray(0, 60_000));
    await fault.reached();
    const second = pusher.patch(location, layerBytes.subarray(60_000));
    await ghcr.until({ endpoint: 'upload' }, 2);
    fault.remove();
    assert.deepEqual([(await first).headers.range, (await second).headers.range], ['0-59999', '0-99999']);
    assert.equal((await pusher.finish(location, layer.digest)).status, 201);
  });

  test('large uploads go to files, which are gone at the end', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'ghcr-fake-test-'));
    const before = process.env.TMPDIR;
    process.env.TMPDIR = directory;
    try {
      const filesIn = async () =>
        (await readdir(directory, { recursive: true, withFileTypes: true })).filter(e => e.isFile());
      const ghcr = await startOpen();
      const pusher = new Pusher(ghcr);
      await pusher.blob(layer);
      assert.equal((await filesIn()).length, 0);
      const large = randomContent(6 * MIB + 1, 'large');
      for (let i = 0; i < 2; i++) assert.equal((await pusher.blob(large)).status, 201);
      const location = await pusher.location();
      await pusher.patch(location, bytesOf(large));
      assert.equal((await filesIn()).length, 2);
      await pusher.ask('DELETE', location);
      assert.equal((await filesIn()).length, 1);
      assert.deepEqual(await pusher.pull(large.digest), bytesOf(large));
      const part = await pusher.ask('GET', `blobs/${large.digest}`);
      const range = { range: `bytes=${3 * MIB - 1}-${5 * MIB}` };
      assert.deepEqual(
        (await ask(part.headers.location ?? '', { headers: range })).body,
        bytesOf(large, 3 * MIB - 1, 5 * MIB + 1),
      );
      await pusher.patch(await pusher.location(), bytesOf(large));
      const fault = ghcr.fault({ endpoint: 'upload', stallRequestAfter: 5 * MIB });
      const cut = pusher.patch(await pusher.location(), bytesOf(large));
      await fault.reached();
      await ghcr.close();
      assert.equal((await cut).status, undefined);
      assert.deepEqual(await readdir(directory), []);
    } finally {
      if (before === undefined) delete process.env.TMPDIR;
      else process.env.TMPDIR = before;
      await rm(directory, { recursive: true });
    }
  });
});
