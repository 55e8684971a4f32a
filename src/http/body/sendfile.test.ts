import assert from 'node:assert/strict';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdtempSync, open, openSync, readSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import net, { type AddressInfo, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { promisify } from 'node:util';
import { hasCachestat } from '../../../test/support/cachestat.ts';
import { loadSendfile, type Sendfile } from './sendfile.ts';

const LINUX = process.platform === 'linux' ? { timeout: 20_000 } : { skip: 'there is no such call here' };
const BYTES = Buffer.from('0123456789'.repeat(100));

const load = async () => (await loadSendfile(why => assert.fail(why))) ?? assert.fail();

function directoryOf(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'ghcr-cache-sendfile-'));
  t.after(() => rmSync(directory, { recursive: true }));
  return directory;
}

function fileOf(t: TestContext): number {
  const path = join(directoryOf(t), 'file');
  writeFileSync(path, BYTES);
  const fd = openSync(path, 'r');
  t.after(() => closeSync(fd));
  return fd;
}

/** Makes connections: our end, and the peer's. */
async function connections(t: TestContext): Promise<() => Promise<{ ours: Socket; peer: Socket }>> {
  const server = net.createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => server.close());
  return async () => {
    const accepted = once(server, 'connection');
    const peer = net.connect((server.address() as AddressInfo).port, '127.0.0.1').on('error', () => {});
    const [ours] = (await accepted) as [Socket];
    t.after(() => [ours, peer].forEach(socket => void socket.destroy()));
    return { ours, peer };
  };
}

async function several<T>(make: () => Promise<T>): Promise<T[]> {
  const made: T[] = [];
  while (made.length < 8) made.push(await make());
  return made;
}

async function received(peer: Socket): Promise<string> {
  let text = '';
  for await (const chunk of peer) text += chunk;
  return text;
}

/** Keeps every thread of libuv's pool busy until it is called. */
function blockPool(t: TestContext): () => Promise<void> {
  const directory = directoryOf(t);
  const fifos = Array.from({ length: Number(process.env.UV_THREADPOOL_SIZE ?? 4) }, (_, i) =>
    join(directory, `fifo-${i}`),
  );
  execFileSync('mkfifo', fifos);
  // Opening one for reading waits until it is opened for writing.
  const opening = fifos.map(fifo => promisify(open)(fifo, 'r'));
  let released: Promise<void> | undefined;
  const release = async () => {
    const writing = fifos.map(fifo => openSync(fifo, 'w'));
    for (const fd of [...writing, ...(await Promise.all(opening))]) closeSync(fd);
  };
  return () => {
    released ??= release();
    return released;
  };
}

const AT_ONCE = hasCachestat() ? LINUX : { skip: 'the system does not tell what is in memory' };
const WAYS: [string, (sendfile: Sendfile) => Sendfile['inThread'], typeof AT_ONCE][] = [
  ['in a thread', ({ inThread }) => inThread, LINUX],
  [
    'at once',
    ({ atOnce }) =>
      async (...call) =>
        atOnce(...call),
    AT_ONCE,
  ],
];

for (const [way, of, when] of WAYS) {
  test(`${way} sends bytes of a file from a position on, and says how many`, when, async t => {
    const send = of(await load());
    const { ours, peer } = await (await connections(t))();
    const fd = fileOf(t);
    assert.equal(await send(ours, fd, 3, 5), 5);
    assert.equal(await send(ours, fd, 990, 10), 10);
    ours.end();
    assert.equal(await received(peer), '345670123456789');
  });

  test(`${way} a full socket accepts what it can, and then nothing`, when, async t => {
    const send = of(await load());
    const { ours } = await (await connections(t))();
    const path = join(directoryOf(t), 'large');
    writeFileSync(path, Buffer.alloc(64 * 1024 * 1024));
    const fd = openSync(path, 'r');
    t.after(() => closeSync(fd));
    const count = 64 * 1024 * 1024;
    const taken = (await send(ours, fd, 0, count)) ?? 0;
    assert(taken > 0 && taken < count, `${taken} bytes were accepted`);
    while (((await send(ours, fd, 0, count)) ?? 0) > 0);
  });

  test(`${way} what is closed, or is no plain connection, is not sent to`, when, async t => {
    const send = of(await load());
    const { ours, peer } = await (await connections(t))();
    const fd = fileOf(t);
    assert.equal(await send(Object.assign(Object.create(ours), { encrypted: true }), fd, 0, 10), undefined);
    ours.destroy();
    assert.equal(await send(ours, fd, 0, 10), undefined);
    assert.equal(await received(peer), '');
  });
}

test('in a thread no more is sent than there is, and a failed call sends nothing', LINUX, async t => {
  const { inThread } = await load();
  const { ours } = await (await connections(t))();
  const fd = fileOf(t);
  assert.equal(await inThread(ours, fd, 990, 100), 10);
  assert.equal(await inThread(ours, fd, 1000, 100), 0);
  assert.equal(await inThread(ours, 1_000_000, 0, 10), 0, 'a descriptor that is none');
});

test('at once what is not all in memory is not sent', AT_ONCE, async t => {
  const { atOnce } = await load();
  const { ours, peer } = await (await connections(t))();
  const path = join(directoryOf(t), 'with a hole');
  const page = 64 * 1024;
  writeFileSync(path, Buffer.alloc(page, 'a'));
  // Nobody has read these, so that no memory holds them.
  truncateSync(path, 3 * page);
  const fd = openSync(path, 'r');
  t.after(() => closeSync(fd));
  assert.equal(atOnce(ours, fd, page, page), undefined);
  assert.equal(atOnce(ours, fd, page - 1, 2), undefined, 'one byte of them');
  assert.equal(atOnce(ours, 1_000_000, 0, 10), undefined, 'a descriptor that is none');
  assert.equal(atOnce(ours, fd, page - 2, 2), 2);
  assert.equal(readSync(fd, Buffer.alloc(page), 0, page, page), page);
  assert.equal(atOnce(ours, fd, page - 1, 3), 3);
  ours.end();
  assert.equal(await received(peer), 'aaa\0\0');
});

test('a connection that closes during a call is not mistaken for the next one', LINUX, async t => {
  const { inThread } = await load();
  const connect = await connections(t);
  const fd = fileOf(t);
  // Several, since others take descriptors too: the threads that are being blocked.
  const closing = await several(connect);
  const numbers = new Set(closing.map(({ ours }) => descriptorOf(ours)));
  const release = blockPool(t);
  try {
    const calls = closing.map(({ ours }) => inThread(ours, fd, 0, BYTES.length));
    for (const { ours } of closing) ours.destroy();
    await Promise.all(closing.map(({ ours }) => once(ours, 'close')));
    // Their numbers are free, and ends of other connections get them.
    const others = await several(connect);
    assert(others.some(ends => Object.values(ends).some(end => numbers.has(descriptorOf(end)))));
    await release();
    for (const call of calls) assert.equal(await call, BYTES.length);
    for (const { ours, peer } of others) {
      ours.end('theirs');
      peer.end('ours');
      assert.deepEqual(await Promise.all([received(ours), received(peer)]), ['ours', 'theirs']);
    }
    for (const { peer } of closing) assert.equal(await received(peer), BYTES.toString());
  } finally {
    await release();
  }
});

function descriptorOf(socket: Socket): number {
  return (socket as unknown as { _handle: { fd: number } })._handle.fd;
}
