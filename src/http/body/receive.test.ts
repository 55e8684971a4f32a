import assert from 'node:assert/strict';
import { once } from 'node:events';
import http, { type IncomingMessage } from 'node:http';
import net, { type AddressInfo } from 'node:net';
import { describe, type TestContext, test } from 'node:test';
import { turns, until } from '../../../test/support/async.ts';
import { TestClock } from '../../../test/support/clock.ts';
import { bytesOf, randomContent } from '../../../test/support/images.ts';
import { RegistryError } from '../../oci/errors.ts';
import { BodyMemory } from './body-memory.ts';
import { ClientDisconnected, receive, receiveAll } from './receive.ts';

const MIB = 1024 * 1024;

/** A request whose client the test plays, byte by byte, as the server sees it. */
async function requestOf(t: TestContext, head: string, body: Uint8Array | string = '') {
  const server = http.createServer();
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const client = net.connect((server.address() as AddressInfo).port, '127.0.0.1').on('error', () => {});
  t.after(() => {
    client.destroy();
    server.closeAllConnections();
    server.close();
  });
  client.write(`PUT / HTTP/1.1\r\nhost: cache\r\n${head}\r\n\r\n`);
  if (body.length > 0) client.write(body);
  const [incoming] = (await once(server, 'request')) as [IncomingMessage];
  // Not events.once(), which would listen to errors too, as the server does not.
  const closed = new Promise<void>(resolve => incoming.once('close', resolve));
  const disconnect = async () => {
    client.destroy();
    await closed;
  };
  return { incoming, client, disconnect };
}

/** What became of a promise so far. */
function watch(promise: Promise<unknown>) {
  const watched: { outcome: 'pending' | 'resolved' | 'rejected'; error?: unknown } = { outcome: 'pending' };
  promise.then(
    () => {
      watched.outcome = 'resolved';
    },
    error => {
      watched.outcome = 'rejected';
      watched.error = error;
    },
  );
  return watched;
}

/** A body in the chunked coding. */
const chunked = (bytes: Uint8Array) =>
  Buffer.concat([Buffer.from(`${bytes.length.toString(16)}\r\n`), bytes, Buffer.from('\r\n')]);
const LAST_CHUNK = '0\r\n\r\n';

describe('receive', () => {
  for (const [how, head, wrap] of [
    ['of a declared length', `content-length: ${3 * MIB}`, (bytes: Buffer) => [bytes]],
    [
      'in chunks',
      'transfer-encoding: chunked',
      (bytes: Buffer) => [chunked(bytes.subarray(0, 1)), chunked(bytes.subarray(1)), Buffer.from(LAST_CHUNK)],
    ],
  ] as const) {
    test(`hands over a body ${how} in its order, whole`, async t => {
      const bytes = bytesOf(randomContent(3 * MIB, 'body'));
      const { incoming, client } = await requestOf(t, head);
      const chunks: Buffer[] = [];
      const receiving = receive(incoming, chunk => {
        chunks.push(chunk);
        return undefined;
      });
      for (const part of wrap(bytes)) client.write(part);
      await receiving;
      assert.ok(chunks.length > 1);
      assert.deepEqual(Buffer.concat(chunks), bytes);
    });
  }

  test('resolves for a body of nothing, and hands over nothing', async t => {
    for (const head of ['content-length: 0', 'x-no: body']) {
      const { incoming } = await requestOf(t, head);
      await receive(incoming, () => assert.fail());
    }
    const { incoming } = await requestOf(t, 'transfer-encoding: chunked', LAST_CHUNK);
    await receive(incoming, () => assert.fail());
  });

  test('waits for each promise, and only then hands over the next chunk', async t => {
    const bytes = bytesOf(randomContent(2 * MIB, 'waits'));
    const { incoming, client } = await requestOf(t, `content-length: ${bytes.length}`);
    client.write(bytes);
    const chunks: Buffer[] = [];
    let waiting = 0;
    await receive(incoming, chunk => {
      assert.equal(waiting, 0, 'another chunk while one is waited for');
      chunks.push(chunk);
      if (chunks.length % 3 === 0) return undefined;
      waiting++;
      return turns().then(() => {
        waiting--;
      });
    });
    assert.equal(waiting, 0, 'the last one is waited for too');
    assert.deepEqual(Buffer.concat(chunks), bytes);
  });

  test('reads no more from the client while a promise is pending', async t => {
    const bytes = bytesOf(randomContent(24 * MIB, 'paused'));
    const { incoming, client } = await requestOf(t, `content-length: ${bytes.length}`);
    client.write(bytes);
    const gate = Promise.withResolvers<void>();
    let count = 0;
    let length = 0;
    const receiving = receive(incoming, chunk => {
      length += chunk.length;
      return ++count === 3 ? gate.promise : undefined;
    });
    await until(() => count === 3);
    // What is on its way through the buffers of both sockets comes yet.
    for (let before = -1; before !== incoming.socket.bytesRead; await turns(50)) {
      before = incoming.socket.bytesRead;
    }
    assert.equal(count, 3);
    assert.ok(incoming.socket.bytesRead < 4 * MIB, `${incoming.socket.bytesRead} bytes were read`);
    gate.resolve();
    await receiving;
    assert.equal(length, bytes.length);
  });

  test('resolves when the promise of the last chunk does', async t => {
    const { incoming } = await requestOf(t, 'content-length: 5', 'bytes');
    const gate = Promise.withResolvers<void>();
    const receiving = watch(receive(incoming, () => gate.promise));
    await until(() => incoming.complete);
    await turns(50);
    assert.equal(receiving.outcome, 'pending');
    gate.resolve();
    await until(() => receiving.outcome === 'resolved');
  });

  const mine = new Error('mine');
  for (const [how, fail] of [
    [
      'throws',
      () => {
        throw mine;
      },
    ],
    ['returns a promise that rejects', () => Promise.reject(mine)],
  ] as const) {
    test(`rejects with what the consumer fails with when it ${how}, and reads nothing more`, async t => {
      const bytes = bytesOf(randomContent(16 * MIB, 'fails'));
      const { incoming, client } = await requestOf(t, `content-length: ${bytes.length}`);
      client.write(bytes);
      let count = 0;
      await assert.rejects(
        receive(incoming, () => (++count === 2 ? fail() : undefined)),
        mine,
      );
      for (let before = -1; before !== incoming.socket.bytesRead; await turns(50)) {
        before = incoming.socket.bytesRead;
      }
      assert.equal(count, 2);
      assert.ok(incoming.socket.bytesRead < 4 * MIB, `${incoming.socket.bytesRead} bytes were read`);
    });

    test(`rejects with what the consumer fails with when it ${how} for the last chunk`, async t => {
      const { incoming } = await requestOf(t, 'content-length: 5', 'bytes');
      await assert.rejects(receive(incoming, fail), mine);
    });
  }
});

