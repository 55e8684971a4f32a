// Starting and stopping: the program's command line and signals, and a start that fails halfway.
import assert from 'node:assert/strict';
import { type SpawnSyncReturns, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readlinkSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import Database from 'better-sqlite3';
import { version } from '../../../src/base/version.ts';
import { run } from '../../../src/cli/main.ts';
import { startCache } from '../../../src/compose/cache.ts';
import { TestClock, testRandom } from '../../support/clock.ts';
import { directory, load } from '../../support/config.ts';

const PROGRAM = fileURLToPath(new URL('../../../bin/ghcr-cache.js', import.meta.url));
const data = join(directory, 'data');
const LISTEN = 'listen: { port: 0 }\ncache: { minFree: 1MiB }\n';

function start(...args: string[]): SpawnSyncReturns<string> {
  return spawnSync(process.execPath, [PROGRAM, ...args], { encoding: 'utf8' });
}

/** The same in this process. */
async function runHere(...args: string[]) {
  const printed: string[] = [];
  const failure = await run(args, { input: Readable.from([]), print: text => printed.push(text) });
  return { printed: printed.join('\n'), failure };
}

test('help and version go to stdout, and a wrong command line is one line and exit code 2', async () => {
  for (const args of [[], ['--help'], ['-h'], ['help']]) {
    const { printed, failure } = await runHere(...args);
    assert.equal(failure, undefined);
    for (const command of ['serve {2,}serve the registry API', 'login {2,}keep a login', 'logout {2,}forget']) {
      assert.match(printed, new RegExp(`^ {2}${command}`, 'm'));
    }
    assert.match(printed, /CR_PAT or GITHUB_TOKEN/);
  }
  const { printed, failure } = await runHere('serve', '--help');
  assert.equal(failure, undefined);
  for (const option of ['config FILE', 'port N', 'data DIR', 'check-config']) {
    assert.match(printed, new RegExp(`^ {2}--${option} +\\S`, 'm'));
  }
  assert.match((await runHere('login', '--help')).printed, /^ {2}-u, --username USER {2}\S/m);
  const { status, stdout, stderr } = start('--version');
  assert.deepEqual([status, stdout, stderr], [0, `${version}\n`, '']);
  const wrong = start('constructor');
  const none = 'there is no command "constructor"; see ghcr-cache --help';
  assert.deepEqual([wrong.status, wrong.stdout, wrong.stderr], [2, '', `ghcr-cache: ${none}\n`]);
  for (const [args, message] of [
    [['constructor'], none],
    [['serve', '--confg', 'x'], /^Unknown option '--confg'.*; see ghcr-cache --help$/],
    [['serve', '--config', '/none.yaml'], '/none.yaml: there is no such file'],
    [['serve', '--config', '/none.yaml', '--check-config'], '/none.yaml: there is no such file'],
    [['serve', '--check-config', '--port', '65536'], '--port "65536" is not a port: a whole number from 0 to 65535'],
    [['serve', '--check-config', '--port', ''], '--port "" is not a port: a whole number from 0 to 65535'],
    [['serve', '--check-config', '--data', ''], '--data needs a directory'],
  ] as const) {
    const { printed, failure } = await runHere(...args);
    assert.deepEqual([failure?.code, printed], [2, '']);
    if (message instanceof RegExp) assert.match(failure?.message ?? '', message);
    else assert.equal(failure?.message, message);
  }
});

/** The first line of a cache with these options, in a directory of its own; it is stopped after that. */
async function firstLine(t: TestContext, ...options: string[]): Promise<string> {
  const child = spawn(process.execPath, [PROGRAM, 'serve', ...options], { cwd: directory, env: { PATH: '/bin' } });
  const exit = once(child, 'exit');
  t.after(() => child.kill('SIGKILL'));
  const [line] = await once(child.stdout, 'data');
  child.kill('SIGTERM');
  await exit;
  return String(line).trimEnd();
}

const UPSTREAMS = `upstreams:
  ghcr.io: { url: "http://127.0.0.1:5001", credentials: [{ name: ci, token: x }] }
  quay.io: { offline: true }
`;
const FROM = 'ghcr.io at http://127.0.0.1:5001 (with credential "ci", default), quay.io (offline)';

test('options come before the config, and the start line names where an upstream really is', async t => {
  const file = join(directory, 'options.yaml');
  writeFileSync(file, `listen: { port: 1 }\ndata: ./not-this\ncache: { minFree: 1MiB }\n${UPSTREAMS}`);
  const line = await firstLine(t, '--config', file, '--port', '0', '--data', 'from-option');
  const where = `listens on http://127\\.0\\.0\\.1:\\d+, keeps its data in ${join(directory, 'from-option')}`;
  assert.match(line, new RegExp(`^ghcr-cache ${version} ${where}, and pulls from .*$`));
  assert.ok(line.endsWith(`and pulls from ${FROM}`), line);
  assert.equal(existsSync(join(directory, 'from-option/metadata.db')), true);
  assert.equal(existsSync(join(directory, 'not-this')), false);
  assert.match(await firstLine(t, '--port', '0', '--data', 'defaults'), /and pulls from ghcr\.io \(anonymously\)$/);
});

test('a config that is only checked is told in a line, and nothing is made, opened or contacted', async t => {
  const file = join(directory, 'checked.yaml');
  const checked = join(directory, 'checked');
  const port = await usedPort(t);
  writeFileSync(file, `listen: { port: ${port}, host: "::1" }\ndata: ./checked\n${UPSTREAMS}`);
  const { status, stdout, stderr } = start('serve', '--check-config', '--config', file);
  const plan = `would listen on http://[::1]:${port}, keep its data in ${checked}, and pull from ${FROM}`;
  assert.deepEqual([status, stderr, stdout], [0, '', `${file} is fine: ghcr-cache ${version} ${plan}\n`]);
  assert.equal(existsSync(checked), false);
  assert.match(
    start('serve', '--check-config', '--port', '0').stdout,
    /^the configuration is fine: .* any free port of 127/,
  );

  writeFileSync(file, 'listen: { prot: 1 }');
  const wrong = start('serve', '--check-config', '--config', file);
  assert.deepEqual([wrong.status, wrong.stdout], [2, '']);
  assert.match(wrong.stderr, /^ghcr-cache: \S+checked\.yaml:1: listen\.prot: unknown key/);
});

for (const signal of ['SIGTERM', 'SIGINT'] as const) {
  test(`${signal} right after the start line stops it cleanly, with exit code 0`, async () => {
    writeFileSync(join(directory, 'serve.yaml'), LISTEN);
    for (let round = 0; round < 2; round++) {
      const child = spawn(process.execPath, [PROGRAM, 'serve', '--config', join(directory, 'serve.yaml')], {
        stdio: ['ignore', 'pipe', 'ignore'],
      });
      child.stdout.once('data', () => child.kill(signal));
      const [code, endedBy] = await new Promise<unknown[]>(resolve => child.once('exit', (...how) => resolve(how)));
      assert.deepEqual([code, endedBy], [0, null]);
      assert.equal(existsSync(join(data, 'metadata.db')), true);
      assert.equal(existsSync(join(data, 'metadata.db-wal')), false, 'the database was closed');
    }
  });
}

function startHere(text = LISTEN) {
  const log = { debug() {}, info() {}, warn() {}, error() {} };
  return startCache(load(text), { clock: new TestClock(), random: testRandom(), log });
}

/** Files of the data directory that this process has open. */
function openFiles(): string[] {
  return readdirSync('/proc/self/fd').flatMap(fd => {
    try {
      const file = readlinkSync(`/proc/self/fd/${fd}`);
      return file.startsWith(data) ? [file] : [];
    } catch {
      return []; // that of the listing itself
    }
  });
}

/** Fails in its own way, then starts on the same data directory once what was wrong is mended. */
async function assertReleases(text: string, problem: RegExp, mend: () => unknown): Promise<void> {
  await assert.rejects(startHere(text), problem);
  if (existsSync('/proc/self/fd')) assert.deepEqual(openFiles(), []);
  await mend();
  const cache = await startHere();
  await cache.stop(0);
}

test('a start on a port that is in use names it, and releases lock and database', async t => {
  const port = await usedPort(t);
  const text = `listen: { port: ${port} }\ncache: { minFree: 1MiB }\n`;
  const problem = new RegExp(`^Error: cannot listen on 127\\.0\\.0\\.1:${port}: another program listens there`);
  await assertReleases(text, problem, () => {});
});

test('a start with a database that cannot be opened releases the lock', async () => {
  rmSync(data, { recursive: true, force: true });
  const path = join(data, 'metadata.db');
  mkdirSync(path, { recursive: true });
  await assertReleases(LISTEN, /unable to open database file/, () => rmdirSync(path));
});

test('a start with metadata of a newer version names it, and releases lock and database', async () => {
  const path = join(data, 'metadata.db');
  const setVersion = (change: (version: number) => number) => {
    const database = new Database(path);
    const version = database.pragma('user_version', { simple: true }) as number;
    database.pragma(`user_version = ${change(version)}`);
    database.close();
  };
  await (await startHere()).stop(0);
  setVersion(version => version + 1000);
  await assertReleases(LISTEN, /was written by a newer ghcr-cache/, () => setVersion(version => version - 1000));
});

/** Of a server that listens there until the test is over. */
function usedPort(t: TestContext): Promise<number> {
  const server = createServer();
  t.after(() => server.close());
  return new Promise(resolve =>
    server.listen(0, '127.0.0.1', () => resolve((server.address() as { port: number }).port)),
  );
}
