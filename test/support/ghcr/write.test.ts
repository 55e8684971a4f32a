// Proves the writing half of the stand-in for ghcr.io over raw HTTP: uploads, manifests, who may push, GitHub's
// package interface, and the faults of requests that carry bodies.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import type { IncomingMessage } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { describe, test } from 'node:test';
import { digestOf } from '../../../src/oci/digest.ts';
import { MANIFEST_TYPES } from '../../../src/oci/manifest.ts';
import {
  bytesOf,
  type Content,
  contentOf,
  type Image,
  makeImage,
  makeIndex,
  randomContent,
} from '../images.ts';
import { type Asking, ask, basic, bearer, errorOf, type Got } from './ask.ts';
import { answers, type Ghcr, type GhcrOptions, type Switches, startGhcr, type User } from './ghcr.ts';

const NAME = 'owner/app';
const MIB = 1024 * 1024;
const ACCEPT = { accept: MANIFEST_TYPES.join(', ') };
const image = makeImage({ layers: [100_000] });
const layer = image.layers[0] ?? assert.fail();
const layerBytes = bytesOf(layer);

/** A stand-in that asks nobody for credentials unless a switch says so. */
const startOpen = (switches: Partial<Switches> = {}, options: GhcrOptions = {}): Promise<Ghcr> =>
  startGhcr({ ...options, switches: { auth: 'none', ...switches } });

/** What it takes to reach one repository of a stand-in, with whatever credentials. */
class Pusher {
  readonly #ghcr: Ghcr;
  readonly #name: string;
  readonly #headers: Record<string, string>;

  constructor(ghcr: Ghcr, name = NAME, headers: Record<string, string> = {}) {
    this.#ghcr = ghcr;
    this.#name = name;
    this.#headers = headers;
  }

