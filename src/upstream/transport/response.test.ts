// Receiving a body, chunk by chunk, from a server on loopback.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import type { ServerResponse } from 'node:http';
import { test } from 'node:test';
import { dialTo } from '../../../test/support/upstream-clients.ts';
import { discard, readAll } from './response.ts';

test('a body longer than is wanted ends its connection', async t => {
  const { dial, connections } = await dialTo(t, (_, response) => response.end('x'.repeat(1_000_000)));
  assert.equal(await readAll(await dial(), 100_000), undefined);
  await discard(await dial());
  (await dial()).body.abandon();
  await readAll(await dial(), 1_000_000);
  assert.equal(connections(), 4);
});

test('every chunk that arrived is handed over, also when the body then breaks, and also to a slow reader', async t => {
  const { dial } = await dialTo(t, (_, response) => {
    response.writeHead(200, { 'content-length': 1_000_000 });
    response.write('x'.repeat(300_000), () => response.destroy());
  });
  for (const isSlow of [false, true]) {
    let length = 0;
    const broken = await (await dial()).body.read(chunk => {
      length += chunk.length;
      return isSlow ? new Promise(resolve => setImmediate(resolve)) : undefined;
    });
    assert(broken instanceof Error);
    assert.equal(length, 300_000);
  }
});

/** Sends bytes in pieces of these sizes, over and over. */
async function sendInPieces(response: ServerResponse, bytes: Buffer, sizes: readonly number[]): Promise<void> {
  for (let at = 0, i = 0; at < bytes.length; i++) {
    const piece = bytes.subarray(at, at + (sizes[i % sizes.length] ?? 0));
    if (!response.write(piece)) await once(response, 'drain');
    at += piece.length;
  }
  response.end();
}

test('bytes stay what they are while later ones arrive', async t => {
  const sent = randomBytes(8_000_000);
  const { dial } = await dialTo(t, (request, response) => {
    // With a length, and in chunks of HTTP, many of which come in one read.
    const isWhole = request.headers['x-whole'] !== undefined;
    if (isWhole) response.setHeader('content-length', sent.length);
    void sendInPieces(response, sent, isWhole ? [sent.length] : [1, 50, 70_000, 3, 1_000_000, 16_384]);
  });
  for (const headers of [{ 'x-whole': 'yes' }, {}]) {
    const kept: { chunk: Buffer; at: number }[] = [];
    const checkOne = (which: number) => {
      const [one] = kept.splice(which, 1);
      if (one === undefined) return;
      assert(one.chunk.equals(sent.subarray(one.at, one.at + one.chunk.length)), `at ${one.at}`);
    };
    let at = 0;
    const broken = await (await dial(undefined, headers)).body.read(chunk => {
      kept.push({ chunk, at });
      at += chunk.length;
      if (kept.length > 3) checkOne(at % kept.length);
      return at % 5 === 0 ? new Promise(resolve => setImmediate(resolve)) : undefined;
    });
    while (kept.length > 0) checkOne(0);
    assert.deepEqual([broken, at], [undefined, sent.length]);
  }
});

test('what the reader throws, at once or later, comes back as it is, and the body is released', async t => {
  const { dial } = await dialTo(t, (_, response) => response.end('x'.repeat(1_000_000)));
  const mine = new Error('mine');
  const readers = [
    () => {
      throw mine;
    },
    () => Promise.reject(mine),
  ];
  for (const onChunk of readers) await assert.rejects((await dial()).body.read(onChunk), mine);
});
