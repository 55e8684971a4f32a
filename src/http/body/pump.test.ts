// Every pump, as sendSource() uses it.
import assert from 'node:assert/strict';
import { once } from 'node:events';
import { readdirSync } from 'node:fs';
import http from 'node:http';
import net from 'node:net';
import { suite, test } from 'node:test';
import { turns } from '../../../test/support/async.ts';
import {
  assertSame,
  BODY,
  bodyOf,
  fileOf,
  get,
  MIB,
  serve,
  serveOnce,
  sourceOf,
  to,
} from '../../../test/support/bodies.ts';
import { testRandom } from '../../../test/support/clock.ts';
import type { Span } from '../../base/spans.ts';
import type { Source } from '../../content/content.ts';
import { type Pump, pumpBuffers } from './pump.ts';
import { sendSource } from './send.ts';
import { loadSendfile } from './sendfile.ts';
import { zerocopy } from './zerocopy.ts';

const sendfile = await loadSendfile(why => {
  // On Linux there has to be one.
  if (process.platform === 'linux') throw new Error(why);
});
const PUMPS: [string, Pump][] = [['through buffers', pumpBuffers]];
if (sendfile !== undefined) {
  PUMPS.push(['by sendfile', zerocopy(sendfile)]);
  PUMPS.push(['by sendfile in threads only', zerocopy({ ...sendfile, atOnce: () => undefined })]);
}

for (const [how, pump] of PUMPS) {
  const sending = { pump, random: testRandom() };
  suite(how, () => {
    test('nothing is read for a client that disconnected before the response began', async t => {
      const { source, calls } = sourceOf(10_000_000);
      const { url, handled } = await serveOnce(t, async outgoing => {
        request.destroy();
        await once(outgoing, 'close');
        return sendSource(to(outgoing), {}, source, undefined, sending);
      });
      const request = http.get(url).on('error', () => {});
      assert.equal(await handled, undefined);
      assert.deepEqual(calls, { reads: 0, closes: 1 });
    });

    test('a client that disconnects in the middle ends the reading, and that is not an error', async t => {
      const { source, calls } = sourceOf(1_000_000_000);
      const { url, handled } = await serveOnce(t, outgoing => sendSource(to(outgoing), {}, source, undefined, sending));
      const request = http.get(url, incoming => incoming.once('data', () => request.destroy())).on('error', () => {});
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
          sendSource(to(outgoing), {}, source, undefined, sending),
        );
        await assert.rejects(fetch(url).then(response => response.arrayBuffer()));
        assert.match(String(await handled), reason);
        assert.equal(calls.closes, 1);
      }
    });

    test('for a client that does not read nothing is read ahead but two buffers', async t => {
      const { source, calls } = sourceOf(1_000_000_000);
      const { url, handled } = await serveOnce(t, outgoing => sendSource(to(outgoing), {}, source, undefined, sending));
      const request = http.get(url, incoming => incoming.pause()).on('error', () => {});
      const [incoming] = await once(request, 'response');
      let before = -1;
      // The buffers of both sockets fill up first.
      while (before !== calls.reads) {
        before = calls.reads;
        await turns(200);
      }
      assert(calls.reads < 200, `${calls.reads} reads`);
      incoming.destroy();
      assert.equal(await handled, undefined);
    });

    test('a file is sent whole, one response after the other on one connection', async t => {
      const { open, calls } = fileOf(t);
      const done: Promise<void>[] = [];
      const { url, server } = await serve(t, outgoing => {
        done.push(sendSource(to(outgoing), {}, open(), undefined, sending));
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
        const { url } = await serve(t, outgoing => void sendSource(to(outgoing), {}, open(), picked, sending));
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
        void sendSource(to(outgoing), {}, open(), undefined, sending);
      });
      const incoming = await get(url);
      const chunks: Buffer[] = [];
      for await (const chunk of incoming) {
        chunks.push(chunk as Buffer);
        if (chunks.length % 8 === 0) await turns(20);
      }
      assertSame(Buffer.concat(chunks), BODY);
    });

    test('responses to pipelined requests go out in order', async t => {
      const { open } = fileOf(t);
      const { port } = await serve(t, outgoing => void sendSource(to(outgoing), {}, open(), undefined, sending));
      const socket = net.connect(port, '127.0.0.1');
      t.after(() => socket.destroy());
      socket.write('GET / HTTP/1.1\r\nHost: a\r\n\r\n'.repeat(3));
      const responseBytes = (received: Buffer) => received.indexOf('\r\n\r\n') + 4 + BODY.length;
      let received: Buffer = Buffer.alloc(0);
      let count = 0;
      for await (const chunk of socket) {
        received = Buffer.concat([received, chunk as Buffer]);
        if (received.length < BODY.length || received.length < responseBytes(received)) continue;
        assert(received.subarray(0, 100).toString().startsWith('HTTP/1.1 200 OK'));
        const head = received.indexOf('\r\n\r\n') + 4;
        assertSame(received.subarray(head, head + BODY.length), BODY);
        received = received.subarray(head + BODY.length);
        if (++count === 3) break;
      }
      assert.equal(count, 3);
      assert.equal(received.length, 0);
    });

    test('a source whose file grows is followed, and one that lends no more is read instead', async t => {
      const { open, calls } = fileOf(t);
      // The last megabyte is not lent, and the others in steps of their own.
      const step = (position: number) => (position < 8 * MIB ? Math.min(8 * MIB, position + 300_001) : undefined);
      const { url } = await serve(t, outgoing => void sendSource(to(outgoing), {}, open(step), undefined, sending));
      assertSame(await bodyOf(await get(url)), BODY);
      assert(calls.reads > 0);
      assert.equal(calls.released, calls.lent);
    });

    test('a file that is shorter than it was said to be cuts the connection', async t => {
      const { open } = fileOf(t);
      const source = open();
      const { url, handled } = await serveOnce(t, outgoing =>
        sendSource(to(outgoing), {}, { ...source, sizeBytes: BODY.length + 1 }, undefined, sending),
      );
      await assert.rejects(fetch(url).then(response => response.arrayBuffer()));
      assert.match(String(await handled), new RegExp(`ends at byte ${BODY.length} of ${BODY.length + 1}`));
    });

    test('what is sent to clients that disconnect reaches no other, and no descriptor stays open', async t => {
      const { open, calls } = fileOf(t);
      const done: Promise<void>[] = [];
      const { url } = await serve(t, outgoing => {
        done.push(sendSource(to(outgoing), {}, open(), undefined, sending));
      });
      const before = openDescriptors();
      for (let i = 0; i < 15; i++) {
        const leaving = [0, 1, 2].map(async n => {
          const incoming = await get(url);
          for (let left = n * 4; left > 0; left--) await once(incoming, 'data');
          incoming.destroy();
        });
        // The next connection gets the numbers that have become free.
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

/** How many descriptors this process has; 0 where that cannot be told. */
function openDescriptors(): number {
  return process.platform === 'linux' ? readdirSync('/proc/self/fd').length : 0;
}
