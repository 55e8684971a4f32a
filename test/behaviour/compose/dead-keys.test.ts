// No key of the config is dead. Each key of the schema makes a difference to the loaded config, and each leaf of a
// loaded config is read by a cache that serves: a recording proxy around the config says which are. A config must not
// be spread, since that reads every key, so the proxy forbids it.
import assert from 'node:assert/strict';
import { mkdtempSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { rootCertificates } from 'node:tls';
import { isDeepStrictEqual } from 'node:util';
import { openLog } from '../../../src/cli/log.ts';
import { startCache } from '../../../src/compose/cache.ts';
import { type Config, ConfigError, schema } from '../../../src/config/load.ts';
import * as value from '../../../src/config/values.ts';
import { TestClock, testRandom } from '../../support/clock.ts';
import { directory, load, schemaKeys, valueKeys } from '../../support/config.ts';
import { startGhcr } from '../../support/ghcr/ghcr.ts';
import { fetchRaw } from '../../support/http-client.ts';
import { makeImage } from '../../support/images.ts';

/** There is one mode, so nothing can depend on it. */
const WITHOUT_CHOICE = ['access.mode'];
/** Lists of images, whose parts are no keys. */
const IMAGES = ['pins'];

/** Sets every key, to something other than its default. */
function sample(url: string) {
  writeFileSync(join(directory, 'token'), 'other');
  writeFileSync(join(directory, 'ca.pem'), rootCertificates[0] ?? '');
  return {
    listen: { host: '0.0.0.0', port: 0, hosts: ['cache.lab.example'] },
    data: './elsewhere',
    cache: { maxSize: '1GiB', minFree: '1MiB', verifyEvery: '1d' },
    upstreams: {
      'ghcr.io': {
        url,
        api: `${url}/api`,
        credentials: [
          { name: 'ci', owner: 'octo', username: 'octocat', token: 'secret' },
          { username: 'octocat', tokenFile: 'token' },
        ],
        realms: ['auth.example.com'],
        parallel: 2,
        blobHosts: ['*.cdn.example.com'],
        timeouts: { connect: '1s', headers: '2s', stall: '3s' },
        ca: 'ca.pem',
      },
      'quay.io': { offline: true },
    },
    default: 'quay.io',
    tags: [{ match: 'v*', images: 'octo/*', fresh: '10s', keepDeleted: true, writeOnce: true }],
    staleIfError: '1d',
    readAhead: false,
    writeGrace: '5s',
    push: 'off',
    access: { mode: 'open', network: true },
    pins: ['octo/app:v1'],
    log: { level: 'silent', format: 'json' },
  };
}

/** Those that `config` can go without and still be loaded to the same. */
async function ignoredKeys(keys: readonly string[], config: object): Promise<string[]> {
  const whole = await outcomeOf(config);
  const ignored = [];
  for (const key of keys) {
    const part = structuredClone(config);
    remove(part, key.split('.'));
    if (isDeepStrictEqual(await outcomeOf(part), whole)) ignored.push(key);
  }
  return ignored;
}

/** Everything that can be told of a config once it is loaded, secrets included; or the error. */
async function outcomeOf(config: object): Promise<unknown> {
  try {
    const loaded = load(JSON.stringify(config));
    const logins = [...loaded.upstreams.values()].flatMap(({ credentials }) =>
      credentials.map(({ name, owner, read }) => Promise.all([name, owner, read()])),
    );
    const upstreams = [...loaded.upstreams].map(([host, upstream]) => ({
      ...upstream,
      host,
      credentials: [],
    }));
    return { ...loaded, upstreams, logins: await Promise.all(logins) };
  } catch (error) {
    if (error instanceof ConfigError) return error.message;
    throw error;
  }
}

/** Removes the key from every place that its path leads to. */
function remove(node: unknown, [step = '', ...rest]: readonly string[]): void {
  if (typeof node !== 'object' || node === null) return;
  const name = step.replace('[]', '');
  if (rest.length === 0) return void Reflect.deleteProperty(node, name);
  for (const [key, inner] of Object.entries(node)) {
    if (name !== '*' && key !== name) continue;
    for (const each of Array.isArray(inner) ? inner : [inner]) remove(each, rest);
  }
}

test('every key of the schema makes a difference', async () => {
  const config = sample('http://127.0.0.1:1');
  const keys = schemaKeys(schema);
  assert.deepEqual(valueKeys(config).sort(), keys.filter(key => !key.endsWith('credentials')).sort());
  assert.deepEqual(await ignoredKeys(keys, config), WITHOUT_CHOICE);
});

test('a key that the loader ignores is found', async () => {
  const keys = schemaKeys(value.section({ log: value.section({ madeUp: value.flag.prefault(false) }) }));
  assert.deepEqual(keys, ['log.madeUp']);
  assert.deepEqual(await ignoredKeys(['push', ...keys], sample('http://127.0.0.1:1')), keys);
});

/** `config` as something that notes the path of every key that is read. */
function recording<T>(config: T, read: Set<string>, path = ''): T {
  if (IMAGES.includes(path)) return config;
  const inner = <U>(value: U, step: string) => recording(value, read, step);
  if (config instanceof Map) return new Map([...config].map(([key, each]) => [key, inner(each, `${path}.*`)])) as T;
  if (Array.isArray(config)) return config.map(each => inner(each, `${path}[]`)) as T;
  if (!isPlain(config)) return config;
  return new Proxy(config, {
    get: (target, key) => {
      const step = path === '' ? String(key) : `${path}.${String(key)}`;
      read.add(step);
      return inner(Reflect.get(target, key), step);
    },
    ownKeys: () => assert.fail(`${path || 'the config'} must not be spread: name the keys that are used`),
  });
}

function leavesOf(config: unknown, path = ''): string[] {
  if (config instanceof Map) return [...config.values()].flatMap(each => leavesOf(each, `${path}.*`));
  if (Array.isArray(config) && config.some(isPlain) && !IMAGES.includes(path))
    return config.flatMap(each => leavesOf(each, `${path}[]`));
  if (!isPlain(config)) return [path];
  return Object.entries(config).flatMap(([key, each]) => leavesOf(each, path === '' ? key : `${path}.${key}`));
}

function isPlain(value: unknown): value is object {
  return typeof value === 'object' && value !== null && Object.getPrototypeOf(value) === Object.prototype;
}

/** The leaves that a cache does not read, which starts, pulls a private image, and loses it upstream. */
async function unreadLeaves(t: TestContext, change: (config: Config) => object = config => config) {
  const clock = new TestClock();
  const ghcr = await startGhcr({ now: clock.now });
  t.after(() => ghcr.close());
  ghcr.addUser({ username: 'octocat', token: 'secret', packages: ['octo/*'] });
  ghcr.addPackage('octo/app', { visibility: 'private' });
  ghcr.push('octo/app', makeImage({ layers: [100] }), 'v1');

  const loaded = load(JSON.stringify(sample(ghcr.url)));
  const own = { data: mkdtempSync(join(directory, 'data-')), listen: { ...loaded.listen, host: '127.0.0.1', port: 0 } };
  const config = change({ ...loaded, ...own });
  const read = new Set<string>();
  const recorded = recording(config, read) as Config;
  const log = openLog(recorded);
  const cache = await startCache(recorded, { clock, random: testRandom(), log });
  t.after(() => cache.stop(0));
  const pull = () => fetchRaw(`http://127.0.0.1:${cache.server.address.port}/v2/ghcr.io/octo/app/manifests/v1`);
  assert.equal((await pull()).headers['x-cache'], 'miss');
  assert.equal((await pull()).headers['x-cache'], 'hit');
  ghcr.deletePackage('octo/app');
  clock.advance(60_000);
  assert.equal((await pull()).headers['x-cache'], 'stale');
  return [...new Set(leavesOf(config))].filter(leaf => !read.has(leaf));
}

test('every leaf of a loaded config is read', async t => {
  assert.deepEqual(await unreadLeaves(t), []);
});

test('a leaf that nothing reads is found', async t => {
  const unread = await unreadLeaves(t, config => ({
    ...config,
    madeUp: true,
    cache: { ...config.cache, madeUp: { deeper: 1 } },
    tags: config.tags.map(rule => ({ ...rule, madeUp: 'x' })),
  }));
  assert.deepEqual(unread.sort(), ['cache.madeUp.deeper', 'madeUp', 'tags[].madeUp']);
});

test('a config that is spread is found', () => {
  const { cache } = recording({ cache: { maxSizeBytes: 1 } }, new Set());
  assert.throws(() => ({ ...cache }), /cache must not be spread/);
});
