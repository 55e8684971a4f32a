// The trouble of one image, repository or host hurts nothing else: who is held back, for how long, and what is logged.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import { until } from '../../support/async.ts';
import { startBoth, type TestCacheOptions } from '../../support/cache.ts';
import { type Answer, answers, type GhcrOptions } from '../../support/ghcr/ghcr.ts';
import { errorOf, type Reply } from '../../support/http-client.ts';
import { bytesOf, makeImage, randomContent } from '../../support/images.ts';

const image = makeImage({ layers: [10_000] });
const sick = randomContent(20_000, 'sick');
const SICK = `/v2/owner/sick/blobs/${sick.digest}`;
const SICK_TAG = '/v2/owner/sick/manifests/v1';
const forbidden: Answer = { status: 403, headers: { 'content-type': 'application/xml' }, body: '<Error/>' };

/** Repositories of which one is sick, and others that nobody has pulled from. */
async function setUp(t: TestContext, options: TestCacheOptions & { fake?: GhcrOptions } = {}) {
  const both = await startBoth(t, options);
  const { ghcr, cache } = both;
  ghcr.push('owner/sick', image, 'v1');
  ghcr.addBlob('owner/sick', sick);
  let count = 0;
  /** A cold pull of a manifest and a blob, of a repository that was not asked for before. */
  const pullHonestly = async () => {
    const name = `owner/honest-${++count}`;
    const blob = randomContent(5_000, name);
    ghcr.push(name, image, 'v1');
    ghcr.addBlob(name, blob);
    assert.equal((await cache.get(`/v2/${name}/manifests/v1`)).status, 200);
    const pulled = await cache.get(`/v2/${name}/blobs/${blob.digest}`);
    assert.equal(pulled.status, 200);
    assert(pulled.body.equals(bytesOf(blob)));
  };
  const lines = (pattern: RegExp) =>
    cache
      .log()
      .split('\n')
      .filter(line => pattern.test(line)).length;
  return { ...both, pullHonestly, lines };
}

const assertFailed = (reply: Reply, status: number, said: RegExp) => {
  assert.equal(reply.status, status);
  assert.match(errorOf(reply).message, said);
};

describe('one blob that its host does not serve', () => {
  for (const [what, answer] of [
    ['403', forbidden],
    ['404', { ...forbidden, status: 404 }],
    ['410', { ...forbidden, status: 410 }],
  ] as [string, Answer][]) {
    test(`is asked for by one fresh redirect, then left alone for a moment, and nothing else is: ${what}`, async t => {
      const { ghcr, cache, clock, pullHonestly } = await setUp(t);
      const fault = ghcr.fault({ endpoint: 'blobhost', digest: sick.digest, answer });
      for (let i = 0; i < 20; i++)
        assertFailed(await cache.get(SICK), 502, /127\.0\.0\.1:\d+ does not serve .*: 4\d\d/);
      assert.equal(fault.hits, 2);
      await pullHonestly();
      assert.equal((await cache.get(SICK_TAG)).status, 200);
      fault.remove();
      clock.advance(1_000);
      assert.equal((await cache.get(SICK)).status, 200);
    });
  }

  test('is unseen when the fresh redirect is served', async t => {
    const { ghcr, cache } = await setUp(t);
    const fault = ghcr.fault({ endpoint: 'blobhost', digest: sick.digest, answer: forbidden, times: 1 });
    assert.equal((await cache.get(SICK)).status, 200);
    assert.equal(fault.hits, 1);
  });

  test('with 429 limits requests for it alone', async t => {
    const { ghcr, cache, pullHonestly } = await setUp(t);
    ghcr.fault({ endpoint: 'blobhost', digest: sick.digest, answer: answers.retryAfter('90') });
    const reply = await cache.get(SICK);
    assertFailed(reply, 429, /does not serve/);
    assert.equal(reply.headers['retry-after'], '90');
    await pullHonestly();
  });
});

