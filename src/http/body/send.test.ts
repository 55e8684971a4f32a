import assert from 'node:assert/strict';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readdirSync, readSync, rmSync, writeFileSync } from 'node:fs';
import http, { type ServerResponse } from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { suite, type TestContext, test } from 'node:test';
import { hasCachestat } from '../../../test/support/cachestat.ts';
import type { Source } from '../../content/content.ts';
import type { Span } from '../../oci/range.ts';
import { type Pump, pumpBuffers } from './pump.ts';
import { send, sendSource } from './send.ts';
import { loadSendfile } from './sendfile.ts';
import { zerocopy } from './zerocopy.ts';

const MIB = 1024 * 1024;
const BODY = randomBytes(9 * MIB + 12_345);
const sendfile = await loadSendfile(why => {
  // Where it is meant to be, it has to be.
  if (process.platform === 'linux') throw new Error(why);
});
const PUMPS: [string, Pump][] = [['through buffers', pumpBuffers]];
if (sendfile !== undefined) {
  PUMPS.push(['by sendfile', zerocopy(sendfile)]);
  PUMPS.push(['by sendfile in threads alone', zerocopy({ ...sendfile, atOnce: () => undefined })]);
}

/** A server whose every request is handed the response. */
async function serve(t: TestContext, handler: (outgoing: ServerResponse) => void) {
  const server = http.createServer((_, outgoing) => handler(outgoing));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  t.after(() => {
    server.closeAllConnections();
    server.close();
  });
  const { port } = server.address() as AddressInfo;
  return { server, port, url: `http://127.0.0.1:${port}/` };
}

/** A server whose one handler gets the response; what it does is awaited by `handled`. */
async function serveOnce(t: TestContext, handler: (outgoing: ServerResponse) => Promise<unknown>) {
  const handled = Promise.withResolvers<unknown>();
  const { url } = await serve(t, outgoing => handled.resolve(handler(outgoing).catch(error => error)));
  return { url, handled: handled.promise };
}

function sourceOf(sizeBytes: number, read: Source['read'] = async into => into.fill(7).length) {
  const calls = { reads: 0, closes: 0 };
  const source: Source = {
    sizeBytes,
    read: (into, position) => {
      calls.reads++;
      return read(into, position);
    },
    close: () => {
      calls.closes++;
    },
  };
  return { source, calls };
}

/** BODY as a file, and sources of it that count what is done with them. */
function fileOf(t: TestContext) {
  const folder = mkdtempSync(join(tmpdir(), 'ghcr-cache-send-'));
  t.after(() => rmSync(folder, { recursive: true }));
  const path = join(folder, 'body');
  writeFileSync(path, BODY);
  const calls = { reads: 0, lent: 0, released: 0, closes: 0 };
  const open = (endOf = (_position: number): number | undefined => BODY.length): Source => {
    const fd = openSync(path, 'r');
    return {
      sizeBytes: BODY.length,
      read: async (into, position) => {
        calls.reads++;
        return readSync(fd, into, 0, into.byteLength, position);
      },
      lend: async position => {
        const end = endOf(position);
        if (end === undefined) return undefined;
        calls.lent++;
        // As good as its word: open until it is released, whatever becomes of the source.
        const lent = openSync(path, 'r');
        return {
          fd: lent,
          end,
          release: () => {
            calls.released++;
            closeSync(lent);
          },
        };
      },
      close: () => {
        calls.closes++;
        closeSync(fd);
      },
    };
  };
  return { open, calls };
}

async function bodyOf(incoming: http.IncomingMessage): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of incoming) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

/** Without an agent, on a connection of its own that is closed behind it. */
async function get(url: string, agent: http.Agent | false = false): Promise<http.IncomingMessage> {
  const request = http.get(url, { agent });
  const [incoming] = (await once(request, 'response')) as [http.IncomingMessage];
  return incoming;
}

function assertSame(actual: Buffer, expected: Buffer): void {
  const sha = (bytes: Buffer) => createHash('sha256').update(bytes).digest('hex');
  assert.deepEqual([actual.length, sha(actual)], [expected.length, sha(expected)]);
}

/** Turns of the event loop, in which what is under way goes on. */
async function turns(count: number): Promise<void> {
  for (let i = 0; i < count; i++) await new Promise(resolve => setImmediate(resolve));
}

