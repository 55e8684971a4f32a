import assert from 'node:assert/strict';
import type net from 'node:net';
import { suite, type TestContext, test } from 'node:test';
import { turns } from '../../../test/support/async.ts';
import { assertSame, BODY, bodyOf, fileOf, get, MIB, serve, to } from '../../../test/support/bodies.ts';
import { hasCachestat } from '../../../test/support/cachestat.ts';
import { testRandom } from '../../../test/support/clock.ts';
import { sendSource } from './send.ts';
import { loadSendfile } from './sendfile.ts';
import { zerocopy } from './zerocopy.ts';

const sendfile = await loadSendfile(() => {});

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
      done.push(
        sendSource(to(outgoing), {}, { ...source, ...(lend && { lend }) }, undefined, {
          pump,
          random: testRandom(),
        }),
      );
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

  test('a connection on which nothing else is sent is not taken for an idle one', async t => {
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