  ask(method: string, path: string, asking: Asking = {}): Promise<Got> {
    const url = new URL(path, `${this.#ghcr.url}/v2/${this.#name}/`).href;
    return ask(url, { ...asking, method, headers: { ...this.#headers, ...asking.headers } });
  }

  start(query = ''): Promise<Got> {
    return this.ask('POST', `blobs/uploads/${query}`);
  }

  /** Where a new upload is. */
  async location(): Promise<string> {
    return (await this.start()).headers.location ?? assert.fail('no Location');
  }

  patch(location: string, body: Asking['body'], contentRange?: string): Promise<Got> {
    const headers = contentRange === undefined ? {} : { 'content-range': contentRange };
    return this.ask('PATCH', location, { body: body ?? '', headers });
  }

  finish(location: string, digest: string, body?: Asking['body']): Promise<Got> {
    const target = `${location}${location.includes('?') ? '&' : '?'}digest=${digest}`;
    return this.ask('PUT', target, body === undefined ? {} : { body });
  }

  async blob(content: Content): Promise<Got> {
    return this.finish(await this.location(), content.digest, bytesOf(content));
  }

  manifest(reference: string, bytes: Uint8Array | string, type: string | undefined): Promise<Got> {
    const headers = type === undefined ? {} : { 'content-type': type };
    return this.ask('PUT', `manifests/${reference}`, { body: bytes, headers });
  }

  async image({ config, layers, manifest }: Image, reference: string): Promise<Got> {
    for (const content of [config, ...layers]) assert.equal((await this.blob(content)).status, 201);
    return this.manifest(reference, manifest.bytes, manifest.mediaType);
  }

  /** The blob from wherever the registry sends for it. */
  async pull(digest: string): Promise<Buffer> {
    const { headers } = await this.ask('GET', `blobs/${digest}`);
    return (await ask(headers.location ?? '')).body;
  }
}

async function* slowly(bytes: Uint8Array, pieceBytes: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
}

describe('uploads', () => {
  test('POST tells where to go on, relative and in the singular', async () => {
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

  test('chunks are taken in order, and up to a size', async () => {
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

  test('a bad finish leaves nothing', async t => {
    await using ghcr = await startOpen();
    const pusher = new Pusher(ghcr);
    const rows: [string, string][] = [
      ['the digest of something else', image.config.digest],
      ['no digest', ''],
      ['an algorithm that it does not take', contentOf(layerBytes, 'sha512').digest],
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

  test('an upload can be given up, belongs to its repository, and ends by itself', async () => {
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

  test('the Location can be absolute, have a query that has to come back, or be any', async () => {
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

  test('a layer can be too large, whether that is said before or found out', async () => {
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

  test('requests for one upload are carried out one after another', async () => {
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

  test('what is large goes to files, which are gone at the end', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'ghcr-stand-in-test-'));
    const before = process.env.TMPDIR;
    process.env.TMPDIR = folder;
    try {
      const filesIn = async () =>
        (await readdir(folder, { recursive: true, withFileTypes: true })).filter(e => e.isFile());
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
      assert.deepEqual(await readdir(folder), []);
    } finally {
      if (before === undefined) delete process.env.TMPDIR;
      else process.env.TMPDIR = before;
      await rm(folder, { recursive: true });
    }
  });
});

describe('pushed manifests', () => {
  test('by tag and by digest, byte for byte, under the type that was said', async () => {
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
    assert.equal(
      (await pusher.manifest('v2', spaced, 'application/vnd.other+json; charset=utf-8')).status,
      201,
    );
    const got = await pusher.ask('GET', 'manifests/v2', {
      headers: { accept: 'application/vnd.other+json' },
    });
    assert.deepEqual(got.body, spaced);
    assert.equal(got.headers['content-type'], 'application/vnd.other+json');
    assert.equal(got.headers['docker-content-digest'], digestOf(spaced));
    const { body } = await pusher.ask('GET', 'tags/list');
    assert.deepEqual(JSON.parse(body.toString()).tags, ['v1', 'v2']);
  });

  test('nothing may be missing but the subject', async () => {
    await using ghcr = await startOpen();
    const pusher = new Pusher(ghcr);
    const { bytes, mediaType, digest } = image.manifest;
    for (const content of [image.config, layer]) {
      const refused = await pusher.manifest('v1', bytes, mediaType);
      assert.equal(refused.status, 400);
      const { code, detail } = errorOf(refused);
      assert.deepEqual([code, detail], ['MANIFEST_BLOB_UNKNOWN', content.digest]);
      await pusher.blob(content);
    }
    const index = makeIndex([image]).manifest;
    const refused = await pusher.manifest('multi', index.bytes, index.mediaType);
    assert.deepEqual([errorOf(refused).code, errorOf(refused).detail], ['MANIFEST_BLOB_UNKNOWN', digest]);
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

  test('what is no manifest, or not the one that was named', async t => {
    await using ghcr = await startOpen();
    const pusher = new Pusher(ghcr);
    const { mediaType } = image.manifest;
    const padded = (size: number) => JSON.stringify({ schemaVersion: 2 }).padEnd(size);
    const rows: [string, string, string, string | undefined, number, string][] = [
      ['no JSON', 'v1', '{', mediaType, 400, 'MANIFEST_INVALID'],
      ['no type', 'v1', '{}', undefined, 400, 'MANIFEST_INVALID'],
      ['no tag', '.v1', '{}', mediaType, 400, 'TAG_INVALID'],
      ['another digest', image.manifest.digest, '{}', mediaType, 400, 'DIGEST_INVALID'],
      [
        'an algorithm that is not taken',
        digestOf(Buffer.from('{}'), 'sha512'),
        '{}',
        mediaType,
        400,
        'DIGEST_INVALID',
      ],
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

  test('names in the query, and mounts from anywhere, are for the next version of the spec', async () => {
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

  test('subjects are known only to a registry with referrers', async () => {
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

describe('deleting on /v2/', () => {
  test('ghcr does not', async () => {
    await using ghcr = await startOpen();
    ghcr.push(NAME, image, 'v1');
    const pusher = new Pusher(ghcr);
    for (const path of ['manifests/v1', `manifests/${image.manifest.digest}`, `blobs/${layer.digest}`]) {
      const got = await pusher.ask('DELETE', path);
      assert.deepEqual([got.status, errorOf(got).code], [405, 'UNSUPPORTED']);
    }
  });

  test('an ordinary registry deletes a tag alone, a manifest with its tags, and blobs', async () => {
    await using ghcr = await startOpen({ allowDelete: true });
    ghcr.push(NAME, image, 'v1', 'v2', 'v3');
    const pusher = new Pusher(ghcr);
    const statuses: unknown[] = [];
    for (const path of ['manifests/v1', `manifests/${image.manifest.digest}`, `blobs/${layer.digest}`]) {
      statuses.push((await pusher.ask('DELETE', path)).status);
      const { body } = await pusher.ask('GET', 'tags/list');
      statuses.push(JSON.parse(body.toString()).tags.length);
      statuses.push((await pusher.ask('DELETE', path)).status);
    }
    assert.deepEqual(statuses, [202, 2, 404, 202, 0, 404, 202, 0, 404]);
  });
});

const WRITER = {
  username: 'alice',
  token: 'ghp_alice',
  scopes: ['write:packages'],
  packages: ['owner/*'],
} satisfies User;

describe('rights to write', () => {
  const tokenUrl = ({ url }: Ghcr, ...scopes: string[]) =>
    `${url}/token?service=ghcr.io&${scopes.map(scope => `scope=repository:${scope}`).join('&')}`;
  const askToken = (ghcr: Ghcr, user: User | undefined, ...scopes: string[]) =>
    ask(tokenUrl(ghcr, ...scopes), user && { headers: basic(user.username, user.token) });
  const authorized = async (ghcr: Ghcr, user: User, ...scopes: string[]) =>
    bearer(JSON.parse((await askToken(ghcr, user, ...scopes)).body.toString()).token);

  test('a push makes a private package that its user may read', async () => {
    await using ghcr = await startGhcr();
    const user = { ...WRITER, packages: [], writes: ['owner/*'] };
    ghcr.addUser(user);
    ghcr.addUser({ username: 'bob', token: 'ghp_bob' });
    const challenged = await new Pusher(ghcr).start();
    assert.match(String(challenged.headers['www-authenticate']), /scope="repository:owner\/app:pull,push"$/);
    const headers = await authorized(ghcr, user, `${NAME}:pull,push`);
    assert.equal((await new Pusher(ghcr, NAME, headers).image(image, 'v1')).status, 201);
    assert.equal(ghcr.packages().find(({ name }) => name === NAME)?.visibility, 'private');

    ghcr.addUser({ ...user, writes: [] });
    const mine = new Pusher(ghcr, NAME, await authorized(ghcr, user, `${NAME}:pull`));
    assert.deepEqual((await mine.ask('GET', 'manifests/v1', { headers: ACCEPT })).body, image.manifest.bytes);
    const others = new Pusher(
      ghcr,
      NAME,
      await authorized(ghcr, { username: 'bob', token: 'ghp_bob' }, `${NAME}:pull`),
    );
    assert.equal((await others.ask('GET', 'manifests/v1', { headers: ACCEPT })).status, 403);
    assert.equal((await askToken(ghcr, undefined, `${NAME}:pull`)).status, 401);
  });

  test('who is given a token to push', async t => {
    await using ghcr = await startGhcr();
    ghcr.push(NAME, image, 'v1');
    const reader = { username: 'reader', token: 't', packages: ['owner/*'] };
    const stranger = { ...WRITER, username: 'stranger', packages: ['other/*'] };
    const writer = { ...WRITER, username: 'writer', writes: [NAME], packages: [] };
    const all = { ...WRITER, username: 'all', packages: ['*'] };
    for (const user of [reader, stranger, writer, all]) ghcr.addUser(user);
    const mismatch = 'permission_denied: The token provided does not match expected scopes.';
    const rows: [string, User | undefined, string, number, string?][] = [
      ['anonymous', undefined, `${NAME}:pull,push`, 403, 'requested access to the resource is denied'],
      ['without the scope', reader, `${NAME}:pull,push`, 403, mismatch],
      ['of others', stranger, `${NAME}:push`, 403, 'permission_denied: write_package'],
      ['of others, only to pull', stranger, `${NAME}:pull`, 200],
      ['by a right to write', writer, `${NAME}:pull,push`, 200],
      ['not beyond it', writer, 'owner/new:pull,push', 403, 'permission_denied: write_package'],
      ['for everything', all, 'any/where:pull,push', 200],
      ['everything of it', all, `${NAME}:*`, 200],
      ['to delete', all, `${NAME}:delete`, 403, mismatch],
    ];
    for (const [name, user, scope, status, message] of rows) {
      await t.test(name, async () => {
        const got = await askToken(ghcr, user, scope);
        assert.equal(got.status, status);
        if (message) assert.equal(errorOf(got).message, message);
      });
    }
  });

  test('a refusal can come later, from HEAD of a blob on', async t => {
    await using ghcr = await startGhcr({ switches: { pushDenied: 'later-403' } });
    ghcr.push(NAME, image, 'v1');
    const stranger = { ...WRITER, packages: [] };
    ghcr.addUser(stranger);
    const unauthenticated = 'unauthenticated: User cannot be authenticated with the token provided.';
    const rows = [
      ['later-403', 403, 'DENIED', 'permission_denied: write_package'],
      ['later-unauthenticated', 401, 'UNAUTHORIZED', unauthenticated],
    ] as const;
    for (const [pushDenied, status, code, message] of rows) {
      await t.test(pushDenied, async () => {
        ghcr.switches.pushDenied = pushDenied;
        const pusher = new Pusher(ghcr, NAME, await authorized(ghcr, stranger, `${NAME}:pull,push`));
        assert.equal((await pusher.ask('HEAD', `blobs/${layer.digest}`)).status, status);
        assert.equal((await pusher.ask('HEAD', 'manifests/v1', { headers: ACCEPT })).status, 200);
        const refused = await pusher.start();
        assert.equal(refused.status, status);
        assert.equal(refused.headers['www-authenticate'], undefined);
        assert.deepEqual(errorOf(refused), { code, message });
        assert.equal((await pusher.manifest('v1', image.manifest.bytes, undefined)).status, status);
      });
    }
  });

  test('a token to pull does not push, and one to push only its own repository', async () => {
    await using ghcr = await startGhcr();
    ghcr.addUser(WRITER);
    for (const scope of [`${NAME}:pull`, 'owner/other:pull,push']) {
      const got = await new Pusher(ghcr, NAME, await authorized(ghcr, WRITER, scope)).start();
      assert.deepEqual([got.status, errorOf(got).code], [403, 'DENIED'], scope);
    }
    const pat = bearer(Buffer.from(WRITER.token).toString('base64'));
    assert.equal((await new Pusher(ghcr, NAME, pat).start()).status, 202);
  });

  test('to mount takes the right to read the other package, and a token for both', async () => {
    await using ghcr = await startGhcr();
    ghcr.addUser(WRITER);
    ghcr.push('other/public', image);
    ghcr.addPackage('other/private', { visibility: 'private' });
    ghcr.push('other/private', image);
    const statusFrom = async (from: string, ...scopes: string[]) => {
      const headers = await authorized(ghcr, WRITER, `${NAME}:pull,push`, ...scopes);
      const got = await new Pusher(ghcr, NAME, headers).start(`?mount=${layer.digest}&from=${from}`);
      return got.status;
    };
    assert.equal(await statusFrom('other/public', 'other/public:pull'), 201);
    assert.equal(await statusFrom('other/public'), 202);
    assert.equal(await statusFrom('other/private', 'other/private:pull'), 202);
    ghcr.addUser({ ...WRITER, packages: ['owner/*', 'other/*'] });
    assert.equal(await statusFrom('other/private', 'other/private:pull'), 201);
  });

  test('to delete takes its own scope', async () => {
    await using ghcr = await startGhcr({ switches: { allowDelete: true } });
    ghcr.push(NAME, image, 'v1');
    const deleter = { ...WRITER, username: 'deleter', scopes: ['delete:packages', 'read:packages'] };
    for (const user of [WRITER, deleter]) ghcr.addUser(user);
    const statusOf = async (user: User, action: string) => {
      const headers = await authorized(ghcr, user, `${NAME}:${action}`);
      return (await new Pusher(ghcr, NAME, headers).ask('DELETE', 'manifests/v1')).status;
    };
    assert.equal(await statusOf(WRITER, '*'), 403);
    assert.equal(await statusOf(deleter, 'pull'), 403);
    assert.equal(await statusOf(deleter, 'delete'), 202);
  });

  test('a token can expire in the middle of a push', async () => {
    await using ghcr = await startGhcr();
    ghcr.addUser(WRITER);
    const pusher = new Pusher(ghcr, NAME, await authorized(ghcr, WRITER, `${NAME}:pull,push`));
    const location = await pusher.location();
    const fault = ghcr.fault({ endpoint: 'upload', stallRequestAfter: 50_000 });
    const patched = pusher.patch(location, layerBytes);
    await fault.reached();
    ghcr.expireTokens();
    fault.remove();
    assert.equal((await patched).status, 202);
    const refused = await pusher.finish(location, layer.digest);
    assert.equal(refused.status, 401);
    assert.match(String(refused.headers['www-authenticate']), /:pull,push"$/);
    const again = new Pusher(ghcr, NAME, await authorized(ghcr, WRITER, `${NAME}:pull,push`));
    assert.equal((await again.finish(location, layer.digest)).status, 201);
  });
});

describe('the package interface', () => {
  const deleter = {
    username: 'alice',
    token: 'ghp_alice',
    scopes: ['read:packages', 'delete:packages'],
    packages: ['org/*', 'alice/*'],
    expiration: '2030-01-31 12:00:00 UTC',
  } satisfies User;
  const agent = { 'user-agent': 'test' };
  const credentials = { ...agent, ...bearer(deleter.token) };
  const VERSIONS = '/orgs/org/packages/container/team%2Fapp/versions';
  const images = ['a', 'b', 'c'].map(seed => makeImage({ layers: [10], seed }));
  const digests = images.map(({ manifest }) => manifest.digest);

  async function startFilled(switches: Partial<Switches> = {}): Promise<Ghcr> {
    const ghcr = await startGhcr({ switches });
    ghcr.addUser(deleter);
    for (const name of ['org/team/app', 'alice/app']) {
      images.forEach((each, i) => {
        ghcr.push(name, each, `v${i}`);
      });
      ghcr.addPackage(name, { visibility: 'private' });
    }
    ghcr.setTag('org/team/app', 'latest', digests[2] ?? assert.fail());
    return ghcr;
  }

  const get = (ghcr: Ghcr, path: string, headers: Record<string, string> = credentials) =>
    ask(new URL(path, ghcr.apiUrl).href, { headers });
  const remove = (ghcr: Ghcr, path: string, headers: Record<string, string> = credentials) =>
    ask(ghcr.apiUrl + path, { method: 'DELETE', headers });
  const jsonOf = ({ body }: Got) => JSON.parse(body.toString());
  const idOf = async (ghcr: Ghcr, digest: string | undefined, path = VERSIONS): Promise<number> =>
    jsonOf(await get(ghcr, path)).find(({ name }: { name: string }) => name === digest).id;

  test('versions, newest first, with their tags', async () => {
    await using ghcr = await startFilled();
    const got = await get(ghcr, VERSIONS);
    assert.equal(got.status, 200);
    assert.equal(got.headers['x-oauth-scopes'], 'read:packages, delete:packages');
    assert.equal(got.headers['github-authentication-token-expiration'], '2030-01-31 12:00:00 UTC');
    assert.equal(got.headers.link, undefined);
    const versions = jsonOf(got);
    assert.deepEqual(
      versions.map(({ name, metadata }: { name: string; metadata: unknown }) => [name, metadata]),
      [
        [digests[2], { package_type: 'container', container: { tags: ['v2', 'latest'] } }],
        [digests[1], { package_type: 'container', container: { tags: ['v1'] } }],
        [digests[0], { package_type: 'container', container: { tags: ['v0'] } }],
      ],
    );
    assert.deepEqual(jsonOf(await get(ghcr, `${VERSIONS}/${versions[1].id}`)), versions[1]);
    assert.deepEqual(jsonOf(await get(ghcr, new URL(versions[1].url).pathname)), versions[1]);
    assert.equal(
      ghcr.count({ endpoint: 'api', repository: 'org/team/app', reference: String(versions[1].id) }),
      2,
    );
  });

  test('pages with a Link', async () => {
    await using ghcr = await startFilled();
    const names: string[] = [];
    let path: string | undefined = `${VERSIONS}?per_page=1&state=active`;
    while (path) {
      const got: Got = await get(ghcr, path);
      names.push(...jsonOf(got).map(({ name }: { name: string }) => name));
      const links = String(got.headers.link);
      if (names.length === 2) {
        const page = (number: number) => `${ghcr.apiUrl}${VERSIONS}?per_page=1&state=active&page=${number}`;
        assert.equal(
          links,
          `<${page(1)}>; rel="prev", <${page(3)}>; rel="next", <${page(3)}>; rel="last", <${page(1)}>; rel="first"`,
        );
      }
      path = /<([^>]+)>; rel="next"/.exec(links)?.[1];
    }
    assert.deepEqual(names, digests.toReversed());
  });

  test('whose package it is', async t => {
    await using ghcr = await startFilled();
    ghcr.switches.ownerKinds = { 'some-user': 'user' };
    ghcr.push('some-user/app', image, 'v1');
    const rows: [string, number][] = [
      [VERSIONS, 200],
      [VERSIONS.replace('orgs', 'users'), 404],
      [VERSIONS.replace('%2F', '/'), 404],
      [VERSIONS.replace('app', 'none'), 404],
      [`${VERSIONS}/123456`, 404],
      ['/users/alice/packages/container/app/versions', 200],
      ['/orgs/alice/packages/container/app/versions', 404],
      ['/user/packages/container/app/versions', 200],
      ['/users/some-user/packages/container/app/versions', 200],
      ['/orgs/org/packages/npm/app/versions', 404],
      ['/orgs/org/packages/container/%ff/versions', 404],
    ];
    for (const [path, status] of rows) {
      await t.test(path, async () => {
        const got = await get(ghcr, path);
        assert.equal(got.status, status);
        if (status === 404)
          assert.deepEqual(Object.keys(jsonOf(got)), ['message', 'documentation_url', 'status']);
      });
    }
  });

  test('who may', async t => {
    await using ghcr = await startFilled();
    const withScopes = (username: string, ...scopes: string[]) =>
      ghcr.addUser({ username, token: username, scopes, packages: ['org/*'] });
    withScopes('reader', 'read:packages');
    withScopes('writer', 'write:packages');
    withScopes('only-deleter', 'delete:packages');
    ghcr.addUser({ ...deleter, username: 'stranger', token: 'stranger', packages: [] });
    ghcr.addUser({ ...deleter, username: 'guest', token: 'guest', writes: [] });
    const path = `${VERSIONS}/${await idOf(ghcr, digests[0])}`;
    const rows: [string, Record<string, string>, number, number][] = [
      ['no User-Agent', bearer(deleter.token), 403, 403],
      ['nobody', agent, 401, 401],
      ['a bad token', { ...agent, ...bearer('x') }, 401, 401],
      ['scope to read', { ...agent, ...bearer('reader') }, 200, 403],
      ['scope to write', { ...agent, ...bearer('writer') }, 200, 403],
      ['scope to delete alone', { ...agent, ...bearer('only-deleter') }, 403, 403],
      ['no right to the package', { ...agent, ...bearer('stranger') }, 404, 404],
      ['only a right to read it', { ...agent, ...bearer('guest') }, 200, 403],
      ['all that it takes', { ...agent, authorization: `token ${deleter.token}` }, 200, 204],
    ];
    for (const [name, headers, getStatus, deleteStatus] of rows) {
      await t.test(name, async () => {
        assert.equal((await get(ghcr, VERSIONS, headers)).status, getStatus);
        assert.equal((await remove(ghcr, path, headers)).status, deleteStatus);
      });
    }
    const refused = await get(ghcr, VERSIONS, { ...agent, ...bearer('only-deleter') });
    assert.match(jsonOf(refused).message, /at least read:packages scope/);
  });

  test('a version goes with all its tags, but the last one does not go', async () => {
    await using ghcr = await startFilled();
    ghcr.deleteTag('org/team/app', 'v0');
    const [first, second, third] = await Promise.all(digests.map(digest => idOf(ghcr, digest)));
    assert.equal((await remove(ghcr, `${VERSIONS}/${third}`)).status, 204);
    assert.deepEqual([...(ghcr.packages()[0]?.tags.keys() ?? [])], ['v1']);
    assert.equal((await remove(ghcr, `${VERSIONS}/${third}`)).status, 404);
    const refused = await remove(ghcr, `${VERSIONS}/${second}`);
    assert.equal(refused.status, 400);
    assert.match(jsonOf(refused).message, /^You cannot delete the last tagged version of a package\./);
    assert.equal((await remove(ghcr, `${VERSIONS}/${first}`)).status, 204);
    ghcr.deleteTag('org/team/app', 'v1');
    assert.match(
      jsonOf(await remove(ghcr, `${VERSIONS}/${second}`)).message,
      /the last version of a package/,
    );
    ghcr.switches.keepLastVersion = false;
    assert.equal((await remove(ghcr, `${VERSIONS}/${second}`)).status, 204);

    const whole = '/user/packages/container/app';
    assert.equal(jsonOf(await get(ghcr, whole)).version_count, 3);
    assert.equal((await remove(ghcr, whole)).status, 204);
    assert.equal((await get(ghcr, whole)).status, 404);
  });

  test('a public version that many have downloaded stays', async () => {
    await using ghcr = await startFilled({
      downloadsOf: (name, digest) => (name === 'org/team/app' && digest === digests[0] ? 5001 : 0),
    });
    const [first, second] = await Promise.all(digests.map(digest => idOf(ghcr, digest)));
    ghcr.addPackage('org/team/app', { visibility: 'public' });
    const refused = await remove(ghcr, `${VERSIONS}/${first}`);
    assert.equal(refused.status, 400);
    assert.match(jsonOf(refused).message, /more than 5000 downloads/);
    assert.equal((await remove(ghcr, `${VERSIONS}/${second}`)).status, 204);
    ghcr.addPackage('org/team/app', { visibility: 'private' });
    assert.equal((await remove(ghcr, `${VERSIONS}/${first}`)).status, 204);
  });

  test('users, their tokens, and single sign-on', async () => {
    await using ghcr = await startFilled();
    const got = await get(ghcr, '/user');
    assert.deepEqual(jsonOf(got), { login: 'alice', type: 'User' });
    assert.equal(got.headers['x-oauth-scopes'], 'read:packages, delete:packages');
    assert.equal(got.headers['github-authentication-token-expiration'], '2030-01-31 12:00:00 UTC');
    assert.equal((await get(ghcr, '/user', agent)).status, 401);
    assert.deepEqual(jsonOf(await get(ghcr, '/users/org', agent)), { login: 'org', type: 'Organization' });
    assert.equal((await get(ghcr, '/rate_limit')).status, 404);
    assert.equal(ghcr.count({ endpoint: 'api-user' }), 3);

    ghcr.switches.singleSignOn = 'required';
    const refused = await get(ghcr, VERSIONS);
    assert.equal(refused.status, 403);
    assert.match(String(refused.headers['x-github-sso']), /^required; url=https:\/\//);
    assert.equal((await get(ghcr, '/user/packages/container/app/versions')).status, 200);
    ghcr.switches.singleSignOn = 'partial-results';
    const partial = await get(ghcr, VERSIONS);
    assert.deepEqual(
      [partial.status, partial.headers['x-github-sso']],
      [200, 'partial-results; organizations=1'],
    );
  });

  test('faults and stops reach it', async () => {
    await using ghcr = await startFilled();
    ghcr.fault({ endpoint: 'api', method: 'DELETE', times: 1, answer: answers.secondaryRateLimit });
    const path = `${VERSIONS}/${await idOf(ghcr, digests[0])}`;
    assert.equal((await remove(ghcr, path)).status, 403);
    assert.equal((await remove(ghcr, path)).status, 204);
    await ghcr.stop('api');
    assert.equal((await get(ghcr, VERSIONS)).code, 'ECONNREFUSED');
    assert.equal((await ask(`${ghcr.url}/v2/`)).status, 401);
    await ghcr.restart();
    assert.equal((await get(ghcr, VERSIONS)).status, 200);
  });
});

describe('faults of requests with bodies', () => {
  const upload = { endpoint: 'upload', method: 'PATCH' } as const;

  for (const reset of [undefined, true] as const) {
    test(`cut${reset ? ' by a reset' : ''} after some of the body`, async () => {
      await using ghcr = await startOpen();
      const pusher = new Pusher(ghcr);
      const location = await pusher.location();
      const fault = ghcr.fault({ ...upload, cutRequestAfter: 70_001, times: 1, ...(reset && { reset }) });
      const got = await pusher.patch(location, layerBytes);
      assert.equal(got.status, undefined);
      assert.match(got.code ?? '', /ECONNRESET|EPIPE/);
      await fault.reached();
      await ghcr.until({ ...upload, state: 'aborted' });
      assert.equal(ghcr.received(upload), 70_001);
      assert.equal((await pusher.ask('GET', location)).headers.range, '0-70000');
      const rest = await pusher.patch(location, layerBytes.subarray(70_001), '70001-99999');
      assert.equal(rest.status, 202);
      assert.equal((await pusher.finish(location, layer.digest)).status, 201);
    });
  }

  test('a broken upload can be lost', async () => {
    await using ghcr = await startOpen({ brokenUpload: 'lost' });
    const pusher = new Pusher(ghcr);
    const location = await pusher.location();
    ghcr.fault({ ...upload, cutRequestAfter: 0 });
    assert.equal((await pusher.patch(location, layerBytes)).status, undefined);
    assert.equal((await pusher.ask('GET', location)).status, 404);
  });

  test('a client that goes away leaves what it sent', async () => {
    await using ghcr = await startOpen();
    const pusher = new Pusher(ghcr);
    const location = await pusher.location();
    const fault = ghcr.fault({ ...upload, stallRequestAfter: 1000 });
    async function* leaving(): AsyncGenerator<Uint8Array> {
      yield layerBytes.subarray(0, 1000);
      await fault.reached();
      throw new Error('leaves');
    }
    assert.equal((await pusher.patch(location, leaving())).status, undefined);
    fault.remove();
    await ghcr.until({ ...upload, state: 'aborted' });
    assert.equal((await pusher.ask('GET', location)).headers.range, '0-999');
  });

  test('a stop ends what stalls', async () => {
    await using ghcr = await startOpen();
    const pusher = new Pusher(ghcr);
    const location = await pusher.location();
    const fault = ghcr.fault({ ...upload, stallRequestAfter: 1000 });
    const got = pusher.patch(location, layerBytes);
    await fault.reached();
    await ghcr.stop('registry');
    assert.equal((await got).status, undefined);
    await ghcr.restart();
    assert.equal((await pusher.ask('GET', location)).headers.range, '0-999');
  });

  test('a stall takes nothing more until it is removed', async () => {
    await using ghcr = await startOpen();
    const pusher = new Pusher(ghcr);
    const big = randomContent(20 * MIB, 'stall');
    const location = await pusher.location();
    const fault = ghcr.fault({
      endpoint: 'upload',
      method: 'PUT',
      digest: big.digest,
      stallRequestAfter: MIB,
    });
    const got = pusher.finish(location, big.digest, slowly(bytesOf(big), MIB));
    await fault.reached();
    assert.equal(ghcr.received({ endpoint: 'upload' }), MIB);
    assert.equal(ghcr.count({ endpoint: 'upload', state: 'open' }), 1);
    fault.remove();
    assert.equal((await got).status, 201);
    assert.equal(ghcr.received({ upload: location.split('/').at(-1) ?? '' }), big.sizeBytes);
  });

  test('an answer before the body, after it, or in place of the true one', async () => {
    await using ghcr = await startOpen();
    const pusher = new Pusher(ghcr);
    const location = await pusher.location();
    const answer = answers.serverError();
    const stall = randomContent(8 * MIB, 'before');

    ghcr.fault({ ...upload, answer, times: 1 });
    // Nothing of the body is sent before the answer is here.
    const { promise: headersHere, resolve } = Promise.withResolvers<IncomingMessage>();
    async function* waiting(): AsyncGenerator<Uint8Array> {
      yield Buffer.of(0);
      await headersHere;
      yield* stall.chunks();
    }
    const before = await pusher.ask('PATCH', location, { body: waiting(), onHeaders: resolve });
    assert.equal(before.status, 500);
    assert.equal((await pusher.ask('GET', location)).headers.range, '0-0');

    const after = ghcr.fault({ ...upload, answer, at: 'body', times: 1 });
    ghcr.resetCounters();
    assert.equal((await pusher.patch(location, layerBytes)).status, 500);
    assert.equal(after.hits, 1);
    assert.equal(ghcr.received(upload), layer.sizeBytes);
    assert.equal((await pusher.ask('GET', location)).headers.range, '0-0');

    ghcr.fault({ ...upload, answer, at: 'done', times: 1 });
    assert.equal((await pusher.patch(location, layerBytes)).status, 500);
    assert.equal((await pusher.ask('GET', location)).headers.range, '0-99999');

    const lost = { endpoint: 'upload', method: 'PUT', refuse: true, at: 'done', times: 1 } as const;
    ghcr.fault(lost);
    assert.equal((await pusher.finish(location, layer.digest)).status, undefined);
    assert.equal((await pusher.finish(location, layer.digest)).status, 404);
    assert.equal((await pusher.ask('HEAD', `blobs/${layer.digest}`)).status, 200);
  });

  test('gates before the body, after it, and before the answer', async () => {
    await using ghcr = await startOpen();
    const pusher = new Pusher(ghcr);
    for (const [at, received, seen] of [
      ['headers', 0, 404],
      ['body', layer.sizeBytes, 404],
      ['done', layer.sizeBytes, 200],
    ] as const) {
      const location = await pusher.location();
      ghcr.resetCounters();
      const { promise, resolve } = Promise.withResolvers<void>();
      const fault = ghcr.fault({ endpoint: 'upload', gate: promise, at });
      const got = pusher.finish(location, layer.digest, layerBytes);
      await fault.reached();
      assert.equal(ghcr.received(), received, at);
      assert.equal((await pusher.ask('HEAD', `blobs/${layer.digest}`)).status, seen, at);
      resolve();
      assert.equal((await got).status, 201);
      fault.remove();
      ghcr.deleteBlob(NAME, layer.digest);
    }
  });

  test('429 of pushes, and a manifest that is refused once', async () => {
    await using ghcr = await startOpen();
    const pusher = new Pusher(ghcr);
    ghcr.fault({ endpoint: 'upload-start', times: 1, answer: answers.tooManyRequests('1.5s', 2000) });
    const limited = await pusher.start();
    assert.equal(errorOf(limited).message, 'retry-after: 1.5s, allowed: 2000/minute');
    ghcr.fault({
      endpoint: 'manifest',
      method: 'PUT',
      reference: 'v1',
      times: 1,
      answer: answers.serverError(502),
    });
    assert.equal((await pusher.image(image, 'v1')).status, 502);
    assert.equal((await pusher.image(image, 'v1')).status, 201);
  });
});

test('the program takes pushes, and counts them', async () => {
  const script = new URL('./main.ts', import.meta.url).pathname;
  const options = ['--open', '--spec', '--user', 'u:t'];
  const child = spawn(process.execPath, [script, ...options], { stdio: ['ignore', 'pipe', 'inherit'] });
  const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
  const nextLine = async () => JSON.parse((await lines.next()).value ?? '');
  const { url, apiUrl } = await nextLine();
  const pusher = new Pusher({ url } as Ghcr, 'any/where');
  const sha512 = makeImage({ layers: [1000], algorithm: 'sha512' });
  assert.equal((await pusher.image(sha512, sha512.manifest.digest)).status, 201);
  assert.equal((await pusher.ask('GET', `referrers/${sha512.manifest.digest}`)).status, 200);
  assert.equal((await pusher.ask('DELETE', `manifests/${sha512.manifest.digest}`)).status, 202);
  const user = await ask(`${apiUrl}/user`, { headers: { ...bearer('t'), 'user-agent': 'test' } });
  assert.equal(user.headers['x-oauth-scopes'], 'read:packages, write:packages, delete:packages');
  child.kill('SIGUSR2');
  const { upload } = await nextLine();
  assert.deepEqual(upload, { requests: 2, bytes: 0, received: 1000 + sha512.config.sizeBytes });
  child.kill('SIGTERM');
  assert.deepEqual(await once(child, 'exit'), [0, null]);
});
