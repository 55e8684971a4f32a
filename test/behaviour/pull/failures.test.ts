// The failure table, as far as the upstream is to blame: what the client gets, what is kept, how often the
// upstream is asked.
import assert from 'node:assert/strict';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { type TestContext, test } from 'node:test';
import { startBoth, startTestCache, type TestCacheOptions } from '../../support/cache.ts';
import { type Answer, answers, type FaultAction, type GhcrOptions } from '../../support/ghcr/ghcr.ts';
import { errorOf } from '../../support/http-client.ts';
import { bytesOf, makeImage, randomContent } from '../../support/images.ts';
import { LOOPBACK_TLS } from '../../support/tls.ts';

const V1 = '/v2/owner/app/manifests/v1';
const image = makeImage({ layers: [100_000] });
const layer = image.layers[0] ?? assert.fail();
const BLOB = `/v2/owner/app/blobs/${layer.digest}`;
const uncached = randomContent(200_000, 'uncached');
const UNCACHED = `/v2/owner/app/blobs/${uncached.digest}`;

/** With an image in the cache whose tag is no longer fresh, and a blob that only the upstream has. */
async function startWithCached(t: TestContext, options: TestCacheOptions & { fake?: GhcrOptions } = {}) {
  const both = await startBoth(t, options);
  both.ghcr.push('owner/app', image, 'v1');
  both.ghcr.addBlob('owner/app', uncached);
  for (const path of [V1, BLOB]) assert.equal((await both.cache.get(path)).status, 200);
  both.clock.advance(3600_000);
  both.ghcr.resetCounters();
  return both;
}

const down: Record<string, { faults?: FaultAction; stop?: true; statuses: number[]; says: RegExp }> = {
  'is stopped': { stop: true, statuses: [502], says: /cannot be reached.*ECONNREFUSED|failing/ },
  'resets every connection': {
    faults: { refuse: 'reset' },
    statuses: [502],
    says: /cannot be reached|failing/,
  },
  'answers 500': { faults: { answer: answers.serverError(500) }, statuses: [502], says: /500|failing/ },
  'answers 503 in XML': { faults: { answer: answers.serverBusy }, statuses: [502], says: /503|failing/ },
  'does not answer': { faults: { hang: true }, statuses: [502, 504], says: /in time|failing/ },
};

for (const [how, { faults, stop, statuses, says }] of Object.entries(down)) {
  test(`when the upstream ${how}, what is cached is served and the rest fails with a sentence`, async t => {
    const { ghcr, cache } = await startWithCached(t);
    if (stop) await ghcr.stop();
    const endpoints = ['ping', 'token', 'manifest', 'blob', 'tags'] as const;
    for (const endpoint of endpoints) if (faults) ghcr.fault({ endpoint, ...faults });
    const stale = await cache.get(V1);
    assert.equal(stale.status, 200);
    assert.equal(stale.headers['x-cache'], 'stale');
    assert.equal(stale.headers.age, '3600');
    assert.match(String(stale.headers.warning), /^299 - "[^"]+"$/);
    assert((await cache.get(BLOB)).body.equals(bytesOf(layer)));
    assert.equal((await cache.get(BLOB)).headers['x-cache'], 'hit');
    for (const path of ['/v2/owner/app/manifests/other', UNCACHED]) {
      const failed = await cache.get(path);
      assert(statuses.includes(failed.status), `${failed.status}`);
      assert.match(errorOf(failed).message, says);
      assert.match(failed.phrase, says);
    }
    const before = ghcr.requests.length;
    for (let i = 0; i < 20; i++) await cache.get('/v2/owner/app/manifests/other');
    assert(ghcr.requests.length - before <= 3, 'the breaker holds the others back');
    ghcr.clearFaults();
    await ghcr.restart();
    cache.clock.advance(60_000);
    assert.equal((await cache.get(V1)).headers['x-cache'], 'revalidated');
    assert((await cache.get(UNCACHED)).body.equals(bytesOf(uncached)));
  });
}

test('a tag is not served stale for longer than staleIfError', async t => {
  const { ghcr, cache, clock } = await startWithCached(t, { config: { staleIfError: '2h' } });
  await ghcr.stop();
  assert.equal((await cache.get(V1)).status, 200);
  clock.advance(2 * 3600_000);
  assert.equal((await cache.get(V1)).status, 502);
});

test('one failure among successes is unseen: 500 or a reset once, on any endpoint', async t => {
  for (const endpoint of ['token', 'manifest', 'blob', 'blobhost'] as const) {
    for (const action of [
      { answer: answers.serverError(500) },
      { refuse: 'reset' },
      { answer: answers.serverBusy },
    ] as FaultAction[]) {
      const { ghcr, cache } = await startBoth(t);
      ghcr.push('owner/app', image, 'v1');
      ghcr.fault({ endpoint, times: 1, skip: 0, ...action });
      assert.equal((await cache.get(V1)).status, 200, endpoint);
      assert((await cache.get(BLOB)).body.equals(bytesOf(layer)), endpoint);
    }
  }
});

