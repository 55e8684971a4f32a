// What survives: restarts, kill -9, rot and damage on disk.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { readdirSync, readFileSync, rmSync, statSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { type TestContext, test } from 'node:test';
import { type Digest, digestOf, hexOf } from '../../../src/oci/digest.ts';
import { HOLD_BACK_BYTES } from '../../../src/pull/hold-back.ts';
import { startInDirectory } from '../../support/cache.ts';
import { fetchRaw } from '../../support/http-client.ts';
import { bytesOf, type Content, makeImage } from '../../support/images.ts';

const image = makeImage({ layers: [1000, 300_000, 2_000_000] });
const V1 = '/v2/owner/app/manifests/v1';
const blobPath = ({ digest }: Content) => `/v2/owner/app/blobs/${digest}`;
const fileOf = (data: string, digest: Digest) => join(data, 'content/blobs/sha256', hexOf(digest));

async function setUp(t: TestContext) {
  const started = await startInDirectory(t, image);
  const { start } = started;
  const pullAll = async (cache: Awaited<ReturnType<typeof start>>) => {
    const outcomes = [];
    const manifest = await cache.get(V1);
    assert.deepEqual(manifest.body, image.manifest.bytes);
    outcomes.push(manifest.headers['x-cache']);
    for (const layer of image.layers) {
      const reply = await cache.get(blobPath(layer));
      assert(reply.complete && reply.body.equals(bytesOf(layer)));
      outcomes.push(reply.headers['x-cache']);
    }
    await cache.settled();
    return outcomes;
  };
  return { ...started, pullAll };
}

test('after a restart, and with the upstream away, everything is still a hit', async t => {
  const { ghcr, start, pullAll } = await setUp(t);
  const first = await start();
  await pullAll(first);
  await first.stop();
  await ghcr.stop();
  const second = await start();
  assert.deepEqual(await pullAll(second), ['hit', 'hit', 'hit', 'hit']);
});

test('old ingests are removed at start', async t => {
  const { data, start } = await setUp(t);
  await (await start()).stop();
  writeFileSync(join(data, 'ingest/123-1'), 'half a blob');
  await start();
  assert.deepEqual(readdirSync(join(data, 'ingest')), []);
});

for (const when of ['while it runs', 'between runs'] as const) {
  test(`rot on disk ${when} is found on reading, never completed to a client, dropped, and fetched again`, async t => {
    for (const layer of image.layers) {
      for (const spoil of ['flip', 'truncate', 'remove'] as const) {
        const { data, ghcr, start, pullAll } = await setUp(t);
        let cache = await start();
        await pullAll(cache);
        if (when === 'between runs') await cache.stop();
        const file = fileOf(data, layer.digest);
        if (spoil === 'remove') rmSync(file);
        else if (spoil === 'truncate') truncateSync(file, 10);
        else {
          const bytes = readFileSync(file);
          bytes[layer.sizeBytes >> 1] = (bytes[layer.sizeBytes >> 1] ?? 0) ^ 1;
          writeFileSync(file, bytes);
        }
        if (when === 'between runs') cache = await start();
        ghcr.resetCounters();
        for (const request of [{}, { headers: { range: `bytes=${layer.sizeBytes - 1}-` } }]) {
          const reply = await cache.get(blobPath(layer), request);
          if (reply.complete) assert(bytesOf(layer).includes(reply.body), `${spoil} ${layer.sizeBytes}`);
          else assert(reply.body.length <= layer.sizeBytes - HOLD_BACK_BYTES);
        }
        assert((await cache.get(blobPath(layer))).body.equals(bytesOf(layer)));
        assert.equal(ghcr.count({ endpoint: 'blobhost', digest: layer.digest }), 1);
        await cache.settled();
        assert.equal(digestOf(readFileSync(file)), layer.digest);
      }
    }
  });
}

test('a rotten manifest is never served', async t => {
  const { data, start, pullAll } = await setUp(t);
  const first = await start();
  await pullAll(first);
  await first.stop();
  const file = fileOf(data, image.manifest.digest);
  writeFileSync(file, readFileSync(file, 'utf8').replace('schemaVersion', 'schemaversion'));
  const second = await start();
  assert.deepEqual((await second.get(V1)).body, image.manifest.bytes);
});

test('a damaged metadata.db is moved aside; content stays, and links come back as the upstream confirms them', async t => {
  for (const damage of ['garbage', 'middle', 'empty', 'gone'] as const) {
    const { data, ghcr, start, pullAll } = await setUp(t);
    const first = await start();
    await pullAll(first);
    await first.stop();
    const file = join(data, 'metadata.db');
    if (damage === 'gone') rmSync(file);
    else if (damage === 'empty') truncateSync(file, 0);
    else {
      const bytes = readFileSync(file);
      bytes.fill(0xa5, damage === 'garbage' ? 0 : 4096, damage === 'garbage' ? 4096 : bytes.length);
      writeFileSync(file, bytes);
    }
    const second = await start();
    ghcr.resetCounters();
    assert.deepEqual((await pullAll(second)).slice(1), ['revalidated', 'revalidated', 'revalidated'], damage);
    assert.equal(ghcr.bytes({ endpoint: 'blobhost' }), 0);
    const aside = readdirSync(data).some(name => name.startsWith('metadata.db.damaged-'));
    assert.equal(aside, damage === 'garbage' || damage === 'middle');
    assert.equal(/error metadata\.db is damaged/.test(second.log()), aside);
  }
});

