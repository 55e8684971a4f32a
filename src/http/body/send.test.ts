import assert from 'node:assert/strict';
import { once } from 'node:events';
import http, { type ServerResponse } from 'node:http';
import { test } from 'node:test';
import { turns } from '../../../test/support/async.ts';
import { BODY, bodyOf, fileOf, get, serve, serveOnce, sourceOf, to } from '../../../test/support/bodies.ts';
import { testRandom } from '../../../test/support/clock.ts';
import type { Span } from '../../base/spans.ts';
import { pumpBuffers } from './pump.ts';
import { send, sendSource } from './send.ts';

test('responses that are ready are sent together at the end of a turn, also when a client has disconnected', async t => {
  const came: ServerResponse[] = [];
  const { url } = await serve(t, outgoing => came.push(outgoing));
  const ask = async () => {
    const request = http.get(url, { agent: false }).on('error', () => {});
    const count = came.length;
    while (came.length === count) await turns(1);
    return { request, outgoing: came.at(-1) ?? assert.fail() };
  };
  const [first, gone, second] = [await ask(), await ask(), await ask()];
  gone.request.destroy();
  await once(gone.outgoing, 'close');
  for (const outgoing of came) send(to(outgoing), 200, {}, 'a response');
  assert.deepEqual(
    came.map(({ headersSent, writableEnded }) => [headersSent, writableEnded]),
    Array(3).fill([true, false]),
  );
  for (const { request } of [first, second]) {
    const [incoming] = (await once(request, 'response')) as [http.IncomingMessage];
    assert.equal((await bodyOf(incoming)).toString(), 'a response');
  }
  // One that is not valid fails at once, for its sender to see.
  const { outgoing } = await ask();
  assert.throws(() => send(to(outgoing), 200, { bad: 'a\nb' }), { code: 'ERR_INVALID_CHAR' });
});

const HEADERS = { 'content-type': 'a/b' };
const sending = () => ({ pump: pumpBuffers, random: testRandom() });

test('several spans are multipart/byteranges, with a boundary of the random source that is handed in', async t => {
  const { open } = fileOf(t);
  const spans: Span[] = [
    { start: 0, end: 2 },
    { start: 1000, end: 1005 },
  ];
  const { url } = await serve(t, outgoing => void sendSource(to(outgoing), { ...HEADERS }, open(), spans, sending()));
  const incoming = await get(url);
  const boundary = `ghcr-cache-${testRandom().uuid()}`;
  assert.equal(incoming.statusCode, 206);
  assert.equal(incoming.headers['content-type'], `multipart/byteranges; boundary=${boundary}`);
  const partOf = ({ start, end }: Span) =>
    `\r\n--${boundary}\r\nContent-Type: a/b\r\nContent-Range: bytes ${start}-${end - 1}/${BODY.length}\r\n\r\n` +
    BODY.toString('latin1', start, end);
  const body = await bodyOf(incoming);
  assert.equal(body.toString('latin1'), `${spans.map(partOf).join('')}\r\n--${boundary}--\r\n`);
  assert.equal(incoming.headers['content-length'], String(body.length));
});

test('a source in memory is sent from there, and closed', async t => {
  const { source, calls } = sourceOf(5, () => assert.fail());
  const { url, handled } = await serveOnce(t, outgoing =>
    sendSource(to(outgoing), { ...HEADERS }, { ...source, bytes: Buffer.from('bytes') }, undefined, sending()),
  );
  const incoming = await get(url);
  assert.deepEqual([incoming.statusCode, incoming.headers['content-length']], [200, '5']);
  assert.equal((await bodyOf(incoming)).toString(), 'bytes');
  assert.equal(await handled, undefined);
  assert.deepEqual(calls, { reads: 0, closes: 1 });
});
