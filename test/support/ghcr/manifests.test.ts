// Manifests: pulled and pushed byte for byte, checked before they are accepted, deleted, and listed as referrers.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { digestOf } from '../../../src/oci/digest.ts';
import { makeImage, makeIndex } from '../images.ts';
import { ask, errorOf } from './ask.ts';
import {
  ACCEPT,
  BLOB,
  image,
  layer,
  layerBytes,
  MANIFEST,
  MIB,
  NAME,
  Pusher,
  pullLayer,
  startFilled,
  startOpen,
} from './fixture.ts';

describe('manifests', () => {
  test('HEAD and GET, by tag and by digest', async () => {
    await using ghcr = await startFilled();
    const { bytes, digest, mediaType } = image.manifest;
    for (const method of ['HEAD', 'GET']) {
      for (const reference of ['latest', digest]) {
        const got = await ask(`${ghcr.url}/v2/${NAME}/manifests/${reference}`, { method, headers: ACCEPT });
        assert.equal(got.status, 200);
        assert.equal(got.headers['content-length'], String(bytes.length));
        assert.equal(got.headers['content-type'], mediaType);
        assert.equal(got.headers['docker-content-digest'], digest);
        assert.equal(got.headers.etag, `"${digest}"`);
        assert.deepEqual(got.body, method === 'GET' ? bytes : Buffer.alloc(0));
      }
    }
    assert.equal(ghcr.count({ endpoint: 'manifest', method: 'HEAD', reference: 'latest' }), 1);
    assert.equal(ghcr.count({ digest }), 2);
  });

  test('a manifest whose type Accept does not name is not found', async () => {
    await using ghcr = await startFilled();
    ghcr.push(NAME, makeIndex([image]), 'multi');
    const url = `${ghcr.url}/v2/${NAME}/manifests/multi`;
    const rejected = await ask(url, { headers: { accept: `${image.manifest.mediaType}, */*` } });
    assert.equal(rejected.status, 404);
    assert.deepEqual(errorOf(rejected), {
      code: 'MANIFEST_UNKNOWN',
      message: 'OCI index found, but Accept header does not support OCI indexes',
    });
    ghcr.switches.enforceAccept = false;
    assert.equal((await ask(url)).status, 200);
  });

  test('If-None-Match is supported only when switched on', async () => {
    await using ghcr = await startFilled();
    const headers = { ...ACCEPT, 'if-none-match': `"${image.manifest.digest}"` };
    assert.equal((await ask(ghcr.url + MANIFEST, { headers })).status, 200);
    ghcr.switches.ifNoneMatch = true;
    assert.equal((await ask(ghcr.url + MANIFEST, { headers })).status, 304);
    assert.equal((await ask(ghcr.url + MANIFEST, { headers: { ...headers, 'if-none-match': '"x"' } })).status, 200);
  });

  test('headers can be omitted', async () => {
    await using ghcr = await startFilled({ omitContentLength: true, omitDigest: true, omitEtag: true });
    for (const method of ['HEAD', 'GET']) {
      const { status, headers } = await ask(ghcr.url + MANIFEST, { method, headers: ACCEPT });
      assert.equal(status, 200);
      for (const name of ['content-length', 'docker-content-digest', 'etag']) {
        assert.equal(headers[name], undefined);
      }
    }
    const got = await pullLayer(ghcr);
    assert.equal(got.headers['transfer-encoding'], 'chunked');
    assert.deepEqual(got.body, layerBytes);
  });

  test('tags can be moved, and everything deleted', async () => {
    await using ghcr = await startFilled();
    const second = makeImage({ layers: [1], seed: 'second' });
    ghcr.push(NAME, second);
    const statusOf = async (path: string) => (await ask(ghcr.url + path, { headers: ACCEPT })).status;
    ghcr.setTag(NAME, 'latest', second.manifest.digest);
    assert.deepEqual((await ask(ghcr.url + MANIFEST, { headers: ACCEPT })).body, second.manifest.bytes);
    ghcr.deleteManifest(NAME, second.manifest.digest);
    assert.equal(await statusOf(MANIFEST), 404);
    ghcr.setTag(NAME, 'latest', image.manifest.digest);
    assert.equal(await statusOf(MANIFEST), 200);
    ghcr.deleteTag(NAME, 'latest');
    assert.equal(await statusOf(MANIFEST), 404);
    assert.equal(await statusOf(`/v2/${NAME}/manifests/${image.manifest.digest}`), 200);
    ghcr.deleteBlob(NAME, layer.digest);
    assert.equal(await statusOf(BLOB), 404);
    ghcr.deletePackage(NAME);
    assert.equal(await statusOf(`/v2/${NAME}/manifests/${image.manifest.digest}`), 404);
    assert.equal((await ask(ghcr.url + MANIFEST, { method: 'DELETE' })).status, 405);
  });
});