describe('one repository', () => {
  test('that is answered with 500 is left alone for a moment, and nothing else is', async t => {
    const { ghcr, cache, clock, pullHonestly } = await setUp(t);
    const fault = ghcr.fault({ endpoint: 'manifest', repository: 'owner/sick', answer: answers.serverError(500) });
    for (let i = 0; i < 20; i++) assertFailed(await cache.get(SICK_TAG), 502, /500/);
    assert.equal(fault.hits, 3);
    await pullHonestly();
    assert.equal((await cache.get(SICK)).status, 200, 'nor is what else it has');
    fault.remove();
    clock.advance(1_000);
    assert.equal((await cache.get(SICK_TAG)).status, 200);
  });

  test('whose connections are reset before the answer holds up nothing else', async t => {
    const { ghcr, cache, pullHonestly } = await setUp(t);
    const fault = ghcr.fault({ endpoint: 'manifest', repository: 'owner/sick', refuse: 'reset' });
    for (let i = 0; i < 20; i++) assertFailed(await cache.get(SICK_TAG), 502, /cannot be reached/);
    assert(fault.hits <= 6, `${fault.hits}`);
    await pullHonestly();
  });

  test('that is not answered in time holds up nothing else, meanwhile and later', async t => {
    const { ghcr, cache, pullHonestly, lines } = await setUp(t);
    const hanging = ghcr.fault({ endpoint: 'manifest', repository: 'owner/sick', hang: true });
    const pulls = Array.from({ length: 140 }, (_, i) => cache.get(`/v2/owner/sick/manifests/v${i}`));
    await hanging.reached(32);
    await pullHonestly();
    for (const reply of await Promise.all(pulls)) assertFailed(reply, 504, /in time/);
    await pullHonestly();
    assert.equal(lines(/is down/), 0);
  });

  test('whose body breaks says nothing of the host', async t => {
    const { ghcr, cache, pullHonestly } = await setUp(t);
    ghcr.fault({ endpoint: 'blobhost', digest: sick.digest, cutAfter: 100 });
    await cache.get(SICK).catch(() => {});
    await pullHonestly();
  });

  test('that cannot be pushed to holds up no other push, nor the next of its own', async t => {
    const { ghcr, cache } = await setUp(t, {
      upstream: { credentials: [{ name: 'ci', owner: '*', username: 'u', token: 'ghp_secret' }] },
    });
    ghcr.addUser({ username: 'u', token: 'ghp_secret', scopes: ['write:packages'], packages: ['owner/*'] });
    ghcr.push('owner/other', image);
    const fault = ghcr.fault({
      ...{ endpoint: 'manifest', method: 'PUT', repository: 'owner/sick', answer: answers.serverError(500) },
    });
    const put = (name: string) =>
      cache.get(`/v2/${name}/manifests/new`, {
        ...{ method: 'PUT', headers: { 'content-type': image.manifest.mediaType }, body: image.manifest.bytes },
      });
    for (let i = 1; i <= 5; i++) {
      assertFailed(await put('owner/sick'), 502, /500/);
      assert.equal(fault.hits, 3 * i);
    }
    assert.equal((await put('owner/other')).status, 201);
    fault.remove();
    assert.equal((await put('owner/sick')).status, 201);
  });
});