for (const [how, pump] of PUMPS) {
  suite(how, () => {
    test('nothing is read for a client that left before the answer began', async t => {
      const { source, calls } = sourceOf(10_000_000);
      const { url, handled } = await serveOnce(t, async outgoing => {
        request.destroy();
        await once(outgoing, 'close');
        return sendSource(outgoing, {}, source, undefined, pump);
      });
      const request = http.get(url).on('error', () => {});
      assert.equal(await handled, undefined);
      assert.deepEqual(calls, { reads: 0, closes: 1 });
    });

    test('a client that leaves in the middle ends the reading, and that is no error', async t => {
      const { source, calls } = sourceOf(1_000_000_000);
      const { url, handled } = await serveOnce(t, outgoing =>
        sendSource(outgoing, {}, source, undefined, pump),
      );
      const request = http
        .get(url, incoming => incoming.once('data', () => request.destroy()))
        .on('error', () => {});
      assert.equal(await handled, undefined);
      assert(calls.reads < 1000);
      assert.equal(calls.closes, 1);
    });

    test('a source that fails, or ends too early, cuts the connection', async t => {
      const failing = async () => Promise.reject(new Error('rotten'));
      for (const [read, reason] of [
        [failing, /rotten/],
        [async () => 0, /ends at byte 0 of 1000/],
      ] as [Source['read'], RegExp][]) {
        const { source, calls } = sourceOf(1000, read);
        const { url, handled } = await serveOnce(t, outgoing =>
          sendSource(outgoing, {}, source, undefined, pump),
        );
        await assert.rejects(fetch(url).then(answer => answer.arrayBuffer()));
        assert.match(String(await handled), reason);
        assert.equal(calls.closes, 1);
      }
    });

    test('a client that does not read is not read for: no more than two buffers are in the air', async t => {
      const { source, calls } = sourceOf(1_000_000_000);
      const { url, handled } = await serveOnce(t, outgoing =>
        sendSource(outgoing, {}, source, undefined, pump),
      );
      const request = http.get(url, incoming => incoming.pause()).on('error', () => {});
      const [incoming] = await once(request, 'response');
      let before = -1;
      // The buffers of both sockets fill up first.
      while (before !== calls.reads) {
        before = calls.reads;
        for (let i = 0; i < 200; i++) await new Promise(resolve => setImmediate(resolve));
      }
      assert(calls.reads < 200, `${calls.reads} reads`);
      incoming.destroy();
      assert.equal(await handled, undefined);
    });

    test('a file is sent whole, one answer after the other on one connection', async t => {
      const { open, calls } = fileOf(t);
      const done: Promise<void>[] = [];
      const { url, server } = await serve(t, outgoing => {
        done.push(sendSource(outgoing, {}, open(), undefined, pump));
      });
      const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
      t.after(() => agent.destroy());
      let connections = 0;
      server.on('connection', () => connections++);
      for (let i = 0; i < 3; i++) assertSame(await bodyOf(await get(url, agent)), BODY);
      assert.equal(connections, 1);
      await Promise.all(done);
      assert.equal(calls.closes, 3);
      assert.equal(calls.released, calls.lent);
      if (pump !== pumpBuffers) assert.equal(calls.lent, 3);
    });

    test('spans of a file, one and several, large and small', async t => {
      const { open } = fileOf(t);
      const spans: Span[] = [
        { start: 0, end: 1 },
        { start: 1000, end: 5 * MIB },
        { start: 5 * MIB, end: 5 * MIB + 10 },
        { start: BODY.length - 300_000, end: BODY.length },
      ];
      for (const picked of [...spans.map(span => [span]), spans]) {
        const { url } = await serve(t, outgoing => void sendSource(outgoing, {}, open(), picked, pump));
        const incoming = await get(url);
        const body = await bodyOf(incoming);
        assert.equal(incoming.statusCode, 206);
        const parts = picked.map(({ start, end }) => BODY.subarray(start, end));
        if (parts.length === 1) assertSame(body, parts[0] as Buffer);
        else for (const part of parts) assert(body.includes(part), `${part.length} bytes are missing`);
      }
    });

    test('a client that reads slowly gets it all, in the right order', async t => {
      const { open } = fileOf(t);
      const { url } = await serve(t, outgoing => {
        outgoing.socket?.setNoDelay(true);
        void sendSource(outgoing, {}, open(), undefined, pump);
      });
      const incoming = await get(url);
      const chunks: Buffer[] = [];
      for await (const chunk of incoming) {
        chunks.push(chunk as Buffer);
        if (chunks.length % 8 === 0) await turns(20);
      }
      assertSame(Buffer.concat(chunks), BODY);
    });

    test('answers to requests that come all at once go out in their order', async t => {
      const { open } = fileOf(t);
      const { port } = await serve(t, outgoing => void sendSource(outgoing, {}, open(), undefined, pump));
      const socket = net.connect(port, '127.0.0.1');
      t.after(() => socket.destroy());
      socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(3));
      const answerBytes = (received: Buffer) => received.indexOf('\r\n\r\n') + 4 + BODY.length;
      let received: Buffer = Buffer.alloc(0);
      let count = 0;
      for await (const chunk of socket) {
        received = Buffer.concat([received, chunk as Buffer]);
        if (received.length < BODY.length || received.length < answerBytes(received)) continue;
        assert(received.subarray(0, 100).toString().startsWith('HTTP/1.1 200 OK'));
        const head = received.indexOf('\r\n\r\n') + 4;
        assertSame(received.subarray(head, head + BODY.length), BODY);
        received = received.subarray(head + BODY.length);
        if (++count === 3) break;
      }
      assert.equal(count, 3);
      assert.equal(received.length, 0);
    });

    test('a source whose file grows is followed, and one that lends no more is read', async t => {
      const { open, calls } = fileOf(t);
      // The last megabyte is not lent, and the others in steps of their own.
      const step = (position: number) =>
        position < 8 * MIB ? Math.min(8 * MIB, position + 300_001) : undefined;
      const { url } = await serve(t, outgoing => void sendSource(outgoing, {}, open(step), undefined, pump));
      assertSame(await bodyOf(await get(url)), BODY);
      assert(calls.reads > 0);
      assert.equal(calls.released, calls.lent);
    });

    test('a file that is shorter than it was said to be cuts the connection', async t => {
      const { open } = fileOf(t);
      const source = open();
      const { url, handled } = await serveOnce(t, outgoing =>
        sendSource(outgoing, {}, { ...source, sizeBytes: BODY.length + 1 }, undefined, pump),
      );
      await assert.rejects(fetch(url).then(answer => answer.arrayBuffer()));
      assert.match(String(await handled), new RegExp(`ends at byte ${BODY.length} of ${BODY.length + 1}`));
    });

    test('what is sent to clients that leave reaches nobody else, and no descriptor stays', async t => {
      const { open, calls } = fileOf(t);
      const done: Promise<void>[] = [];
      const { url } = await serve(t, outgoing => {
        done.push(sendSource(outgoing, {}, open(), undefined, pump));
      });
      const before = openDescriptors();
      for (let i = 0; i < 15; i++) {
        const leaving = [0, 1, 2].map(async n => {
          const incoming = await get(url);
          for (let left = n * 4; left > 0; left--) await once(incoming, 'data');
          incoming.destroy();
        });
        // Whoever comes now gets the numbers that have become free.
        const staying = get(url).then(bodyOf);
        await Promise.all(leaving);
        assertSame(await staying, BODY);
      }
      await Promise.all(done);
      assert.equal(calls.closes, 60);
      assert.equal(calls.released, calls.lent);
      while (openDescriptors() > before) await turns(1);
    });
  });
}