describe('a client that disconnects', () => {
  test('in the middle of its body is a ClientDisconnected, after what came was handed over', async t => {
    const { incoming, disconnect } = await requestOf(t, 'content-length: 10', 'bytes');
    let text = '';
    const receiving = watch(
      receive(incoming, chunk => {
        text += chunk;
        return undefined;
      }),
    );
    await until(() => text !== '');
    await turns(50);
    assert.equal(receiving.outcome, 'pending');
    await disconnect();
    await until(() => receiving.outcome === 'rejected');
    assert.ok(receiving.error instanceof ClientDisconnected);
    assert.equal(text, 'bytes');
  });

  test('in the middle of a chunk of the chunked coding, or between two, is one too', async t => {
    for (const body of ['a\r\nbytes', '5\r\nbytes\r\n']) {
      const { incoming, disconnect } = await requestOf(t, 'transfer-encoding: chunked', body);
      let text = '';
      const receiving = receive(incoming, chunk => {
        text += chunk;
        return undefined;
      });
      receiving.catch(() => {});
      await until(() => text !== '');
      await disconnect();
      await assert.rejects(receiving, ClientDisconnected);
    }
  });

  for (const [what, body] of [
    ['not all', 'bytes'],
    ['all', 'bytes and more'],
  ] as const) {
    test(`before the body is received is one, when ${what} of its body has come`, async t => {
      const { incoming, disconnect } = await requestOf(t, 'content-length: 14', body);
      await disconnect();
      await assert.rejects(
        receive(incoming, () => assert.fail()),
        ClientDisconnected,
      );
    });

    for (const end of ['resolved', 'rejected'] as const) {
      test(`while a chunk is waited for, when ${what} has come, is told when that is ${end}, and nothing comes after it`, async t => {
        const { incoming, client, disconnect } = await requestOf(t, 'content-length: 14', body.slice(0, 3));
        const gate = Promise.withResolvers<void>();
        let taken = '';
        const receiving = watch(
          receive(incoming, chunk => {
            taken += chunk;
            return gate.promise;
          }),
        );
        await until(() => taken !== '');
        client.write(body.slice(3));
        if (what === 'all') await until(() => incoming.complete);
        await disconnect();
        await turns(50);
        // The consumer may still use the chunk.
        assert.equal(receiving.outcome, 'pending');
        const mine = new Error('mine');
        if (end === 'resolved') gate.resolve();
        else gate.reject(mine);
        await until(() => receiving.outcome !== 'pending');
        if (end === 'resolved') assert.ok(receiving.error instanceof ClientDisconnected);
        else assert.equal(receiving.error, mine);
        await turns(50);
        assert.equal(taken, body.slice(0, 3));
      });
    }
  }

  for (const isWaitedFor of [false, true]) {
    test(`can be cut off, ${isWaitedFor ? 'while a chunk is waited for' : 'in the middle of its body'}`, async t => {
      const { incoming, client } = await requestOf(t, 'content-length: 14', 'bytes');
      const stop = new AbortController();
      const gate = Promise.withResolvers<void>();
      let taken = '';
      const receiving = watch(
        receive(
          incoming,
          chunk => {
            taken += chunk;
            return isWaitedFor ? gate.promise : undefined;
          },
          stop.signal,
        ),
      );
      await until(() => taken !== '');
      client.resume();
      const closed = once(client, 'close');
      stop.abort();
      if (isWaitedFor) {
        await turns(50);
        assert.equal(receiving.outcome, 'pending');
        gate.resolve();
      }
      await until(() => receiving.outcome !== 'pending');
      assert.ok(receiving.error instanceof ClientDisconnected);
      // It is not waiting for a response any more.
      await closed;
      assert.equal(taken, 'bytes');
    });
  }

  test('is not one when its body has arrived', async t => {
    const { incoming } = await requestOf(t, 'content-length: 5', 'bytes');
    const stop = new AbortController();
    await receive(incoming, () => undefined, stop.signal);
  });

  test('after its whole body was handed over is not one', async t => {
    const { incoming, disconnect } = await requestOf(t, 'content-length: 5', 'bytes');
    await receive(incoming, () => undefined);
    await disconnect();
  });

  test('after the consumer has failed changes nothing', async t => {
    const { incoming, disconnect } = await requestOf(t, 'content-length: 10', 'bytes');
    const mine = new Error('mine');
    await assert.rejects(
      receive(incoming, () => Promise.reject(mine)),
      mine,
    );
    await disconnect();
  });
});

