// How the program ends: what it says of the requests that it waits for and of those that it cuts, and that it does not
// outlive the npm that started it.
import assert from 'node:assert/strict';
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { until } from '../../support/async.ts';
import { startBoth } from '../../support/cache.ts';
import { startGhcr } from '../../support/ghcr/ghcr.ts';
import { fetchRaw } from '../../support/http-client.ts';
import { makeImage } from '../../support/images.ts';

const PROGRAM = fileURLToPath(new URL('../../../bin/ghcr-cache.js', import.meta.url));
const ROOT = fileURLToPath(new URL('../../..', import.meta.url));
const image = makeImage({ layers: [2_000_000] });
const layer = image.layers[0] ?? assert.fail();
const LAYER = `/v2/owner/app/blobs/${layer.digest}`;
const NAME = `ghcr.io/owner/app@${layer.digest.slice(0, 'sha256:'.length + 12)}…`;

/** A fake ghcr.io whose blobs stall in the middle, and a config for it. */
async function setUp(t: TestContext) {
  const directory = mkdtempSync(join(tmpdir(), 'ghcr-cache-shutdown-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  const ghcr = await startGhcr();
  t.after(() => ghcr.close());
  ghcr.push('owner/app', image, 'v1');
  const stall = ghcr.fault({ endpoint: 'blobhost', stallAfter: 1_000_000 });
  const config = join(directory, 'config.yaml');
  const upstreams = { 'ghcr.io': { url: ghcr.url, credentials: [] } };
  writeFileSync(config, JSON.stringify({ listen: { port: 0 }, data: './data', cache: { minFree: '1MiB' }, upstreams }));
  return { ghcr, stall, config };
}

/** Runs a command that starts the program; what it prints, and where the cache is. */
async function start(t: TestContext, [command = '', ...args]: string[], env = process.env) {
  const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], cwd: ROOT, env });
  closed.set(child, once(child, 'close'));
  t.after(() => child.kill('SIGKILL'));
  const printed = { out: '', err: '' };
  child.stdout.on('data', chunk => {
    printed.out += chunk;
  });
  child.stderr.on('data', chunk => {
    printed.err += chunk;
  });
  const address = () => /http:\/\/127\.0\.0\.1:\d+/.exec(printed.out)?.[0];
  await until(() => address() ?? child.exitCode !== null);
  /** The sentences of the log. */
  const said = () => [...printed.err.matchAll(/"msg":"(.*?)"/g)].map(([, message]) => message);
  return { child, url: address() ?? assert.fail(printed.err), said };
}

/** A pull of the layer, of which the client has a part, and which has stalled. */
async function stalledPull(url: string, stall: { reached(): Promise<unknown> }) {
  const begun = Promise.withResolvers<void>();
  const pulling = fetchRaw(url + LAYER, { onData: () => begun.resolve() });
  await Promise.all([begun.promise, stall.reached()]);
  return { pulling };
}

const closed = new WeakMap<ChildProcess, Promise<unknown>>();

/** Its exit code, when all that it printed is here. */
async function exitOf(child: ChildProcess) {
  await closed.get(child);
  return child.exitCode;
}

/** Without what `npm test` has told us of itself. */
const PLAIN = { ...process.env, npm_lifecycle_event: undefined };

for (const signals of [1, 2]) {
  test(`a signal with a pull under way says what it waits for, ${signals === 1 ? 'and when all is done' : 'and a second one what it cuts'}`, async t => {
    const { stall, config } = await setUp(t);
    const { child, url, said } = await start(t, [process.execPath, PROGRAM, 'serve', '--config', config], PLAIN);
    const { pulling } = await stalledPull(url, stall);
    child.kill('SIGINT');
    const waits = `shutting down (SIGINT): waits up to 8 s for 1 pull (${NAME}); a second signal ends it now`;
    await until(() => said().includes(waits));
    if (signals === 1) stall.remove();
    else child.kill('SIGINT');
    assert.equal((await pulling).complete, signals === 1);
    assert.equal(await exitOf(child), signals === 1 ? 0 : 1);
    assert.equal(said().at(-1), signals === 1 ? 'stopped' : `stopped at once (SIGINT): 1 pull (${NAME}) cut`);
  });
}

test('a signal with nothing under way is two lines', async t => {
  const { config } = await setUp(t);
  const { child, said } = await start(t, [process.execPath, PROGRAM, 'serve', '--config', config], PLAIN);
  child.kill('SIGTERM');
  assert.equal(await exitOf(child), 0);
  assert.deepEqual(said().slice(-2), ['shutting down (SIGTERM)', 'stopped']);
});

test('what is cut when the time is over is logged as the doing of the server, not of the client', async t => {
  const { ghcr, cache } = await startBoth(t);
  ghcr.push('owner/app', image, 'v1');
  const stall = ghcr.fault({ endpoint: 'blobhost', stallAfter: 1_000_000 });
  const { pulling } = await stalledPull(cache.url, stall);
  await cache.stop();
  assert.equal((await pulling).complete, false);
  assert.match(
    cache.log(),
    /^warn cut by the shutdown of the server \{\n? +method: 'GET',\n? +kind: 'blob',\n? +image: 'ghcr\.io\/owner\/app@sha256:/m,
  );
  assert.doesNotMatch(cache.log(), /client disconnected/);
});

const NPM = process.platform === 'win32' ? { skip: 'signals are another thing here' } : {};

for (const signal of ['SIGTERM', 'SIGKILL'] as const) {
  test(`npm start does not leave the server behind when npm gets ${signal}`, NPM, async t => {
    const { config } = await setUp(t);
    const { child, url } = await start(t, ['npm', 'start', '--', '--config', config]);
    assert.equal((await fetchRaw(`${url}/healthz`)).status, 200);
    child.kill(signal);
    await until(async () => {
      try {
        await fetchRaw(`${url}/healthz`);
        return false;
      } catch (error) {
        return (error as NodeJS.ErrnoException).code === 'ECONNREFUSED';
      }
    });
  });
}

test('one Ctrl-C under npm, which we get twice, lets a pull finish', NPM, async t => {
  const { stall, config } = await setUp(t);
  const env = { ...process.env, npm_lifecycle_event: 'start' };
  const { child, url, said } = await start(t, [process.execPath, PROGRAM, 'serve', '--config', config], env);
  const { pulling } = await stalledPull(url, stall);
  child.kill('SIGINT');
  await until(() => said().length > 0);
  child.kill('SIGINT');
  stall.remove();
  assert.equal((await pulling).complete, true);
  assert.equal(await exitOf(child), 0);
  assert.equal(said().at(-1), 'stopped');
});