test('answers that are ready leave together at the end of a turn, but for those nobody waits for', async t => {
  const came: ServerResponse[] = [];
  const { url } = await serve(t, outgoing => came.push(outgoing));
  const ask = async () => {
    const request = http.get(url, { agent: false }).on('error', () => {});
    const count = came.length;
    while (came.length === count) await turns(1);
    return { request, outgoing: came.at(-1) ?? assert.fail() };
  };
  const [first, left, second] = [await ask(), await ask(), await ask()];
  left.request.destroy();
  await once(left.outgoing, 'close');
  for (const outgoing of came) send(outgoing, 200, {}, 'an answer');
  assert.deepEqual(
    came.map(({ headersSent, writableEnded }) => [headersSent, writableEnded]),
    Array(3).fill([true, false]),
  );
  for (const { request } of [first, second]) {
    const [incoming] = (await once(request, 'response')) as [http.IncomingMessage];
    assert.equal((await bodyOf(incoming)).toString(), 'an answer');
  }
  // One that cannot be is the error of who sends it.
  const { outgoing } = await ask();
  assert.throws(() => send(outgoing, 200, { bad: 'a\nb' }), { code: 'ERR_INVALID_CHAR' });
});

test('large buffers are for some at a time, small ones for the others, and none is lost however an answer ends', async t => {
  const CLIENTS = 100;
  const ends: ((into: Uint8Array) => number)[] = [
    into => into.fill(7).length,
    () => 0,
    () => {
      throw new Error('rotten');
    },
  ];
  const large: number[] = [];
  for (const end of [...ends, ...ends]) {
    // The first reading of each waits for those of all others.
    const sizes: number[] = [];
    const all = Promise.withResolvers<void>();
    const { url } = await serve(t, outgoing => {
      const { source } = sourceOf(MIB, async into => {
        if (sizes.push(into.byteLength) === CLIENTS) all.resolve();
        await all.promise;
        return end(into);
      });
      sendSource(outgoing, {}, source, undefined, pumpBuffers).catch(() => {});
    });
    const bodies = await Promise.allSettled(
      Array.from({ length: CLIENTS }, async () => bodyOf(await get(url))),
    );
    for (const body of bodies) {
      if (end === ends[0]) assert(body.status === 'fulfilled' && body.value.equals(Buffer.alloc(MIB, 7)));
      else assert.equal(body.status, 'rejected');
    }
    large.push(sizes.slice(0, CLIENTS).filter(size => size > 64 * 1024).length);
  }
  assert.deepEqual(large, Array(large.length).fill(64));
});