test('an upstream that is set offline is never contacted, and stale has no end', async t => {
  const { ghcr, cache, clock } = await startWithCached(t);
  await cache.stop();
  const offline = await startBoth(t, { upstream: { offline: true } });
  const failed = await offline.cache.get(V1);
  assert.equal(failed.status, 502);
  assert.match(errorOf(failed).message, /set offline in the config/);
  assert.equal(offline.ghcr.requests.length, 0);
  assert.equal(ghcr.requests.length, 0);
  assert(clock);
});

for (const [name, answer, waitS] of [
  ['429 with Retry-After', answers.retryAfter('120'), 120],
  ['429 with the wait in the message', answers.tooManyRequests('1m30.5s'), 91],
  ['403 for the secondary rate limit', answers.secondaryRateLimit, 60],
] as [string, Answer, number][]) {
  test(`${name}: cached is served, else 429, and no request before the time is over`, async t => {
    const { ghcr, cache, clock } = await startWithCached(t);
    const fault = ghcr.fault({ endpoint: 'manifest', answer });
    const stale = await cache.get(V1);
    assert.equal(stale.headers['x-cache'], 'stale');
    assert.equal(fault.hits, 1);
    ghcr.resetCounters();
    const limited = await cache.get(UNCACHED);
    assert.equal(limited.status, 429);
    assert.equal(errorOf(limited).code, 'TOOMANYREQUESTS');
    assert.equal(limited.headers['retry-after'], String(waitS));
    clock.advance((waitS - 1) * 1000);
    assert.equal((await cache.get(UNCACHED)).status, 429);
    assert.equal(ghcr.requests.length, 0);
    fault.remove();
    clock.advance(2000);
    assert((await cache.get(UNCACHED)).body.equals(bytesOf(uncached)));
  });
}

test('a wait of microseconds, as ghcr.io names them, is simply waited for', async t => {
  const { ghcr, cache } = await startBoth(t);
  ghcr.push('owner/app', image, 'v1');
  ghcr.fault({ endpoint: 'manifest', answer: answers.tooManyRequests('880.092µs'), times: 2 });
  // The clock of the test stands still, so the gate opens only by the retry.
  const reply = await cache.get(V1);
  assert([200, 429].includes(reply.status));
});

test('redirects: loops, rubbish and an end of https are not followed; relative ones are', async t => {
  const cases: [string, NonNullable<GhcrOptions['switches']>, number, RegExp?][] = [
    ['endless', { redirectHops: Number.POSITIVE_INFINITY }, 502, /redirects more than 5 times/],
    ['a few', { redirectHops: 3 }, 200],
    ['without Location', { redirectTo: () => undefined }, 502, /no valid address/],
    ['to rubbish', { redirectTo: () => 'http://[' }, 502, /no valid address/],
    ['to a file', { redirectTo: () => 'file:///etc/passwd' }, 502, /redirects from http:/],
    ['to a closed port', { redirectTo: () => 'http://127.0.0.1:1/blob' }, 502, /cannot be reached/],
    ['as 302', { redirectStatus: 302 }, 200],
    ['as 308', { redirectStatus: 308 }, 200],
    ['not at all', { redirects: false }, 200],
  ];
  for (const [name, switches, status, says] of cases) {
    const { ghcr, cache } = await startBoth(t, { fake: { switches } });
    ghcr.push('owner/app', image, 'v1');
    const reply = await cache.get(BLOB);
    assert.equal(reply.status, status, name);
    if (says) assert.match(errorOf(reply).message, says, name);
    else assert(reply.body.equals(bytesOf(layer)));
  }
  const { ghcr, cache } = await startBoth(t);
  ghcr.switches.redirectTo = url => url.slice(ghcr.blobUrl.length);
  ghcr.push('owner/app', image, 'v1');
  assert((await cache.get(BLOB)).body.equals(bytesOf(layer)), 'relative');
});

test('a redirect from https to http is refused, and the extra CA of the config is trusted', async t => {
  const { ghcr, cache } = await startBoth(t, {
    fake: { tls: LOOPBACK_TLS, hostname: 'localhost' },
    upstream: { ca: 'ca.pem' },
    files: { 'ca.pem': LOOPBACK_TLS.cert },
  });
  ghcr.push('owner/app', image, 'v1');
  assert.equal((await cache.get(V1)).status, 200);
  const refused = await cache.get(BLOB);
  assert.equal(refused.status, 502);
  assert.match(errorOf(refused).message, /redirects from https:\/\/ to http:/);
  assert.equal(ghcr.count({ endpoint: 'blobhost' }), 0);
});