describe('a host', () => {
  test('of blobs that is down hurts blobs alone, and is back with the first answer', async t => {
    const { ghcr, cache, clock, lines, pullHonestly } = await setUp(t);
    await ghcr.stop('blobhost');
    assertFailed(await cache.get(SICK), 502, /cannot be reached|failing/);
    const asked = ghcr.count({ endpoint: 'blob' });
    for (let i = 0; i < 20; i++) assertFailed(await cache.get(SICK), 502, /cannot be reached|failing/);
    assert(ghcr.count({ endpoint: 'blob' }) - asked <= 1);
    assert.equal((await cache.get(SICK_TAG)).status, 200);
    assert.equal(lines(/^warn 127\.0\.0\.1:\d+ is down, .*ECONNREFUSED/), 1);
    clock.advance(30_000);
    assertFailed(await cache.get(SICK), 502, /cannot be reached/);
    await ghcr.restart();
    clock.advance(1_000);
    assert.equal((await cache.get(SICK)).status, 200);
    await pullHonestly();
    assert.equal(lines(/is down/), 1);
    assert.equal(lines(/^info 127\.0\.0\.1:\d+ is back, after 31\.0 s/), 1);
  });

  test('that was down for long is asked again within a second of its return', async t => {
    const { ghcr, cache, clock, lines, pullHonestly } = await setUp(t);
    await ghcr.stop();
    for (let second = 0; second < 120; second++) {
      assert.equal((await cache.get(`/v2/owner/a/manifests/v${second}`)).status, 502);
      clock.advance(1_000);
    }
    await ghcr.restart();
    await pullHonestly();
    assert.equal(lines(/is down/), 1);
    assert.equal(lines(/is back, after 120\.0 s/), 1);
  });

  test('that answers three repositories with 500 is left alone, and asked again each second', async t => {
    // A token of the same host is an answer, too.
    const { ghcr, cache, clock, pullHonestly } = await setUp(t, { fake: { switches: { auth: 'none' } } });
    const fault = ghcr.fault({ endpoint: 'manifest', answer: answers.serverError(503) });
    for (const name of ['a', 'b', 'c']) await cache.get(`/v2/owner/${name}/manifests/v1`);
    const { hits } = fault;
    for (let i = 0; i < 20; i++) assertFailed(await cache.get(`/v2/owner/d${i}/manifests/v1`), 502, /left alone/);
    assert.equal(fault.hits, hits);
    fault.remove();
    clock.advance(1_000);
    await pullHonestly();
  });
});

test('headers may take as long as the config says', async t => {
  const { ghcr, cache } = await setUp(t, { upstream: { timeouts: { headers: '200ms' } } });
  const hanging = ghcr.fault({ endpoint: 'manifest', hang: true });
  assertFailed(await cache.get(SICK_TAG), 504, /in time/);
  hanging.remove();
  const patient = await setUp(t, { upstream: { timeouts: {} } });
  const slow = patient.ghcr.fault({ endpoint: 'manifest', hang: true });
  let isHere = false;
  const pulled = patient.cache.get(SICK_TAG).finally(() => {
    isHere = true;
  });
  await slow.reached();
  // The time that was too long for the other.
  await until(() => hanging.hits === 1);
  assert.equal(isHere, false);
  slow.remove();
  assert.equal((await pulled).status, 200);
});

test('an upstream that is set offline is called that each time, and no trouble of an image', async t => {
  const { cache, lines } = await setUp(t, { upstream: { offline: true } });
  const messages = [];
  for (let i = 0; i < 3; i++) messages.push(errorOf(await cache.get(SICK_TAG)).message);
  assert.match(messages[0] ?? '', /set offline in the config .* can be served$/);
  assert.equal(new Set(messages).size, 1);
  assert.equal(lines(/is down/), 0);
});

test('a 503 that says when to come back is obeyed, and passed on', async t => {
  const { ghcr, cache, clock, pullHonestly } = await setUp(t);
  for (const inSeconds of [String, (s: number) => new Date(clock.now() + s * 1_000).toUTCString()]) {
    const value = inSeconds(5);
    const busy = { ...answers.serverError(503), headers: { 'retry-after': value } };
    const fault = ghcr.fault({ endpoint: 'manifest', repository: 'owner/sick', answer: busy });
    const reply = await cache.get(SICK_TAG);
    assertFailed(reply, 502, /503/);
    assert.equal(reply.headers['retry-after'], '5');
    assert.equal(fault.hits, 1);
    await pullHonestly();
    fault.remove();
    clock.advance(60_000);
  }
});