suite('of sendfile', { skip: sendfile === undefined }, () => {
  /** A server of BODY, and how often it called which way of sendfile; `note` is told of each call. */
  async function serveCounted(t: TestContext, note: (socket: net.Socket) => void = () => {}) {
    const { atOnce, inThread } = sendfile ?? assert.fail();
    const calls = { atOnce: 0, inThread: 0 };
    const pump = zerocopy({
      atOnce: (socket, ...rest) => {
        calls.atOnce++;
        note(socket);
        return atOnce(socket, ...rest);
      },
      inThread: (socket, ...rest) => {
        calls.inThread++;
        note(socket);
        return inThread(socket, ...rest);
      },
    });
    const { open } = fileOf(t);
    const followed = Promise.withResolvers<undefined>();
    const done: Promise<void>[] = [];
    const served = await serve(t, outgoing => {
      // One grows, and one waits for its bytes.
      const growing = (position: number) => Math.min(BODY.length, position + MIB);
      const source = open(outgoing.req.url === '/growing' ? growing : undefined);
      const lend = outgoing.req.url === '/later' ? () => followed.promise : source.lend;
      done.push(sendSource(outgoing, {}, { ...source, ...(lend && { lend }) }, undefined, pump));
    });
    return { ...served, calls, done, goOn: () => followed.resolve(undefined) };
  }

  const told = { skip: !hasCachestat() };
  test('a body that is alone is sent from the event loop, and others in threads', told, async t => {
    const { url, calls, done, goOn } = await serveCounted(t);
    assertSame(await bodyOf(await get(url)), BODY);
    assert(calls.atOnce >= BODY.length / (256 * 1024), `${calls.atOnce} calls`);
    assert.equal(calls.inThread, 0);

    const { atOnce } = calls;
    const later = get(`${url}later`).then(bodyOf);
    while (done.length < 2) await turns(1);
    assertSame(await bodyOf(await get(url)), BODY);
    assert.equal(calls.atOnce, atOnce);
    assert(calls.inThread >= 9);

    goOn();
    assertSame(await later, BODY);
    await Promise.all(done);
    const { inThread } = calls;
    assertSame(await bodyOf(await get(url)), BODY);
    assert.equal(calls.inThread, inThread);

    // What is still coming is being hashed on the event loop.
    assertSame(await bodyOf(await get(`${url}growing`)), BODY);
    assert(calls.inThread - inThread >= 9);
  });

  test('a connection on which nothing else sends is not taken for a dead one', async t => {
    let activity = 0;
    const { url, goOn } = await serveCounted(t, socket => {
      const timed = socket as unknown as { _unrefTimer?: () => void };
      const { _unrefTimer: moveOn } = timed;
      assert(moveOn !== undefined, 'Node has another name for it');
      timed._unrefTimer = () => {
        activity++;
        delete timed._unrefTimer;
        moveOn.call(socket);
      };
    });
    assertSame(await bodyOf(await get(url)), BODY);
    assert(activity > 0);
    activity = 0;
    const later = get(`${url}later`).then(bodyOf);
    assertSame(await bodyOf(await get(url)), BODY);
    assert(activity > 0);
    goOn();
    assertSame(await later, BODY);
  });
});

/** How many descriptors this process has; 0 where that cannot be told. */
function openDescriptors(): number {
  return process.platform === 'linux' ? readdirSync('/proc/self/fd').length : 0;
}
