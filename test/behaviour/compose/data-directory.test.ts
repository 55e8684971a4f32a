// The data directory: who may read it, that one process alone has it, and what is said where it cannot be used.
import assert from 'node:assert/strict';
import { type SpawnSyncOptions, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, readdirSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { fileURLToPath } from 'node:url';
import Database from 'better-sqlite3';
import { startInDirectory } from '../../support/cache.ts';
import { makeImage } from '../../support/images.ts';

const PROGRAM = fileURLToPath(new URL('../../../bin/ghcr-cache.js', import.meta.url));
const image = makeImage({ layers: [1000, 300_000] });
const V1 = '/v2/owner/app/manifests/v1';
const blobPath = ({ digest }: { digest: string }) => `/v2/owner/app/blobs/${digest}`;

async function setUp(t: TestContext) {
  const started = await startInDirectory(t, image);
  const { start } = started;
  const pull = async (cache: Awaited<ReturnType<typeof start>>) => {
    const outcomes = [];
    for (const path of [V1, ...image.layers.map(blobPath)]) outcomes.push((await cache.get(path)).headers['x-cache']);
    await cache.settled();
    return outcomes;
  };
  return { ...started, pull };
}

/** The real program on this data directory, which it is not to start on. */
function runOn(data: string, directory: string, options: SpawnSyncOptions = {}, ...wrap: string[]) {
  const config = join(directory, 'config.yaml');
  const upstreams = { 'ghcr.io': { credentials: [], url: 'http://127.0.0.1:1' } };
  writeFileSync(config, JSON.stringify({ listen: { port: 0 }, data, cache: { minFree: '1MiB' }, upstreams }));
  const [command = '', ...args] = [...wrap, process.execPath, PROGRAM, 'serve', '--config', config];
  const { status, stdout, stderr } = spawnSync(command, args, { encoding: 'utf8', timeout: 20_000, ...options });
  return { status, stdout: String(stdout), stderr: String(stderr) };
}

const modeOf = (path: string) => (statSync(path).mode & 0o777).toString(8);

/** The mode of everything in a directory, by path within it. */
function modesIn(directory: string): Record<string, string> {
  const names = readdirSync(directory, { recursive: true, encoding: 'utf8' });
  return Object.fromEntries(names.map(name => [name, modeOf(join(directory, name))]));
}

/** 0600 for files, 0700 for directories. */
function assertPrivate(directory: string): void {
  const expected = Object.keys(modesIn(directory)).map(name => [
    name,
    statSync(join(directory, name)).isDirectory() ? '700' : '600',
  ]);
  assert.deepEqual(modesIn(directory), Object.fromEntries(expected));
}

test('nobody but its owner reads what is in the data directory, whatever the umask', async t => {
  const before = process.umask(0);
  t.after(() => process.umask(before));
  const { data, start, pull } = await setUp(t);
  const cache = await start();
  await pull(cache);
  const upload = await cache.get('/v2/owner/app/blobs/uploads/', { method: 'POST' });
  assert.ok(upload.status === 202 || upload.status === 403);
  assert.equal(modeOf(data), '700');
  assertPrivate(data);
  const names = Object.keys(modesIn(data));
  for (const name of ['metadata.db', 'metadata.db-wal', 'content/index.json', 'content/blobs/sha512']) {
    assert.ok(names.includes(name), name);
  }
});

test('what an earlier version left for all to read is closed to them, a damaged database too', async t => {
  const { data, start, pull } = await setUp(t);
  const first = await start();
  await pull(first);
  await first.stop();
  writeFileSync(join(data, 'metadata.db.damaged-1'), 'garbage');
  writeFileSync(join(data, 'lock'), '');
  for (const name of Object.keys(modesIn(data))) {
    chmodSync(join(data, name), statSync(join(data, name)).isDirectory() ? 0o755 : 0o644);
  }
  chmodSync(data, 0o755);
  const second = await start();
  assert.equal(modeOf(data), '700');
  assertPrivate(data);
  assert.deepEqual(await pull(second), ['hit', 'hit', 'hit']);
  assert.ok(!readdirSync(data).includes('lock'), 'the lock of an earlier version is of no use any more');
});

test('a directory with things of others in it keeps its mode, and so do they; what is ours is closed', async t => {
  const { data, start } = await setUp(t);
  mkdirSync(data);
  writeFileSync(join(data, 'theirs'), '');
  for (const path of [data, join(data, 'theirs')]) chmodSync(path, 0o777);
  await start();
  assert.deepEqual([modeOf(data), modeOf(join(data, 'theirs'))], ['777', '777']);
  for (const name of ['content', 'ingest']) assert.equal(modeOf(join(data, name)), '700');
  assert.equal(modeOf(join(data, 'metadata.db')), '600');
});

test('a second process does not get in, whatever a person removes', async t => {
  const { directory, data, start, pull } = await setUp(t);
  const first = await start();
  await pull(first);
  writeFileSync(join(data, 'ingest/in flight'), '');
  for (const remove of ['lock', 'metadata.db-wal', 'metadata.db']) {
    rmSync(join(data, remove), { force: true });
    const { status, stdout, stderr } = runOn(data, directory);
    assert.equal(
      stderr,
      `ghcr-cache: ${data} is in use by another ghcr-cache; stop that one, or give this one another "data"\n`,
    );
    assert.deepEqual([status, stdout], [1, '']);
  }
  assert.ok(readdirSync(join(data, 'ingest')).includes('in flight'), 'it removed nothing of the first');
  await first.stop();
  await start();
});

test('a database that another program has open for writing is named', async t => {
  const { directory, data, start } = await setUp(t);
  await (await start()).stop();
  const other = new Database(join(data, 'metadata.db'));
  t.after(() => other.close());
  other.exec('BEGIN IMMEDIATE');
  const { status, stderr } = runOn(data, directory);
  assert.match(
    stderr,
    /^ghcr-cache: the data directory \S+ cannot be used by .*: another program has its metadata\.db/,
  );
  assert.equal(status, 1);
});

test('no other program reads the database of a running cache', async t => {
  const { data, start } = await setUp(t);
  await start();
  const other = new Database(join(data, 'metadata.db'), { readonly: true, timeout: 0 });
  t.after(() => other.close());
  assert.throws(() => other.prepare('SELECT count(*) FROM content').get(), { code: 'SQLITE_BUSY' });
});

test('a data directory that cannot be used is one sentence with the user and what to do, and exit code 1', async t => {
  const { directory } = await setUp(t);
  writeFileSync(join(directory, 'file'), '');
  symlinkSync(join(directory, 'nowhere'), join(directory, 'link'));
  mkdirSync(join(directory, 'taken'));
  writeFileSync(join(directory, 'taken/content'), '');
  mkdirSync(join(directory, 'wrong/metadata.db'), { recursive: true });
  const file = join(directory, 'file');
  const elsewhere = 'give "data" a directory that can be written';
  const cases: [data: string, why: string | RegExp][] = [
    [file, `${file} is not a directory, or not in one; ${elsewhere}`],
    [join(file, 'data'), `${join(file, 'data')} is not a directory, or not in one; ${elsewhere}`],
    [join(directory, 'link'), /link is not a directory, or not in one; give "data"/],
    [join(directory, 'taken'), /content\/blobs\S* is not a directory, or not in one; give "data"/],
    [
      join(directory, 'wrong'),
      /its metadata\.db cannot be written \(unable to open database file\); give the directory/,
    ],
  ];
  if (process.platform === 'linux')
    cases.push(['/proc/ghcr-cache/data', /its file system takes no new files .*; give/]);
  const { username, uid } = userInfo();
  for (const [data, why] of cases) {
    const { status, stdout, stderr } = runOn(data, directory);
    const start = `ghcr-cache: the data directory ${data} cannot be used by the user ${username} (uid ${uid}): `;
    assert.ok(stderr.startsWith(start), stderr);
    const rest = stderr.slice(start.length);
    if (typeof why === 'string') assert.equal(rest, `${why}\n`);
    else assert.match(rest, why);
    assert.equal(stderr.trimEnd().split('\n').length, 1, stderr);
    assert.deepEqual([status, stdout], [1, ''], data);
  }
});

const ROOT = process.getuid?.() === 0 ? {} : { skip: 'to start it as another user takes root' };
const NOBODY = 65534;

test('a data directory of another user is closed to us: which path, who we are, and how to give it', ROOT, async t => {
  const { directory, data } = await setUp(t);
  chmodSync(directory, 0o755);
  const other = { uid: NOBODY, gid: NOBODY };
  if (spawnSync(process.execPath, ['-e', `require(${JSON.stringify(PROGRAM)})`], other).error) {
    return t.skip('another user cannot reach this checkout');
  }
  const start = new RegExp(
    `^ghcr-cache: the data directory ${data} cannot be used by the user \\S+ \\(uid ${NOBODY}\\): `,
  );
  const remedy = new RegExp(
    `give the directory, and what is in it, to that user \\(chown -R ${NOBODY} ${data}\\), or `,
  );
  const assertSays = (why: RegExp) => {
    const { status, stderr } = runOn(data, directory, other);
    for (const part of [start, remedy, why]) assert.match(stderr, part);
    assert.equal(status, 1);
  };
  // It cannot be made, written, entered, or is written in parts alone.
  assertSays(new RegExp(`: ${data} is closed to that user; `));
  mkdirSync(data, { mode: 0o755 });
  assertSays(new RegExp(`: ${data}/ingest is closed to that user; `));
  chmodSync(data, 0o700);
  assertSays(new RegExp(`: ${data} is closed to that user; `));
  chmodSync(data, 0o777);
  for (const name of ['content', 'ingest']) mkdirSync(join(data, name), { mode: 0o755 });
  assertSays(new RegExp(`: ${data}/content/blobs is closed to that user; `));
  chmodSync(join(data, 'content'), 0o777);
  assertSays(new RegExp(`: ${data}/ingest/.check is closed to that user; `));
});

test('a data directory on a file system that is mounted read-only is rejected', ROOT, async t => {
  const { directory, data } = await setUp(t);
  mkdirSync(data);
  const mount = 'mount -t tmpfs -o ro none "$0" && exec "$@"';
  const inside = ['unshare', '-m', 'sh', '-c', mount, data];
  if (spawnSync(inside[0] ?? '', [...inside.slice(1), 'true']).status !== 0)
    return t.skip('nothing can be mounted here');
  const { status, stderr } = runOn(data, directory, {}, ...inside);
  assert.match(
    stderr,
    /cannot be used by .*: it is on a file system that is mounted read-only; mount that writable, or /,
  );
  assert.equal(status, 1);
});
