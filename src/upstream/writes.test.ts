// Mounts, questions for blobs, and manifests.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { contentOf, makeImage } from '../../test/support/images.ts';
import { type ScriptedReply, type Seen, startScripted } from '../../test/support/scripted-server.ts';
import { APP, connectTo, connectToGhcr, fails, scopesIn } from '../../test/support/upstream-clients.ts';
import type { ErrorCode } from '../oci/errors.ts';
import type { Repository } from '../oci/reference.ts';

describe('a mount', () => {
  const blob = contentOf('blob');
  const from: Repository = { upstream: 'ghcr.io', name: 'owner/from' };

  test('that is granted is one request', async t => {
    const { origin, seen } = await startScripted(t, () => ({ status: 201, headers: { location: '/v2/x' } }));
    assert.equal(await connectTo(t, origin).writes.mountBlob(APP, blob.digest, from), true);
    const [{ method, url, headers } = assert.fail(), ...others] = seen;
    assert.equal(`${method} ${url.pathname}`, 'POST /v2/owner/app/blobs/uploads/');
    assert.deepEqual(
      [...url.searchParams],
      [
        ['mount', blob.digest],
        ['from', 'owner/from'],
      ],
    );
    assert.equal(headers['content-length'], '0');
    assert.deepEqual(others, []);
  });

  test('that is not granted leaves no upload behind', async t => {
    const cancelled = Promise.withResolvers<Seen>();
    const { origin } = await startScripted(t, seen => {
      if (seen.method === 'DELETE') cancelled.resolve(seen);
      return { status: 202, headers: { location: '/v2/owner/app/blobs/upload/1?state=2' } };
    });
    assert.equal(await connectTo(t, origin).writes.mountBlob(APP, blob.digest, from), false);
    const { url } = await cancelled.promise;
    assert.equal(url.pathname + url.search, '/v2/owner/app/blobs/upload/1?state=2');
  });

  for (const headers of [{}, { location: 'http://elsewhere.example/upload' }]) {
    const how = 'location' in headers ? 'answered with an upload where it is not safe' : 'answered with an upload';
    test(`that is not granted, ${'location' in headers ? 'and' : 'nor'} ${how}, deletes nothing`, async t => {
      const { origin, seen } = await startScripted(t, () => ({ status: 202, headers }));
      const { writes } = connectTo(t, origin);
      assert.equal(await writes.mountBlob(APP, blob.digest, from), false);
      await writes.holdsBlob(APP, blob.digest);
      assert.deepEqual(
        seen.map(({ method }) => method),
        ['POST', 'HEAD'],
      );
    });
  }

  test('that is denied throws, and is not tried as an upload', async t => {
    const { origin } = await startScripted(t, () => ({ status: 403 }));
    await assert.rejects(connectTo(t, origin).writes.mountBlob(APP, blob.digest, from), fails('DENIED'));
  });

  test('asks the fake ghcr.io for the right to both repositories, and brings the blob there', async t => {
    const { ghcr, writes } = await connectToGhcr(t);
    ghcr.addPackage('owner/from', { visibility: 'private' });
    ghcr.addBlob('owner/from', blob);
    assert.equal(await writes.mountBlob(APP, blob.digest, from), true);
    const [token] = ghcr.requests.filter(({ endpoint }) => endpoint === 'token');
    assert.deepEqual(scopesIn(token?.path), ['repository:owner/app:pull,push', 'repository:owner/from:pull']);
    assert.equal(await writes.holdsBlob(APP, blob.digest), true);
    assert.equal(await writes.mountBlob(APP, contentOf('another').digest, from), false);
    await ghcr.until({ endpoint: 'upload', method: 'DELETE', status: 204 });
  });
});