/** The real program, on a config that names the fake ghcr.io. */
async function spawnCache(config: string): Promise<{ url: string; process: ChildProcess }> {
  const program = new URL('../../../bin/ghcr-cache.js', import.meta.url).pathname;
  const child = spawn(process.execPath, [program, 'serve', '--config', config], {
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  for await (const line of createInterface({ input: child.stdout })) {
    const url = /http:\/\/127\.0\.0\.1:\d+/.exec(line)?.[0];
    if (url !== undefined) return { url, process: child };
  }
  throw new Error('the cache did not start');
}

const exited = (child: ChildProcess) => new Promise<number | null>(resolve => child.once('exit', resolve));

test('kill -9 at random moments of pulls: nothing partial is visible, and the pull completes afterwards', async t => {
  const { directory, data, ghcr } = await setUp(t);
  const config = join(directory, 'config.yaml');
  writeFileSync(
    config,
    JSON.stringify({
      listen: { port: 0 },
      data,
      cache: { minFree: '1MiB' },
      upstreams: { 'ghcr.io': { url: ghcr.url, credentials: [] } },
    }),
  );
  const rounds = Number(process.env.KILL_ROUNDS ?? 4);
  for (let round = 0; round < rounds; round++) {
    const mine = makeImage({ layers: [1000, 3_000_000, 5_000_000], seed: `${round}` });
    ghcr.push('owner/app', mine, `r${round}`);
    const killed = await spawnCache(config);
    const gone = exited(killed.process);
    // After so many bytes of all answers together, which is somewhere in the middle of them.
    let left = Math.random() * 8_000_000;
    const pulls = mine.layers.map(layer => {
      let seen = 0;
      const onData = (soFar: number) => {
        left -= soFar - seen;
        seen = soFar;
        if (left <= 0) killed.process.kill('SIGKILL');
      };
      return fetchRaw(killed.url + blobPath(layer), { onData }).catch(() => undefined);
    });
    await Promise.all(pulls);
    killed.process.kill('SIGKILL');
    await gone;
    for (const hex of readdirSync(join(data, 'content/blobs/sha256'))) {
      assert.equal(digestOf(readFileSync(join(data, 'content/blobs/sha256', hex))), `sha256:${hex}`);
    }
    const restarted = await spawnCache(config);
    t.after(() => restarted.process.kill('SIGKILL'));
    // What had come is gone on with.
    assert.deepEqual(
      readdirSync(join(data, 'ingest')).filter(name => !name.startsWith('download-')),
      [],
    );
    for (const layer of mine.layers) {
      const reply = await fetchRaw(restarted.url + blobPath(layer));
      assert(reply.complete && reply.body.equals(bytesOf(layer)));
    }
    const end = exited(restarted.process);
    restarted.process.kill('SIGKILL');
    await end;
  }
});

test('SIGTERM lets a running answer finish, accepts no new one, and ends with 0; a second signal ends at once', async t => {
  const { directory, data, ghcr } = await setUp(t);
  const config = join(directory, 'config.yaml');
  writeFileSync(
    config,
    JSON.stringify({
      listen: { port: 0 },
      data,
      cache: { minFree: '1MiB' },
      upstreams: { 'ghcr.io': { url: ghcr.url, credentials: [] } },
    }),
  );
  const layer = image.layers[2] ?? assert.fail();
  for (const signals of [1, 2]) {
    const { url, process: child } = await spawnCache(config);
    const end = exited(child);
    const stall = ghcr.fault({ endpoint: 'blobhost', stallAfter: 1_000_000 });
    const begun = Promise.withResolvers<void>();
    const pulling = fetchRaw(url + blobPath(layer), { onData: () => begun.resolve() });
    await begun.promise;
    await stall.reached();
    child.kill('SIGTERM');
    await assertRefuses(url);
    if (signals === 2) child.kill('SIGTERM');
    else stall.remove();
    const reply = await pulling;
    assert.equal(reply.complete, signals === 1);
    assert.equal(await end, signals === 1 ? 0 : 1);
    ghcr.clearFaults();
    rmSync(data, { recursive: true });
  }
});

async function assertRefuses(url: string): Promise<void> {
  for (;;) {
    try {
      await fetchRaw(`${url}/healthz`);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === 'ECONNREFUSED') return;
      // What was already in the queue of the port when it was closed.
      assert.equal(code, 'ECONNRESET');
    }
  }
}

test('a second process on the same data directory is refused with a sentence', async t => {
  const { start } = await setUp(t);
  const first = await start();
  await assert.rejects(start(), /is in use by another ghcr-cache/);
  await first.stop();
  await start();
});

test('the data directory is an OCI image layout that other tools can read', async t => {
  const { data, start, pullAll } = await setUp(t);
  await pullAll(await start());
  assert.deepEqual(JSON.parse(readFileSync(join(data, 'content/oci-layout'), 'utf8')), {
    imageLayoutVersion: '1.0.0',
  });
  for (const { digest, sizeBytes } of image.layers) assert.equal(statSync(fileOf(data, digest)).size, sizeBytes);
});