test('an upstream whose certificate is not trusted is refused with a sentence', async t => {
  const { cache } = await startBoth(t, { fake: { tls: LOOPBACK_TLS, hostname: 'localhost' } });
  const reply = await cache.get(V1);
  assert.equal(reply.status, 502);
  assert.match(errorOf(reply).message, /self-signed certificate|unable to verify/);
});

test('our Authorization never follows a redirect to another host', async t => {
  const { ghcr, cache } = await startBoth(t, {
    upstream: { credentials: [{ name: 'ci', owner: '*', username: 'u', token: 'ghp_secret' }] },
  });
  ghcr.addUser({ username: 'u', token: 'ghp_secret' });
  ghcr.push('owner/app', image, 'v1');
  assert((await cache.get(BLOB)).body.equals(bytesOf(layer)));
  const [there] = ghcr.requests.filter(({ endpoint }) => endpoint === 'blobhost');
  assert.equal(there?.authorization, 'none');
});

test('a manifest that is not what it should be is fetched again once, then refused', async t => {
  const cases: [string, Answer | undefined, RegExp][] = [
    ['an HTML page', answers.htmlPage, /text\/html/],
    ['other JSON', { status: 200, body: { hello: 'world' } }, /no manifest|wrong content/],
    ['nothing', { status: 200, body: '' }, /no manifest|wrong content/],
    ['a manifest too large', { status: 200, body: Buffer.alloc(4 * 1024 * 1024 + 1, ' ') }, /larger than 4 MiB/],
  ];
  for (const [name, answer, says] of cases) {
    for (const path of [V1, `/v2/owner/app/manifests/${image.manifest.digest}`]) {
      const { ghcr, cache } = await startBoth(t);
      ghcr.push('owner/app', image, 'v1');
      const fault = ghcr.fault({ endpoint: 'manifest', ...(answer && { answer }) });
      const refused = await cache.get(path);
      assert.equal(refused.status, 502, name);
      assert.match(errorOf(refused).message, says, name);
      assert.equal(fault.hits, 2);
      fault.remove();
      ghcr.fault({ endpoint: 'manifest', times: 1, ...(answer && { answer }) });
      const mended = await cache.get(path);
      assert.deepEqual(mended.body, image.manifest.bytes, name);
    }
  }
});

test('a manifest whose bytes do not hash to its digest is never served', async t => {
  const { ghcr, cache } = await startBoth(t);
  ghcr.push('owner/app', image, 'v1');
  ghcr.fault({ endpoint: 'manifest', corruptAt: 20 });
  for (const path of [V1, `/v2/owner/app/manifests/${image.manifest.digest}`]) {
    const refused = await cache.get(path);
    assert.equal(refused.status, 502);
  }
});

test('an upstream that leaves out digest and size headers still serves', async t => {
  const { ghcr, cache, clock } = await startBoth(t, {
    fake: { switches: { omitDigest: true, omitEtag: true, omitContentLength: true } },
  });
  ghcr.push('owner/app', image, 'v1');
  assert.equal((await cache.get(V1)).headers['docker-content-digest'], image.manifest.digest);
  clock.advance(61_000);
  assert.equal((await cache.get(V1)).status, 200);
  assert((await cache.get(BLOB)).body.equals(bytesOf(layer)));
});

test('HTTPS_PROXY and HTTP_PROXY are gone through, and NO_PROXY around', async t => {
  const asked: string[] = [];
  const proxy = createServer();
  proxy.on('connect', (request, socket) => {
    asked.push(request.url ?? '');
    socket.end('HTTP/1.1 502 Bad Gateway\r\n\r\n');
  });
  await new Promise<void>(resolve => proxy.listen(0, '127.0.0.1', resolve));
  t.after(() => proxy.close());
  const saved = { ...process.env };
  t.after(() => {
    process.env = saved;
  });
  process.env.HTTPS_PROXY = `http://127.0.0.1:${(proxy.address() as AddressInfo).port}`;
  process.env.HTTP_PROXY = process.env.HTTPS_PROXY;
  const proxied = await startTestCache({ upstream: { url: 'https://ghcr.example' } });
  t.after(() => proxied.stop());
  assert.equal((await proxied.get(V1)).status, 502);
  assert(asked.length > 0 && asked.every(url => url === 'ghcr.example:443'));
  process.env.NO_PROXY = '127.0.0.1';
  const { ghcr, cache } = await startBoth(t);
  ghcr.push('owner/app', image, 'v1');
  asked.length = 0;
  assert.equal((await cache.get(V1)).status, 200);
  assert.equal(asked.length, 0);
});
