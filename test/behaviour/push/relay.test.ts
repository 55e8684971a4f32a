// How blobs reach the upstream: when, in which requests, and how often if several clients push the same.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { turns } from '../../support/async.ts';
import type { Got } from '../../support/ghcr/ask.ts';
import type { Switches } from '../../support/ghcr/ghcr.ts';
import { bytesOf, type Content, makeImage, randomContent } from '../../support/images.ts';
import {
  assertCreated,
  assertPushed,
  contentOnDisk,
  filesIn,
  inPieces,
  LIMIT,
  MIB,
  NAME,
  PATIENT,
  PushClient,
  startPushing,
} from '../../support/push-client.ts';

describe('relays', () => {
  test('bytes reach the upstream while the client is still sending', LIMIT, async t => {
    const both = await startPushing(t, { timeouts: PATIENT });
    const { ghcr, client } = both;
    const blob = randomContent(4 * MIB, 'while it comes');
    const reached = ghcr.fault({ endpoint: 'upload', method: 'PATCH', stallRequestAfter: 2 * MIB - 1 });
    const location = await client.open();
    const seen: number[] = [];
    const wait = async () => {
      await reached.reached();
      seen.push(ghcr.received({ endpoint: 'upload' }));
      reached.remove();
    };
    assert.equal((await client.patch(location, inPieces(bytesOf(blob), [[2 * MIB, wait]]))).status, 202);
    assert.deepEqual(seen, [2 * MIB - 1]);
    assertCreated(await client.finish(location, blob.digest));
    await assertPushed(both, blob);
  });

  test('a large blob goes up as one streamed PATCH without a range, a small one as one PUT', async t => {
    const { ghcr, client } = await startPushing(t);
    const [large, small] = [randomContent(9 * MIB, 'large'), randomContent(MIB - 1, 'small')];
    const location = await client.open();
    for (let first = 0; first < large.sizeBytes; first += MIB) {
      assert.equal((await client.patch(location, bytesOf(large, first, first + MIB), first)).status, 202);
    }
    assertCreated(await client.finish(location, large.digest));
    const sent = ghcr.requests.filter(({ endpoint }) => endpoint === 'upload');
    assert.deepEqual(
      sent.map(({ method, bytesReceived, headers }) => [method, bytesReceived, headers['content-length']]),
      [
        ['PATCH', 9 * MIB, undefined],
        ['PUT', 0, '0'],
      ],
    );
    assert(sent.every(({ headers }) => headers['content-range'] === undefined));
    ghcr.resetCounters();
    assertCreated(await client.stream(small));
    const [put, ...others] = ghcr.requests.filter(({ endpoint }) => endpoint === 'upload');
    assert.deepEqual([put?.method, put?.headers['content-length'], others], ['PUT', String(MIB - 1), []]);
  });

  test('a client that is faster than the upstream is slowed down', LIMIT, async t => {
    const { ghcr, client } = await startPushing(t, { timeouts: PATIENT });
    // Besides what may be ahead, some MiB are in sockets.
    const blob = randomContent(48 * MIB, 'slowed down');
    const stall = ghcr.fault({ endpoint: 'upload', method: 'PATCH', stallRequestAfter: MIB });
    const location = await client.open();
    let isDone = false;
    const patching = client.patch(location, inPieces(bytesOf(blob), [], MIB)).finally(() => {
      isDone = true;
    });
    while ((await client.offset(location)) < 16 * MIB);
    for (let i = 0; i < 50; i++) assert((await client.offset(location)) < 40 * MIB && !isDone);
    stall.remove();
    assert.equal((await patching).status, 202);
    assertCreated(await client.finish(location, blob.digest));
    assert.equal(ghcr.received({ endpoint: 'upload' }), blob.sizeBytes);
  });

  const locations: [string, Partial<Switches>][] = [
    ['relative', {}],
    ['absolute', { uploadLocation: 'absolute' }],
    ['relative, with a state that changes', { uploadState: true }],
    ['absolute, with a state that changes', { uploadLocation: 'absolute', uploadState: true }],
    ['with a query of its own', { uploadLocation: path => `${path}?a=b&c=d%20e` }],
  ];
  for (const [name, switches] of locations) {
    test(`the upstream's Location may be ${name}`, async t => {
      const both = await startPushing(t, { fake: { switches } });
      const { ghcr, client } = both;
      const [small, large] = [randomContent(1000, name), randomContent(1.5 * MIB, name)];
      assertCreated(await client.stream(small));
      assertCreated(await client.streamAhead(ghcr, large));
      for (const blob of [small, large]) await assertPushed(both, blob);
      const sent = ghcr.requests.filter(({ endpoint }) => endpoint === 'upload');
      // At the first attempt.
      assert.deepEqual(
        sent.map(({ method, status }) => [method, status]),
        [
          ['PUT', 201],
          ['PATCH', 202],
          ['PUT', 201],
        ],
      );
      const queries = sent.map(({ path }) => path);
      assert(!name.includes('own') || queries.every(path => /\?a=b&c=d(%20|\+)e/.test(path)), queries.join());
    });
  }

  test('an upstream may want no credential, or want it on every request', async t => {
    for (const auth of ['none', 'basic'] as const) {
      const both = await startPushing(t, { fake: { switches: { auth } } });
      await both.client.image(makeImage({ layers: [1000, 2 * MIB] }), 'v1');
      for (const blob of makeImage({ layers: [1000, 2 * MIB] }).layers) await assertPushed(both, blob);
      const kinds = new Set(both.ghcr.requests.slice(1).map(({ authorization }) => authorization));
      assert.deepEqual([...kinds], [auth]);
    }
  });

  test('what the upstream has is not sent again', async t => {
    const both = await startPushing(t);
    const { ghcr, client } = both;
    for (const sizeBytes of [0, 1000, 1.5 * MIB]) {
      for (const push of [
        (blob: Content) => client.put(blob),
        (blob: Content) => client.start({ digest: blob.digest }, bytesOf(blob)),
        ...(sizeBytes < MIB ? [(blob: Content) => client.stream(blob)] : []),
      ]) {
        const blob = randomContent(sizeBytes, `there ${push}`);
        ghcr.addBlob(NAME, blob);
        ghcr.resetCounters();
        assertCreated(await push(blob));
        assert.equal(ghcr.received(), 0);
        assert.equal(ghcr.count({ endpoint: 'blob', method: 'HEAD', digest: blob.digest }), 1);
        await assertPushed(both, blob);
      }
    }
  });

  test('what was pushed is not sent again when it is pushed again', async t => {
    const both = await startPushing(t);
    const blob = randomContent(2 * MIB, 'again');
    assertCreated(await both.client.put(blob));
    both.ghcr.resetCounters();
    assertCreated(await both.client.put(blob));
    assert.equal(both.ghcr.received(), 0);
    assert.deepEqual(await contentOnDisk(both.cache), [blob.digest]);
  });

  for (const [way, push] of [
    ['POST', (client, blob) => client.start({ digest: blob.digest }, bytesOf(blob))],
    ['PUT', (client, blob) => client.put(blob)],
  ] as [string, (client: PushClient, blob: Content) => Promise<Got>][]) {
    test(`thirty clients push the same layer at once by ${way}, and it goes up once`, LIMIT, async t => {
      const both = await startPushing(t, { timeouts: PATIENT });
      const { ghcr, client } = both;
      const blob = randomContent(1.5 * MIB, 'thirty');
      const stall = ghcr.fault({ endpoint: 'upload', method: 'PATCH', stallRequestAfter: 500_000 });
      const pushes = [push(client, blob)];
      await stall.reached();
      while (pushes.length < 30) pushes.push(push(client, blob));
      while (filesIn(both.cache, 'ingest').length < 30) await turns();
      stall.remove();
      const outcomes = await Promise.all(pushes);
      for (const got of outcomes) assertCreated(got);
      assert.equal(ghcr.received({ endpoint: 'upload' }), blob.sizeBytes);
      assert.equal(ghcr.count({ endpoint: 'upload', method: 'PATCH' }), 1);
      assert.equal(outcomes.filter(({ headers }) => headers['x-cache'] === 'miss').length, 1);
      await assertPushed(both, blob);
      assert.deepEqual(await contentOnDisk(both.cache), [blob.digest]);
    });
  }

  test('thirty clients push the same small layer at once, and it goes up once', LIMIT, async t => {
    const both = await startPushing(t, { timeouts: PATIENT });
    const { ghcr, client } = both;
    const blob = randomContent(10 * 1024, 'thirty');
    const pushes = Array.from({ length: 30 }, (_, i) => (i % 2 ? client.put(blob) : client.stream(blob)));
    for (const got of await Promise.all(pushes)) assertCreated(got);
    assert.equal(ghcr.received({ endpoint: 'upload' }), blob.sizeBytes);
    await assertPushed(both, blob);
    assert.deepEqual(await contentOnDisk(both.cache), [blob.digest]);
  });

  test('two clients push one new layer at once, as docker does, and both succeed', LIMIT, async t => {
    const both = await startPushing(t);
    const { ghcr, client } = both;
    // The digest is known only at the end, so either is sent until one of them is accepted.
    for (const sizeBytes of [1000, 1.5 * MIB, 9 * MIB]) {
      const blob = randomContent(sizeBytes, 'two');
      ghcr.resetCounters();
      for (const got of await Promise.all([client.stream(blob), client.stream(blob)])) assertCreated(got);
      assert(ghcr.received({ endpoint: 'upload' }) <= 2 * sizeBytes);
      await assertPushed(both, blob);
      const locations = [await client.open(), await client.open()];
      const other = randomContent(sizeBytes, 'two, in chunks');
      for (const end of [sizeBytes / 2, sizeBytes]) {
        for (const location of locations) {
          const chunk = bytesOf(other, end - sizeBytes / 2, end);
          assert.equal((await client.patch(location, chunk)).status, 202);
        }
      }
      for (const location of locations) assertCreated(await client.finish(location, other.digest));
      await assertPushed(both, other);
    }
  });

  test('the same content pushed to two repositories at once is in both', async t => {
    const both = await startPushing(t);
    for (const sizeBytes of [1000, 1.5 * MIB]) {
      const blob = randomContent(sizeBytes, 'two');
      const names = ['owner/one', 'owner/two'];
      const pushes = names.map(name => new PushClient(both.cache.url, name).stream(blob));
      for (const got of await Promise.all(pushes)) assertCreated(got);
      for (const name of names) await assertPushed(both, blob, name);
      assert(both.ghcr.received({ endpoint: 'upload' }) <= 2 * sizeBytes);
      both.ghcr.resetCounters();
    }
    assert.equal((await contentOnDisk(both.cache)).length, 2);
  });

  test('of two that PUT the same, one stalls or hangs up, and the other completes', LIMIT, async t => {
    for (const end of ['stalls', 'hangs up'] as const) {
      const both = await startPushing(t, { timeouts: PATIENT });
      const { ghcr, client } = both;
      const blob = randomContent(4 * MIB, end);
      const [first, second] = [await client.open(), await client.open()];
      const gate = Promise.withResolvers<void>();
      const waits = [[2 * MIB, () => gate.promise]] as const;
      const halted = client.finish(first, blob.digest, inPieces(bytesOf(blob), waits));
      await ghcr.until({ endpoint: 'upload', method: 'PATCH' });
      while ((await client.offset(first)) < 2 * MIB);
      if (end === 'hangs up') {
        gate.reject(new Error('the client hangs up'));
        assert.equal((await halted).status, undefined);
      }
      assertCreated(await client.finish(second, blob.digest, bytesOf(blob)));
      await assertPushed(both, blob);
      assert.equal(ghcr.received({ endpoint: 'upload' }), blob.sizeBytes);
      if (end === 'hangs up') continue;
      gate.resolve();
      assertCreated(await halted);
    }
  });
});
