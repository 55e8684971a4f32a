// Proves the stand-in for ghcr.io over raw HTTP, so that other tests can lean on it: each answer that it is
// known for, each switch, each fault, and that the process they all run in cannot reach the outside.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import dns from 'node:dns';
import { once } from 'node:events';
import http from 'node:http';
import https from 'node:https';
import net from 'node:net';
import { createInterface } from 'node:readline';
import { describe, test } from 'node:test';
import tls from 'node:tls';
import { digestOf } from '../../../src/oci/digest.ts';
import { MANIFEST_TYPES } from '../../../src/oci/manifest.ts';
import { bytesOf, contentOf, makeImage, makeIndex, randomContent } from '../images.ts';
import { LOOPBACK_TLS } from '../tls.ts';
import { type Asking, ask, basic, bearer, errorOf, type Got } from './ask.ts';
import {
  answers,
  type FaultAction,
  type FaultMatch,
  type Ghcr,
  type GhcrOptions,
  type Switches,
  startGhcr,
} from './ghcr.ts';

const ACCEPT = { accept: MANIFEST_TYPES.join(', ') };
const NAME = 'owner/app';
const image = makeImage({ layers: [100_000, 3_000_000] });
const layer = image.layers[0] ?? assert.fail();
const layerBytes = bytesOf(layer);
const BLOB = `/v2/${NAME}/blobs/${layer.digest}`;
const MANIFEST = `/v2/${NAME}/manifests/latest`;

const ALICE = { username: 'alice', token: 'ghp_alice', packages: [NAME] };
const BOB = { username: 'bob', token: 'ghp_bob' };

async function tokenFor(ghcr: Ghcr, name = NAME, headers = {}): Promise<string> {
  const url = `${ghcr.url}/token?service=ghcr.io&scope=repository:${name}:pull`;
  return JSON.parse((await ask(url, { headers })).body.toString()).token;
}

/** A stand-in with the image in it, public, and nobody asked for credentials unless a switch says so. */
async function startFilled(switches: Partial<Switches> = {}, options: GhcrOptions = {}): Promise<Ghcr> {
  const ghcr = await startGhcr({ ...options, switches: { auth: 'none', ...switches } });
  ghcr.push(NAME, image, 'latest');
  return ghcr;
}

/** Asks for the layer and follows redirects, as a client does, without credentials. */
async function askLayer(ghcr: Ghcr, asking: Asking = {}): Promise<Got> {
  let url = ghcr.url + BLOB;
  for (;;) {
    const got = await ask(url, asking);
    if (got.headers.location === undefined) return got;
    url = new URL(got.headers.location, url).href;
  }
}

describe('images', () => {
  test('the same arguments give the same bytes, and no others do', () => {
    assert.equal(randomContent(5000, 'a').digest, randomContent(5000, 'a').digest);
    assert.notEqual(randomContent(5000, 'a').digest, randomContent(5000, 'b').digest);
    assert.match(randomContent(5000, 'a', 'sha512').digest, /^sha512:[0-9a-f]{128}$/);
  });

  test('any part of content over many blocks is where it belongs', () => {
    const content = randomContent(5_000_000);
    const whole = bytesOf(content);
    assert.equal(whole.length, 5_000_000);
    assert.equal(digestOf(whole), content.digest);
    for (const [start, end] of [
      [0, 0],
      [1_048_582, 1_048_584],
      [3_000_000, 5_000_000],
    ] as const) {
      assert.deepEqual(bytesOf(content, start, end), whole.subarray(start, end));
    }
  });

  test('manifests describe what they are made of', () => {
    for (const type of ['oci', 'docker'] as const) {
      const made = makeImage({ layers: [10, Buffer.from('x'), contentOf('y')], type, algorithm: 'sha512' });
      const manifest = JSON.parse(made.manifest.bytes.toString());
      assert.equal(manifest.mediaType, made.manifest.mediaType);
      assert.equal(manifest.config.digest, made.config.digest);
      assert.deepEqual(
        manifest.layers.map(({ digest, size }: { digest: string; size: number }) => [digest, size]),
        made.layers.map(({ digest, sizeBytes }) => [digest, sizeBytes]),
      );
      const index = JSON.parse(makeIndex([made], { type }).manifest.bytes.toString());
      assert.equal(index.manifests[0].digest, made.manifest.digest);
      assert.deepEqual(index.manifests[0].platform, { os: 'linux', architecture: 'amd64' });
    }
  });
});