describe('pushed manifests', () => {
  test('by tag and by digest, byte for byte, with the type from Content-Type', async () => {
    await using ghcr = await startOpen();
    const pusher = new Pusher(ghcr);
    const { digest } = image.manifest;
    for (const reference of ['v1', digest]) {
      const put = await pusher.image(image, reference);
      assert.equal(put.status, 201);
      assert.equal(put.headers.location, `/v2/${NAME}/manifests/${digest}`);
      assert.equal(put.headers['docker-content-digest'], digest);
    }
    const spaced = Buffer.from(`${image.manifest.bytes} \n`);
    assert.equal((await pusher.manifest('v2', spaced, 'application/vnd.other+json; charset=utf-8')).status, 201);
    const got = await pusher.ask('GET', 'manifests/v2', {
      headers: { accept: 'application/vnd.other+json' },
    });
    assert.deepEqual(got.body, spaced);
    assert.equal(got.headers['content-type'], 'application/vnd.other+json');
    assert.equal(got.headers['docker-content-digest'], digestOf(spaced));
    const { body } = await pusher.ask('GET', 'tags/list');
    assert.deepEqual(JSON.parse(body.toString()).tags, ['v1', 'v2']);
  });

  test('everything that a manifest refers to must exist, except the subject', async () => {
    await using ghcr = await startOpen();
    const pusher = new Pusher(ghcr);
    const { bytes, mediaType, digest } = image.manifest;
    for (const content of [image.config, layer]) {
      const rejected = await pusher.manifest('v1', bytes, mediaType);
      assert.equal(rejected.status, 400);
      const { code, detail } = errorOf(rejected);
      assert.deepEqual([code, detail], ['MANIFEST_BLOB_UNKNOWN', content.digest]);
      await pusher.blob(content);
    }
    const index = makeIndex([image]).manifest;
    const rejected = await pusher.manifest('multi', index.bytes, index.mediaType);
    assert.deepEqual([errorOf(rejected).code, errorOf(rejected).detail], ['MANIFEST_BLOB_UNKNOWN', digest]);
    assert.equal((await pusher.manifest('v1', bytes, mediaType)).status, 201);
    assert.equal((await pusher.manifest('multi', index.bytes, index.mediaType)).status, 201);
    const subject = makeImage({ layers: [1] }).manifest;
    assert.equal((await pusher.image(makeImage({ layers: [2], subject }), 'referrer')).status, 201);
    const foreign = {
      mediaType: 'application/vnd.oci.image.layer.nondistributable.v1.tar',
      digest: 'sha256:0',
    };
    const windows = JSON.stringify({ schemaVersion: 2, layers: [foreign] });
    assert.equal((await pusher.manifest('windows', windows, mediaType)).status, 201);
  });

  test('rejected: what is not a manifest, or not the one that was named', async t => {
    await using ghcr = await startOpen();
    const pusher = new Pusher(ghcr);
    const { mediaType } = image.manifest;
    const padded = (size: number) => JSON.stringify({ schemaVersion: 2 }).padEnd(size);
    const rows: [string, string, string, string | undefined, number, string][] = [
      ['no JSON', 'v1', '{', mediaType, 400, 'MANIFEST_INVALID'],
      ['no type', 'v1', '{}', undefined, 400, 'MANIFEST_INVALID'],
      ['no tag', '.v1', '{}', mediaType, 400, 'TAG_INVALID'],
      ['another digest', image.manifest.digest, '{}', mediaType, 400, 'DIGEST_INVALID'],
      ['an unsupported algorithm', digestOf(Buffer.from('{}'), 'sha512'), '{}', mediaType, 400, 'DIGEST_INVALID'],
      ['too large', 'v1', padded(4 * MIB + 1), mediaType, 413, 'SIZE_INVALID'],
    ];
    for (const [name, reference, bytes, type, status, code] of rows) {
      await t.test(name, async () => {
        const got = await pusher.manifest(reference, bytes, type);
        assert.deepEqual([got.status, errorOf(got).code], [status, code]);
      });
    }
    assert.equal((await pusher.manifest('v1', padded(4 * MIB), mediaType)).status, 201);
  });

  test('names in the query, and mounts without `from`, come with the next version of the spec', async () => {
    await using ghcr = await startOpen({ digests: ['sha256', 'sha512'] });
    ghcr.push('other/base', image);
    const pusher = new Pusher(ghcr);
    const { bytes, mediaType, digest } = image.manifest;
    assert.equal((await pusher.start(`?mount=${layer.digest}`)).status, 202);
    await pusher.image(image, `${digest}?tag=a&tag=b`);
    assert.equal((await pusher.ask('HEAD', 'manifests/a', { headers: ACCEPT })).status, 404);

    ghcr.switches.nextSpec = true;
    assert.equal((await pusher.start(`?mount=${layer.digest}`)).status, 201);
    const put = await pusher.manifest(`${digest}?tag=a&tag=b`, bytes, mediaType);
    assert.equal(put.headers['oci-tag'], 'a, b');
    assert.equal((await pusher.ask('HEAD', 'manifests/b', { headers: ACCEPT })).status, 200);
    assert.equal((await pusher.manifest(`${digest}?tag=.b`, bytes, mediaType)).status, 400);
    const sha512 = digestOf(bytes, 'sha512');
    const named = await pusher.manifest(`c?digest=${sha512}`, bytes, mediaType);
    assert.equal(named.headers['docker-content-digest'], sha512);
  });
});

