// Starting the program: on a Node that is too old, with an invalid config, and normally.
import assert from 'node:assert/strict';
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import test from 'node:test';
import { Cache, PROGRAM } from './support/cache.ts';
import { get } from './support/http.ts';
import { newDirectory } from './support/workspace.ts';

const OLDEST_NODE = 24;

/** Where the machine has no old Node, one that says it is. */
const PRETEND = 'data:text/javascript,Object.defineProperty(process.versions,"node",{value:"20.20.2"})';

test('an old Node is rejected in one line', () => {
  const old = oldNode();
  const [command, args] = old ? [old, []] : [process.execPath, ['--import', PRETEND]];
  const { status, stdout, stderr } = spawnSync(command, [...args, PROGRAM, 'serve'], { encoding: 'utf8' });
  assert.equal(status, 1);
  assert.equal(stdout, '');
  assert.equal(stderr.trimEnd().split('\n').length, 1, stderr);
  assert.match(stderr, /needs Node 24/);
});

test('an unknown config key is rejected with its file, line and name', () => {
  const path = join(newDirectory('config'), 'config.yaml');
  writeFileSync(path, 'listen:\n  port: 0\n  prot: 5000\n');
  const { status, stderr } = spawnSync(process.execPath, [PROGRAM, 'serve', '--config', path], {
    encoding: 'utf8',
  });
  assert.equal(status, 2);
  assert.equal(stderr.trimEnd().split('\n').length, 1, stderr);
  assert.ok(stderr.includes(path), stderr);
  assert.match(stderr, /\b3\b/);
  assert.match(stderr, /prot\b/);
});

test('it starts, prints its address, is healthy, and stops on request', async t => {
  const nowhere = 'http://127.0.0.1:9';
  await using cache = await Cache.start({ upstream: nowhere, fresh: '1m' });
  t.diagnostic(`ready after ${cache.startMs} ms`);
  assert.equal((await get(`${cache.url}/healthz`)).status, 200);
  assert.equal((await get(`${cache.url}/readyz`)).status, 200);
  assert.equal((await get(`${cache.url}/v2/`)).status, 200);
  await cache.stop();
  await assert.rejects(get(`${cache.url}/healthz`), { code: 'ECONNREFUSED' });
});

function oldNode(): string | undefined {
  const directories = [...(process.env.PATH ?? '').split(delimiter), '/usr/bin', '/usr/local/bin'];
  return directories
    .map(directory => join(directory, 'node'))
    .filter(path => existsSync(path))
    .find(
      path =>
        Number.parseInt(execFileSync(path, ['-p', 'process.versions.node'], { encoding: 'utf8' }), 10) < OLDEST_NODE,
    );
}