describe('whether a blob is there', () => {
  const { digest } = contentOf('blob');
  const table: [what: string, reply: ScriptedReply, holds: boolean][] = [
    ['is said by a 200', { status: 200 }, true],
    ['is said by a redirect, which is not followed', { status: 307, headers: { location: '/x' } }, true],
    ['is said by a 404', { status: 404 }, false],
    ['is not told to those who are denied', { status: 403 }, false],
    ['is not told to those who are not known', { status: 401 }, false],
  ];
  for (const [what, reply, holds] of table) {
    test(what, async t => {
      const { origin, seen } = await startScripted(t, () => reply);
      assert.equal(await connectTo(t, origin).writes.holdsBlob(APP, digest), holds);
      assert.deepEqual(
        new Set(seen.map(({ method, url }) => `${method} ${url.pathname}`)),
        new Set([`HEAD /v2/owner/app/blobs/${digest}`]),
      );
    });
  }

  test('is not known when the upstream is unavailable', async t => {
    const { origin, seen } = await startScripted(t, () => ({ status: 503 }));
    await assert.rejects(connectTo(t, origin).writes.holdsBlob(APP, digest), fails('UPSTREAM_UNAVAILABLE'));
    assert.equal(seen.length, 3);
  });
});

describe('a manifest that is pushed', () => {
  const { manifest } = makeImage({ layers: [] });

  for (const [reference, last] of [
    [{ tag: 'v1' }, 'v1'],
    [{ digest: manifest.digest }, manifest.digest],
  ] as const) {
    test(`goes as it is under its ${reference.tag ? 'tag' : 'digest'}`, async t => {
      const { origin, seen } = await startScripted(t, () => ({ status: 201 }));
      const { writes } = connectTo(t, origin);
      assert.deepEqual(await writes.putManifest(APP, reference, manifest), { notedSubject: false });
      const [{ method, url, headers, body } = assert.fail()] = seen;
      assert.equal(`${method} ${url.pathname}`, `PUT /v2/owner/app/manifests/${last}`);
      assert.equal(headers['content-type'], manifest.mediaType);
      assert.equal(headers['content-length'], `${manifest.bytes.length}`);
      assert.deepEqual(body, manifest.bytes);
    });
  }

  test('comes back with whether its subject was noted', async t => {
    const { origin } = await startScripted(t, () => ({
      status: 201,
      headers: { 'oci-subject': manifest.digest },
    }));
    assert.deepEqual(await connectTo(t, origin).writes.putManifest(APP, { tag: 'v1' }, manifest), {
      notedSubject: true,
    });
  });

  test('goes again, whole, when the upstream failed', async t => {
    const replies: (ScriptedReply | undefined)[] = [{ status: 503 }, undefined, { status: 201 }];
    const { origin, seen } = await startScripted(t, () => replies.shift());
    await connectTo(t, origin).writes.putManifest(APP, { tag: 'v1' }, manifest);
    assert.deepEqual(
      seen.map(({ body }) => body),
      Array(3).fill(manifest.bytes),
    );
  });

  const rejections: [status: number, code: string, expected: ErrorCode][] = [
    [400, 'MANIFEST_INVALID', 'MANIFEST_INVALID'],
    [400, 'MANIFEST_UNVERIFIED', 'MANIFEST_INVALID'],
    [400, 'TAG_INVALID', 'TAG_INVALID'],
    [404, 'MANIFEST_BLOB_UNKNOWN', 'MANIFEST_BLOB_UNKNOWN'],
    [404, 'NAME_UNKNOWN', 'NAME_UNKNOWN'],
    [404, 'BLOB_UNKNOWN', 'NAME_UNKNOWN'],
    [413, 'MANIFEST_INVALID', 'TOO_LARGE'],
  ];
  for (const [status, code, expected] of rejections) {
    test(`and rejected with ${status} ${code} fails with ${expected}, at once`, async t => {
      const body = JSON.stringify({ errors: [{ code, message: 'why' }] });
      const { origin, seen } = await startScripted(t, () => ({ status, body }));
      const putting = connectTo(t, origin).writes.putManifest(APP, { tag: 'v1' }, manifest);
      await assert.rejects(putting, fails(expected, /ghcr\.io\/owner\/app:v1.*why/));
      assert.equal(seen.length, 1);
    });
  }
});