describe('referrers', () => {
  test('ghcr.io has no referrers API', async () => {
    await using ghcr = await startFilled();
    const url = `${ghcr.url}/v2/${NAME}/referrers/${image.manifest.digest}`;
    const redirect = await ask(url);
    assert.equal(redirect.status, 303);
    assert.equal((await ask(redirect.headers.location ?? '')).status, 404);
    ghcr.switches.referrers = 'not-found';
    assert.equal(errorOf(await ask(url)).code, 'MANIFEST_UNKNOWN');
  });

  test('subjects are tracked only by a registry with the referrers API', async () => {
    await using ghcr = await startOpen();
    const pusher = new Pusher(ghcr);
    const subject = image.manifest;
    const signature = makeImage({
      layers: [1],
      subject,
      artifactType: 'application/x.sig',
      annotations: { a: 'b' },
    });
    const plain = makeImage({ layers: [2], subject });
    const url = `referrers/${subject.digest}`;
    assert.equal((await pusher.image(signature, 'sig')).headers['oci-subject'], undefined);
    assert.equal((await pusher.ask('GET', url)).status, 303);

    ghcr.switches.referrers = 'supported';
    assert.equal((await pusher.image(plain, 'plain')).headers['oci-subject'], subject.digest);
    const all = await pusher.ask('GET', url);
    assert.equal(all.status, 200);
    assert.equal(all.headers['content-type'], 'application/vnd.oci.image.index.v1+json');
    const listed = JSON.parse(all.body.toString()).manifests;
    assert.deepEqual(listed, [
      {
        mediaType: signature.manifest.mediaType,
        digest: signature.manifest.digest,
        size: signature.manifest.bytes.length,
        artifactType: 'application/x.sig',
        annotations: { a: 'b' },
      },
      {
        mediaType: plain.manifest.mediaType,
        digest: plain.manifest.digest,
        size: plain.manifest.bytes.length,
        artifactType: 'application/vnd.oci.image.config.v1+json',
      },
    ]);
    const filtered = await pusher.ask('GET', `${url}?artifactType=application/x.sig`);
    assert.equal(filtered.headers['oci-filters-applied'], 'artifactType');
    assert.deepEqual(JSON.parse(filtered.body.toString()).manifests, listed.slice(0, 1));
    const none = await pusher.ask('GET', `referrers/${layer.digest}`);
    assert.deepEqual([none.status, JSON.parse(none.body.toString()).manifests], [200, []]);
    assert.equal((await pusher.ask('GET', 'referrers/sha256:0')).status, 400);
  });
});