describe('challenge and token', () => {
  test('an anonymous client is challenged, told a token, and served', async () => {
    await using ghcr = await startFilled({ auth: 'bearer' });
    const refused = await ask(ghcr.url + MANIFEST, { headers: ACCEPT });
    assert.equal(refused.status, 401);
    assert.equal(
      refused.headers['www-authenticate'],
      `Bearer realm="${ghcr.url}/token",service="ghcr.io",scope="repository:${NAME}:pull"`,
    );
    assert.equal(refused.headers['docker-distribution-api-version'], 'registry/2.0');
    assert.ok(refused.headers['x-github-request-id']);
    assert.equal(
      refused.body.toString(),
      '{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}\n',
    );

    const token = await tokenFor(ghcr);
    assert.match(Buffer.from(token, 'base64').toString(), /^v1:owner\/app:\d{19}$/);
    const got = await ask(ghcr.url + MANIFEST, { headers: { ...ACCEPT, ...bearer(token) } });
    assert.equal(got.status, 200);
    assert.deepEqual(got.body, image.manifest.bytes);
    assert.deepEqual(
      ghcr.requests.map(({ endpoint, authorization, repository }) => [endpoint, authorization, repository]),
      [
        ['manifest', 'none', NAME],
        ['token', 'none', NAME],
        ['manifest', 'bearer', NAME],
      ],
    );
  });

  test('the scope of the ping is one that is never granted', async () => {
    await using ghcr = await startFilled({ auth: 'bearer' });
    for (const path of ['/v2/', '/v2/_catalog']) {
      const { headers } = await ask(ghcr.url + path);
      assert.match(headers['www-authenticate'] ?? '', /scope="repository:user\/image:pull"$/);
    }
    assert.equal((await ask(`${ghcr.url}/token?scope=repository:user/image:pull`)).status, 403);
  });

  test('tokens', async t => {
    await using ghcr = await startFilled({ auth: 'bearer' });
    ghcr.addUser(ALICE);
    const url = `${ghcr.url}/token?scope=repository:${NAME}`;
    const rows: [string, string, Asking, number][] = [
      ['anonymous pull', `${url}:pull`, {}, 200],
      ['anonymous push', `${url}:pull,push`, {}, 403],
      ['anonymous without a scope', `${ghcr.url}/token`, {}, 403],
      ['docker login', `${ghcr.url}/token?account=alice`, { headers: basic('alice', 'ghp_alice') }, 200],
      ['stale credentials', `${url}:pull`, { headers: basic('alice', 'old') }, 403],
      ['POST', `${url}:pull`, { method: 'POST' }, 405],
    ];
    for (const [name, asked, asking, status] of rows) {
      await t.test(name, async () => assert.equal((await ask(asked, asking)).status, status));
    }
  });

  test('what /v2/ makes of an Authorization header', async t => {
    await using ghcr = await startFilled({ auth: 'bearer' });
    ghcr.addPackage(NAME, { visibility: 'private' });
    ghcr.addUser(ALICE);
    ghcr.addUser(BOB);
    ghcr.addUser({ username: 'carol', token: 'ghp_carol', scopes: ['gist'], packages: ['owner/*'] });
    ghcr.addUser({ username: 'dan', token: 'ghp_dan', packages: ['owner/*'] });
    const pat = (token: string) => bearer(Buffer.from(token).toString('base64'));
    const rows: [string, http.OutgoingHttpHeaders, number, string?][] = [
      ['basic', basic('alice', 'ghp_alice'), 403, 'invalid token'],
      ['nonsense', bearer('nonsense'), 403, 'invalid token'],
      [
        'token of a user with the right',
        bearer(await tokenFor(ghcr, NAME, basic('alice', 'ghp_alice'))),
        200,
      ],
      ['right to all of an owner', pat('ghp_dan'), 200],
      ['personal access token', pat('ghp_alice'), 200],
      ['no right to the package', pat('ghp_bob'), 403, 'permission_denied: read_package'],
      [
        'no scope to read packages',
        pat('ghp_carol'),
        403,
        'permission_denied: The token provided does not match expected scopes.',
      ],
      [
        'token of another repository',
        bearer(await tokenFor(ghcr, 'owner/other', basic('alice', 'ghp_alice'))),
        403,
        'permission_denied: The token provided does not match expected scopes.',
      ],
    ];
    for (const [name, headers, status, message] of rows) {
      await t.test(name, async () => {
        const got = await ask(ghcr.url + MANIFEST, { headers: { ...ACCEPT, ...headers } });
        assert.equal(got.status, status);
        assert.equal(got.headers['www-authenticate'], undefined);
        if (message) assert.equal(errorOf(got).message, message);
      });
    }
    ghcr.removeUser('alice');
    assert.equal((await ask(ghcr.url + MANIFEST, { headers: pat('ghp_alice') })).status, 403);
  });

  test('tokens expire, by the clock or all at once', async () => {
    let now = 1_000_000;
    await using ghcr = await startFilled({ auth: 'bearer', tokenTtlMs: 60_000 }, { now: () => now });
    const statusWith = async (token: string) => {
      const got = await ask(ghcr.url + MANIFEST, { headers: { ...ACCEPT, ...bearer(token) } });
      return [got.status, got.headers['www-authenticate'] !== undefined];
    };
    const token = await tokenFor(ghcr);
    now += 59_999;
    assert.deepEqual(await statusWith(token), [200, false]);
    now += 1;
    assert.deepEqual(await statusWith(token), [401, true]);
    const second = await tokenFor(ghcr);
    ghcr.expireTokens();
    assert.deepEqual(await statusWith(second), [401, true]);
    ghcr.switches.expiredToken = 'denied';
    assert.deepEqual(await statusWith(second), [403, false]);
    assert.deepEqual(await statusWith(await tokenFor(ghcr)), [200, false]);
  });

  test('missing and private packages, anonymously', async t => {
    await using ghcr = await startFilled({ auth: 'bearer' });
    ghcr.addPackage('owner/secret', { visibility: 'private' });
    const rows: [Partial<Switches>, string, number, number | undefined][] = [
      [{}, 'owner/none', 403, undefined],
      [{ missing: 'token-401' }, 'owner/none', 401, undefined],
      [{ missing: 'later-404' }, 'owner/none', 200, 404],
      [{ missing: 'later-403' }, 'owner/none', 200, 403],
      [{}, 'owner/secret', 401, undefined],
      [{ private: 'token-403' }, 'owner/secret', 403, undefined],
      [{ private: 'later-403' }, 'owner/secret', 200, 403],
      [{ auth: 'none' }, 'owner/Upper', 403, 404],
    ];
    const defaults = { ...ghcr.switches };
    for (const [switches, name, tokenStatus, laterStatus] of rows) {
      await t.test(`${name} ${JSON.stringify(switches)}`, async () => {
        Object.assign(ghcr.switches, defaults, switches);
        const got = await ask(`${ghcr.url}/token?scope=repository:${name}:pull`);
        assert.equal(got.status, tokenStatus);
        if (laterStatus === undefined) return;
        const token = JSON.parse(got.body.toString()).token;
        const headers = token ? { ...ACCEPT, ...bearer(token) } : ACCEPT;
        assert.equal((await ask(`${ghcr.url}/v2/${name}/manifests/latest`, { headers })).status, laterStatus);
      });
    }
  });

  test('realm, service and scope can be any, and so can the token answer', async () => {
    const hostile = { realm: 'http://evil.example/token', service: 's', scope: 'repository:x/y:pull' };
    await using ghcr = await startFilled({
      auth: 'bearer',
      ...hostile,
      expiresIn: 300,
      tokenField: 'access_token',
    });
    assert.equal(
      (await ask(ghcr.url + MANIFEST)).headers['www-authenticate'],
      'Bearer realm="http://evil.example/token",service="s",scope="repository:x/y:pull"',
    );
    const { body } = await ask(`${ghcr.url}/token?scope=repository:${NAME}:pull`);
    assert.deepEqual(Object.keys(JSON.parse(body.toString())), ['access_token', 'expires_in']);
  });

  test('basic mode asks for credentials on every request', async () => {
    await using ghcr = await startFilled({ auth: 'basic' });
    ghcr.addUser(ALICE);
    const refused = await ask(ghcr.url + MANIFEST, { headers: basic('alice', 'wrong') });
    assert.equal(refused.status, 401);
    assert.equal(refused.headers['www-authenticate'], 'Basic realm="Registry Realm"');
    const headers = { ...ACCEPT, ...basic('alice', 'ghp_alice') };
    assert.equal((await ask(ghcr.url + MANIFEST, { headers })).status, 200);
  });
});

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

  test('a type that Accept does not name is not found', async () => {
    await using ghcr = await startFilled();
    ghcr.push(NAME, makeIndex([image]), 'multi');
    const url = `${ghcr.url}/v2/${NAME}/manifests/multi`;
    const refused = await ask(url, { headers: { accept: `${image.manifest.mediaType}, */*` } });
    assert.equal(refused.status, 404);
    assert.deepEqual(errorOf(refused), {
      code: 'MANIFEST_UNKNOWN',
      message: 'OCI index found, but Accept header does not support OCI indexes',
    });
    ghcr.switches.enforceAccept = false;
    assert.equal((await ask(url)).status, 200);
  });

  test('If-None-Match is honoured only when switched on', async () => {
    await using ghcr = await startFilled();
    const headers = { ...ACCEPT, 'if-none-match': `"${image.manifest.digest}"` };
    assert.equal((await ask(ghcr.url + MANIFEST, { headers })).status, 200);
    ghcr.switches.ifNoneMatch = true;
    assert.equal((await ask(ghcr.url + MANIFEST, { headers })).status, 304);
    assert.equal(
      (await ask(ghcr.url + MANIFEST, { headers: { ...headers, 'if-none-match': '"x"' } })).status,
      200,
    );
  });

  test('headers can be left out', async () => {
    await using ghcr = await startFilled({ omitContentLength: true, omitDigest: true, omitEtag: true });
    for (const method of ['HEAD', 'GET']) {
      const { status, headers } = await ask(ghcr.url + MANIFEST, { method, headers: ACCEPT });
      assert.equal(status, 200);
      for (const name of ['content-length', 'docker-content-digest', 'etag']) {
        assert.equal(headers[name], undefined);
      }
    }
    const got = await askLayer(ghcr);
    assert.equal(got.headers['transfer-encoding'], 'chunked');
    assert.deepEqual(got.body, layerBytes);
  });

  test('tags move, and things go away', async () => {
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

describe('blobs', () => {
  test('GET is a redirect to a signed URL on the other origin, HEAD is answered', async () => {
    await using ghcr = await startFilled();
    const head = await ask(ghcr.url + BLOB, { method: 'HEAD' });
    assert.equal(head.status, 200);
    assert.equal(head.headers['content-length'], String(layer.sizeBytes));
    assert.equal(head.headers['docker-content-digest'], layer.digest);
    const redirect = await ask(ghcr.url + BLOB);
    assert.equal(redirect.status, 307);
    assert.equal(redirect.headers['content-length'], '0');
    assert.ok(redirect.headers.location?.startsWith(`${ghcr.blobUrl}/ghcr1/blobs/${layer.digest}?se=`));
    const got = await ask(redirect.headers.location ?? '');
    assert.equal(got.status, 200);
    assert.deepEqual(got.body, layerBytes);
    assert.equal(
      ghcr.bytes({ endpoint: 'blobhost', repository: NAME, digest: layer.digest }),
      layer.sizeBytes,
    );
    ghcr.switches.blobHead = 'redirect';
    assert.equal((await ask(ghcr.url + BLOB, { method: 'HEAD' })).status, 307);
  });

  test('the blob host', async t => {
    await using ghcr = await startFilled();
    const { location = '' } = (await ask(ghcr.url + BLOB)).headers;
    const range = (value: string) => ({ headers: { range: value } });
    const rows: [string, Asking, number, string?][] = [
      ['one range', range('bytes=10-19'), 206, 'bytes 10-19/100000'],
      ['the rest', range('bytes=99990-'), 206, 'bytes 99990-99999/100000'],
      ['a range past the end', range('bytes=100000-'), 416, 'bytes */100000'],
      ['several ranges', range('bytes=0-1,4-5'), 501],
      ['Authorization', { headers: bearer('x') }, 400],
      ['HEAD', { method: 'HEAD', ...range('bytes=10-19') }, 200],
      ['a method it does not know', { method: 'PUT' }, 405],
    ];
    for (const [name, asking, status, contentRange] of rows) {
      await t.test(name, async () => {
        const got = await ask(location, asking);
        assert.equal(got.status, status);
        assert.equal(got.headers['content-range'], contentRange);
        if (status === 206) assert.equal(got.body.length, 10);
        if (status >= 400) assert.match(got.body.toString(), /<\?xml .*<Error><Code>\w+<\/Code>/);
      });
    }
    assert.deepEqual((await ask(location, range('bytes=10-19'))).body, layerBytes.subarray(10, 20));
    assert.equal((await ask(location.replace('sig=', 'sig=x'))).status, 403);
    ghcr.switches.severalRanges = 200;
    assert.equal((await ask(location, range('bytes=0-1,4-5'))).status, 200);
  });

  test('signed URLs expire', async () => {
    let now = 0;
    await using ghcr = await startFilled({ signedUrlTtlMs: 1000 }, { now: () => now });
    const { location = '' } = (await ask(ghcr.url + BLOB)).headers;
    now = 999;
    assert.equal((await ask(location)).status, 200);
    now = 1000;
    const expired = await ask(location);
    assert.equal(expired.status, 403);
    assert.match(expired.body.toString(), /AuthenticationFailed/);
  });

  test('redirects lead anywhere', async () => {
    await using ghcr = await startFilled({ redirectHops: 3 });
    assert.deepEqual((await askLayer(ghcr)).body, layerBytes);
    assert.equal(ghcr.count({ endpoint: 'hop', digest: layer.digest }), 3);

    ghcr.switches.redirectHops = Number.POSITIVE_INFINITY;
    const { location = '' } = (await ask(ghcr.url + BLOB)).headers;
    assert.equal(new URL((await ask(location)).headers.location ?? '', location).href, location);

    ghcr.switches.redirectHops = 0;
    ghcr.switches.redirectStatus = 302;
    ghcr.switches.redirectTo = signed => signed.slice(ghcr.blobUrl.length);
    assert.deepEqual((await askLayer(ghcr)).body, layerBytes);
    ghcr.switches.redirectTo = () => undefined;
    const missing = await ask(ghcr.url + BLOB);
    assert.deepEqual([missing.status, missing.headers.location], [302, undefined]);
  });

  test('without redirects the registry sends blobs itself', async () => {
    await using ghcr = await startFilled({ redirects: false });
    assert.deepEqual((await ask(ghcr.url + BLOB)).body, layerBytes);
    const part = await ask(ghcr.url + BLOB, { headers: { range: 'bytes=5-9' } });
    assert.deepEqual([part.status, part.body], [206, layerBytes.subarray(5, 10)]);
    assert.equal(ghcr.count({ endpoint: 'blobhost' }), 0);
  });
});

describe('discovery', () => {
  test('tags come in pages, oldest first, with the odd Link', async () => {
    await using ghcr = await startFilled();
    for (let i = 250; i > 1; i--) ghcr.setTag(NAME, `v${i}`, image.manifest.digest);
    const url = `${ghcr.url}/v2/${NAME}/tags/list`;
    const pages: string[][] = [];
    for (let path: string | undefined = url; path; ) {
      const { headers, body }: Got = await ask(path);
      pages.push(JSON.parse(body.toString()).tags);
      const [, next] = /^<(.+)>; rel="next"$/.exec(String(headers.link)) ?? [];
      if (pages.length === 1) assert.equal(next, `/v2/${NAME}/tags/list?last=v152&n=0`);
      path = next && ghcr.url + next;
    }
    assert.deepEqual(
      pages.map(page => page.length),
      [100, 100, 50],
    );
    assert.deepEqual(pages.flat().slice(0, 3), ['latest', 'v250', 'v249']);
    const everything = await ask(`${url}?n=10000`);
    assert.equal(everything.headers.link, undefined);
    assert.equal(JSON.parse(everything.body.toString()).tags.length, 250);
    assert.match(String((await ask(`${url}?n=2`)).headers.link), /\?last=v250&n=2>/);
    ghcr.switches.tagsOrder = 'lexical';
    assert.deepEqual(JSON.parse((await ask(`${url}?n=2&last=v0`)).body.toString()).tags, ['v10', 'v100']);
  });

  test('referrers are not there', async () => {
    await using ghcr = await startFilled();
    const url = `${ghcr.url}/v2/${NAME}/referrers/${image.manifest.digest}`;
    const redirect = await ask(url);
    assert.equal(redirect.status, 303);
    assert.equal((await ask(redirect.headers.location ?? '')).status, 404);
    ghcr.switches.referrers = 'not-found';
    assert.equal(errorOf(await ask(url)).code, 'MANIFEST_UNKNOWN');
  });
});

describe('faults', () => {
  const rows: [string, Partial<FaultMatch> & FaultAction, Partial<Got>, Asking?][] = [
    ['429 as ghcr says it', { answer: answers.tooManyRequests() }, { status: 429, complete: true }],
    ['503 ServerBusy', { answer: answers.serverBusy }, { status: 503 }],
    ['HTML in place of a blob', { answer: answers.htmlPage }, { status: 200 }],
    ['no answer', { refuse: true }, { status: undefined, code: 'ECONNRESET' }],
    ['a reset', { refuse: 'reset' }, { status: undefined, code: 'ECONNRESET' }],
    ['cut', { cutAfter: 1000 }, { body: layerBytes.subarray(0, 1000), complete: false, code: 'ECONNRESET' }],
    ['cut before the first byte', { cutAfter: 0 }, { status: 200, body: Buffer.alloc(0), complete: false }],
    ['cut by a reset', { cutAfter: 1000, reset: true }, { complete: false, code: 'ECONNRESET' }],
    ['short', { short: 1 }, { body: layerBytes.subarray(0, -1), complete: true }],
    ['short, chunked', { short: 1, chunked: true }, { body: layerBytes.subarray(0, -1), complete: true }],
    ['less than claimed', { shortClaimed: 10 }, { body: layerBytes.subarray(0, -10), complete: false }],
    [
      'more than there is, chunked',
      { tooLong: 3, chunked: true },
      { body: Buffer.concat([layerBytes, Buffer.from('+++')]), complete: true },
    ],
    [
      'a Content-Range that is wrong',
      { contentRange: ({ start }, size) => `bytes ${start + 1}-${size - 1}/${size}` },
      { status: 206, body: layerBytes.subarray(99_990) },
      { headers: { range: 'bytes=99990-' } },
    ],
    [
      'a Range that is ignored',
      { ignoreRange: true, range: true },
      { status: 200, body: layerBytes },
      { headers: { range: 'bytes=99990-' } },
    ],
    ['slow', { throttle: 2_000_000 }, { body: layerBytes, complete: true }],
  ];
  for (const [name, action, expected, asking] of rows) {
    test(name, async () => {
      await using ghcr = await startFilled();
      const fault = ghcr.fault({ endpoint: 'blobhost', ...action });
      const got = await askLayer(ghcr, asking);
      for (const key of Object.keys(expected) as (keyof Got)[])
        assert.deepEqual(got[key], expected[key], key);
      assert.equal(fault.hits, 1);
      await ghcr.until({ endpoint: 'blobhost', state: got.complete ? 'finished' : 'aborted' });
      fault.remove();
      assert.deepEqual((await askLayer(ghcr)).body, layerBytes);
      assert.equal(fault.hits, 1);
    });
  }

  test('corrupt: one byte of the content, also within a range', async () => {
    await using ghcr = await startFilled();
    ghcr.fault({ endpoint: 'blobhost', corruptAt: 50_000 });
    const { body } = await askLayer(ghcr);
    const wrong = [...body.keys()].filter(at => body[at] !== layerBytes[at]);
    assert.deepEqual(wrong, [50_000]);
    const part = await askLayer(ghcr, { headers: { range: 'bytes=49999-50001' } });
    assert.notEqual(part.body[1], layerBytes[50_000]);
    assert.equal(part.body[2], layerBytes[50_001]);
  });

  test('more bytes than Content-Length are on the wire', async () => {
    await using ghcr = await startFilled({ redirects: false });
    ghcr.fault({ endpoint: 'blob', tooLong: 7 });
    const socket = net.connect(Number(new URL(ghcr.url).port), '127.0.0.1');
    socket.end(`GET ${BLOB} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n`);
    const chunks: Buffer[] = [];
    for await (const chunk of socket) chunks.push(chunk);
    const wire = Buffer.concat(chunks);
    assert.match(wire.subarray(0, 500).toString('latin1'), /Content-Length: 100000\r\n/i);
    const body = wire.subarray(wire.indexOf('\r\n\r\n') + 4);
    assert.deepEqual(body, Buffer.concat([layerBytes, Buffer.from('+++++++')]));
  });

  test('a stall holds the rest back until the fault is removed', async () => {
    await using ghcr = await startFilled();
    const fault = ghcr.fault({ endpoint: 'blobhost', stallAfter: 60_000 });
    const got = askLayer(ghcr);
    await fault.reached();
    assert.equal(ghcr.bytes({ endpoint: 'blobhost' }), 60_000);
    assert.equal(ghcr.count({ endpoint: 'blobhost', state: 'open' }), 1);
    fault.remove();
    assert.deepEqual((await got).body, layerBytes);
  });

  test('gates and hangs hold the headers back', async () => {
    await using ghcr = await startFilled();
    const { promise, resolve } = Promise.withResolvers<void>();
    const gated = ghcr.fault({ endpoint: 'blobhost', gate: promise, answer: answers.serverError(502) });
    const got = askLayer(ghcr);
    await gated.reached();
    assert.equal(ghcr.count({ endpoint: 'blobhost', status: 502 }), 0);
    resolve();
    assert.equal((await got).status, 502);
    gated.remove();

    const hanging = ghcr.fault({ endpoint: 'blobhost', hang: true });
    const second = askLayer(ghcr);
    await hanging.reached();
    hanging.remove();
    assert.deepEqual((await second).body, layerBytes);
  });

  test('a fault hits only what it matches, as often as it says', async () => {
    await using ghcr = await startFilled();
    const answer = answers.denied;
    const match = { endpoint: 'manifest', repository: NAME, reference: 'latest', method: 'GET' } as const;
    const fault = ghcr.fault({ ...match, skip: 1, times: 2, answer });
    const statusOf = async (path: string, method = 'GET') =>
      (await ask(ghcr.url + path, { method, headers: ACCEPT })).status;
    assert.equal(await statusOf(MANIFEST, 'HEAD'), 200);
    assert.equal(await statusOf(`/v2/${NAME}/manifests/${image.manifest.digest}`), 200);
    const statuses: unknown[] = [];
    for (let i = 0; i < 4; i++) statuses.push(await statusOf(MANIFEST));
    assert.deepEqual(statuses, [200, 403, 403, 200]);
    assert.equal(fault.hits, 2);
    ghcr.fault({ endpoint: 'ping', answer });
    ghcr.clearFaults();
    assert.equal(await statusOf('/v2/'), 200);
  });

  test('a client that goes away ends a body of any size', async () => {
    await using ghcr = await startGhcr({ switches: { auth: 'none', redirects: false } });
    const big = randomContent(64 * 1024 * 1024);
    ghcr.addBlob(NAME, big);
    await ask(`${ghcr.url}/v2/${NAME}/blobs/${big.digest}`, {
      onHeaders: response => response.once('data', () => response.destroy()),
    });
    await ghcr.until({ endpoint: 'blob', state: 'aborted' });
    assert.ok(ghcr.bytes() < big.sizeBytes);
    ghcr.resetCounters();
    assert.equal(ghcr.count(), 0);
  });
});

describe('origins', () => {
  test('stop refuses and cuts connections, restart takes the same ports', async () => {
    await using ghcr = await startFilled();
    const fault = ghcr.fault({ endpoint: 'blobhost', stallAfter: 10 });
    const cut = askLayer(ghcr);
    await fault.reached();
    await ghcr.stop();
    assert.equal((await cut).complete, false);
    assert.equal((await ask(ghcr.url + BLOB)).code, 'ECONNREFUSED');
    await ghcr.restart();
    ghcr.clearFaults();
    assert.deepEqual((await askLayer(ghcr)).body, layerBytes);
    await ghcr.stop('blobhost');
    assert.equal((await askLayer(ghcr)).code, 'ECONNREFUSED');
    assert.equal((await ask(ghcr.url + BLOB)).status, 307);
  });

  test('either origin can be https', async () => {
    await using ghcr = await startFilled({}, { tls: LOOPBACK_TLS });
    assert.match(ghcr.url, /^https:/);
    assert.match(ghcr.blobUrl, /^http:/);
    assert.deepEqual((await askLayer(ghcr)).body, layerBytes);
    await using both = await startFilled(
      {},
      { tls: LOOPBACK_TLS, blobTls: LOOPBACK_TLS, hostname: 'localhost' },
    );
    assert.match(both.blobUrl, /^https:\/\/localhost:/);
    assert.deepEqual((await askLayer(both)).body, layerBytes);
  });

  test('the program says what it holds, and what it was asked', async () => {
    const script = new URL('./main.ts', import.meta.url).pathname;
    const child = spawn(
      process.execPath,
      [script, '--big', 'owner/big:v1=2MiB', '--private', '--user', 'u:t'],
      {
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    );
    const lines = createInterface(child.stdout)[Symbol.asyncIterator]();
    const nextLine = async () => JSON.parse((await lines.next()).value ?? '');
    const { url, images } = await nextLine();
    assert.deepEqual([images[0].name, images[0].tag, images[0].blobs[1].size], ['owner/big', 'v1', 2 ** 21]);
    const scope = `${url}/token?scope=repository:owner/big:pull`;
    assert.equal((await ask(scope)).status, 401);
    assert.equal((await ask(scope, { headers: basic('u', 't') })).status, 200);
    child.kill('SIGUSR2');
    assert.equal((await nextLine()).token.requests, 2);
    child.kill('SIGTERM');
    assert.deepEqual(await once(child, 'exit'), [0, null]);
  });
});

describe('loopback only', () => {
  const refused = (error: Error) => {
    assert.match(`${error.message} ${error.cause}`, /loopback-only: tests may not/);
    return true;
  };

  test('connections to elsewhere fail at once', async () => {
    assert.throws(() => net.connect(80, '192.0.2.1'), refused);
    assert.throws(() => net.connect({ port: 80, host: '::ffff:192.0.2.1' }), refused);
    assert.throws(() => tls.connect({ port: 443, host: '2001:db8::1' }), refused);
    assert.throws(() => http.get('http://example.com/'), refused);
    assert.throws(() => https.get('https://example.com/'), refused);
    await assert.rejects(fetch('https://example.com/'), refused);
  });

  test('names other than localhost are not looked up', async () => {
    await assert.rejects(dns.promises.lookup('example.com'), refused);
    await assert.rejects(new dns.promises.Resolver().resolve4('example.com'), refused);
    const error = await new Promise<Error | null>(resolve => dns.lookup('example.com', resolve));
    assert.ok(error && refused(error));
    assert.ok((await dns.promises.lookup('localhost')).address);
  });

  test('loopback and unix sockets are let through', async () => {
    await using ghcr = await startFilled();
    assert.equal((await fetch(`${ghcr.url}/v2/`)).status, 200);
    assert.equal((await fetch(`${ghcr.url.replace('127.0.0.1', 'localhost')}/v2/`)).status, 200);
    const socket = net.connect('/nonexistent/socket');
    const [error] = await once(socket, 'error');
    assert.equal(error.code, 'ENOENT');
  });
});