describe('receiveAll', () => {
  const memory = new BodyMemory(new TestClock());

  const isTooLarge = (error: unknown) => {
    assert.ok(error instanceof RegistryError);
    assert.equal(error.code, 'TOO_LARGE');
    assert.match(error.message, /more than 2 MiB/);
    return true;
  };

  for (const length of [0, 1, 2 * MIB]) {
    test(`gives a body of ${length} bytes as a whole, at a limit of ${2 * MIB}`, async t => {
      const bytes = bytesOf(randomContent(length, 'all'));
      const told = await requestOf(t, `content-length: ${length}`, bytes);
      assert.deepEqual((await receiveAll(told.incoming, 2 * MIB, memory)).bytes, bytes);
      const untold = await requestOf(t, 'transfer-encoding: chunked', length > 0 ? chunked(bytes) : '');
      untold.client.write(LAST_CHUNK);
      assert.deepEqual((await receiveAll(untold.incoming, 2 * MIB, memory)).bytes, bytes);
    });
  }

  test('rejects a declared length that is too large before it reads anything', async t => {
    for (const length of [2 * MIB + 1, 2 ** 50, '9'.repeat(18)]) {
      const { incoming } = await requestOf(t, `content-length: ${length}`, 'bytes');
      await assert.rejects(receiveAll(incoming, 2 * MIB, memory), isTooLarge);
      assert.equal(incoming.listenerCount('data'), 0);
      assert.equal(incoming.isPaused(), false);
      assert.equal(incoming.readableFlowing, null);
    }
  });

  test('rejects an undeclared length as soon as it is too large, and reads no more', async t => {
    const { incoming, client } = await requestOf(t, 'transfer-encoding: chunked');
    client.write(chunked(Buffer.alloc(2 * MIB)));
    await until(() => incoming.socket.bytesRead >= 2 * MIB || incoming.readableLength > 0);
    const receiving = watch(receiveAll(incoming, 2 * MIB, memory));
    await until(() => incoming.socket.bytesRead >= 2 * MIB);
    await turns(50);
    assert.equal(receiving.outcome, 'pending');
    client.write(chunked(Buffer.alloc(1)));
    await until(() => receiving.outcome !== 'pending');
    isTooLarge(receiving.error);
    client.write(chunked(Buffer.alloc(16 * MIB)));
    for (let before = -1; before !== incoming.socket.bytesRead; await turns(50)) {
      before = incoming.socket.bytesRead;
    }
    assert.ok(incoming.socket.bytesRead < 6 * MIB, `${incoming.socket.bytesRead} bytes were read`);
  });

  test('rejects with ClientDisconnected when the body breaks off', async t => {
    const { incoming, disconnect } = await requestOf(t, 'content-length: 10', 'bytes');
    const receiving = receiveAll(incoming, 100, memory);
    receiving.catch(() => {});
    await until(() => incoming.socket.bytesRead > 0);
    await turns(50);
    await disconnect();
    await assert.rejects(receiving, ClientDisconnected);
  });

  test('counts a body until it is disposed of, and none that failed', async t => {
    const memory = new BodyMemory(new TestClock());
    const { incoming } = await requestOf(t, 'content-length: 5', 'bytes');
    const body = await receiveAll(incoming, 100, memory);
    assert.notEqual(memory.usedBytes, 0);
    body[Symbol.dispose]();
    assert.equal(memory.usedBytes, 0);
    const broken = await requestOf(t, 'content-length: 10', 'bytes');
    const receiving = receiveAll(broken.incoming, 100, memory);
    receiving.catch(() => {});
    await broken.disconnect();
    await assert.rejects(receiving, ClientDisconnected);
    assert.equal(memory.usedBytes, 0);
  });
});
