// An exchange without a connection: what it makes of bytes, and what it says to the connection.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { stateOf, turns, until } from '../../../test/support/async.ts';
import { BlobExchange } from './blob-exchange.ts';
import { MalformedHead } from './head.ts';
import type { OnChunk, UpstreamResponse } from './response.ts';

const URL_OF_BLOB = new URL('http://blobs.example/x');
const HEAD = 'HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n';
/** Used for every piece, and overwritten as soon as it is handed over. */
const SHARED = Buffer.alloc(64 * 1024);

function begin(signal?: AbortSignal) {
  const exchange = new BlobExchange(URL_OF_BLOB, '', signal);
  const said: string[] = [];
  exchange.wire = {
    resume: () => said.push('resume'),
    release: isReusable => said.push(isReusable ? 'keep' : 'close'),
  };
  const receive = (text: string): boolean => {
    const isWanted = exchange.receive(SHARED.subarray(0, SHARED.write(text, 'latin1')));
    SHARED.fill('!');
    return isWanted;
  };
  const response = async (): Promise<UpstreamResponse> => (await exchange.response) ?? assert.fail('no response');
  return { exchange, said, receive, response };
}

/** Reads, as text; waits after each chunk for what `pause` says. */
function readText({ exchange }: { exchange: BlobExchange }, pause: () => Promise<void> | undefined = () => undefined) {
  const chunks: string[] = [];
  const onChunk: OnChunk = chunk => {
    chunks.push(chunk.toString('latin1'));
    return pause();
  };
  return { chunks, end: exchange.read(onChunk) };
}

describe('a body', () => {
  test('is handed over as it comes, and its connection is kept', async () => {
    const one = begin();
    assert.equal(one.receive(`${HEAD}01`), false);
    assert.deepEqual(await one.response().then(({ status, url }) => [status, url]), [200, URL_OF_BLOB]);
    const { chunks, end } = readText(one);
    await turns();
    assert.deepEqual(one.said, ['resume']);
    assert.equal(one.receive('2345'), true);
    assert.deepEqual(chunks, ['01', '2345']);
    one.receive('6789');
    assert.deepEqual(one.said, ['resume', 'keep']);
    assert.equal(await end, undefined);
    one.exchange.abandon();
    one.exchange.fail(new Error('late'));
    assert.deepEqual(one.said, ['resume', 'keep']);
    assert.deepEqual(chunks, ['01', '2345', '6789']);
  });

  test('waits for its reader, however early it is complete, and its connection does not', async () => {
    const one = begin();
    one.receive(HEAD);
    one.receive('01234');
    one.receive('56789');
    assert.deepEqual(one.said, ['keep']);
    const { chunks, end } = readText(one);
    assert.equal(await end, undefined);
    assert.deepEqual(chunks, ['01234', '56789']);
  });

  test('ends when the reader has taken its last chunk', async () => {
    const one = begin();
    one.receive(HEAD);
    const taken = Promise.withResolvers<void>();
    const { end } = readText(one, () => taken.promise);
    await turns();
    one.receive('0123456789');
    assert.deepEqual(one.said, ['resume', 'keep']);
    assert.equal(await stateOf(end), 'pending');
    taken.resolve();
    assert.equal(await end, undefined);
  });

  test('is never longer than was said, and what sends more is not used again', async () => {
    for (const pieces of [
      [`${HEAD}0123456789x`],
      [HEAD, '0123456789HTTP/1.1 200 OK\r\n\r\n'],
      [HEAD, '01', '23456789x'],
    ]) {
      const one = begin();
      for (const piece of pieces) one.receive(piece);
      const { chunks, end } = readText(one);
      assert.equal(await end, undefined);
      assert.equal(chunks.join(''), '0123456789');
      assert.deepEqual(one.said, ['close']);
    }
  });

  test('may be empty, and have no reader', async () => {
    const cases: [text: string, said: string][] = [
      ['HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n', 'keep'],
      ['HTTP/1.1 304 Not Modified\r\ncontent-length: 10\r\n\r\n', 'keep'],
      ['HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n', 'close'],
      ['HTTP/1.1 204 No Content\r\n\r\nx', 'close'],
    ];
    for (const [text, said] of cases) {
      const one = begin();
      one.receive(text);
      await one.response();
      assert.deepEqual(one.said, [said], text);
      assert.equal(await readText(one).end, undefined);
    }
  });

  test('of a length that is not known is left to others', async () => {
    for (const line of ['transfer-encoding: chunked', 'x: y']) {
      const one = begin();
      assert.equal(one.receive(`HTTP/1.1 200 OK\r\n${line}\r\n\r\n5\r\n`), false);
      assert.equal(await one.exchange.response, undefined);
      assert.deepEqual(one.said, ['close']);
    }
  });

  test('that is malformed at its head is an error', async () => {
    const one = begin();
    one.receive('HTTP/1.1 200 OK\r\n');
    assert.equal(one.receive('content-length: x\r\n\r\n'), false);
    await assert.rejects(one.exchange.response, MalformedHead);
    assert.deepEqual(one.said, ['close']);
  });

  test('comes whole to any reader, in pieces of any size, also when more comes after it has paused', async () => {
    const scenes = fc.record({
      body: fc.string({ unit: 'binary-ascii', minLength: 1, maxLength: 200 }),
      cuts: fc.array(fc.nat(250), { maxLength: 30 }),
      pauses: fc.array(fc.nat(3), { minLength: 1, maxLength: 10 }),
      // As TLS does: what was received with the last piece comes all the same.
      more: fc.array(fc.nat(2), { minLength: 1, maxLength: 10 }),
      readAt: fc.nat(10),
    });
    await fc.assert(
      fc.asyncProperty(scenes, async ({ body, cuts, pauses, more, readAt }) => {
        const one = begin();
        const text = `HTTP/1.1 200 OK\r\nContent-Length: ${body.length}\r\n\r\n${body}`;
        const bounds = [0, ...cuts.filter(at => at > 0 && at < text.length).sort((a, b) => a - b)];
        let reading: ReturnType<typeof readText> | undefined;
        let paused = 0;
        const read = () => {
          reading ??= readText(one, () => {
            const long = pauses[paused++ % pauses.length] ?? 0;
            return long === 0 ? undefined : turns(long - 1);
          });
        };
        for (const [i, from] of bounds.entries()) {
          if (i >= readAt && one.exchange.isInBody) read();
          const resumed = one.said.length;
          const isWanted = one.receive(text.slice(from, bounds[i + 1]));
          if (isWanted || (more[i % more.length] ?? 0) > 0 || i === bounds.length - 1) continue;
          read();
          await until(() => one.said.length > resumed);
        }
        read();
        assert.equal(await reading?.end, undefined);
        assert.equal(reading?.chunks.join(''), body);
        assert.equal(one.said.at(-1), 'keep');
      }),
    );
  });
});

describe('a body that breaks', () => {
  test('says where, once the reader has all that came before', async () => {
    const one = begin();
    one.receive(`${HEAD}012`);
    one.receive('34');
    const taken = Promise.withResolvers<void>();
    const { chunks, end } = readText(one, () => taken.promise);
    const cause = new Error('read ECONNRESET');
    one.exchange.broke(cause);
    assert.deepEqual(chunks, ['012']);
    assert.equal(await stateOf(end), 'pending');
    taken.resolve();
    const error = (await end) as Error;
    assert.match(error.message, /closed after 5 of 10 bytes of the body/);
    assert.equal(error.cause, cause);
    assert.deepEqual(chunks, ['012', '34']);
  });

  test('does not wait for a reader who has all that came', async () => {
    const one = begin();
    one.receive(HEAD);
    const { end } = readText(one, () => new Promise(() => {}));
    await turns();
    one.receive('0');
    one.exchange.broke(undefined);
    assert.match(String(await end), /after 1 of 10 bytes/);
  });

  test('says so also to one who comes later', async () => {
    const one = begin();
    one.receive(`${HEAD}01`);
    await one.response();
    one.exchange.broke(undefined);
    const { chunks, end } = readText(one);
    assert.match(String(await end), /after 2 of 10 bytes/);
    assert.deepEqual(chunks, ['01']);
  });

  test('is no response when that is within the head', async () => {
    const one = begin();
    one.receive('HTTP/1.1 200');
    one.exchange.broke(undefined);
    await assert.rejects(one.exchange.response, /closed within a head/);
  });
});

describe('it is ended', () => {
  test('by a reader who throws, at once or later, with just that', async () => {
    const mine = new Error('mine');
    const readers: OnChunk[] = [
      () => {
        throw mine;
      },
      () => Promise.reject(mine),
    ];
    for (const onChunk of readers) {
      for (const early of ['', '01']) {
        const one = begin();
        one.receive(HEAD + early);
        const reading = one.exchange.read(onChunk);
        reading.catch(() => {});
        await turns();
        if (early === '') one.receive('01');
        await assert.rejects(reading, mine);
        assert.equal(one.said.at(-1), 'close');
      }
    }
  });

  test('by abandoning it, before it is read and at any chunk', async () => {
    const unread = begin();
    unread.receive(`${HEAD}01`);
    unread.exchange.abandon();
    assert.deepEqual(unread.said, ['close']);
    const { chunks, end } = readText(unread);
    assert.match(String(await end), /not wanted/);
    assert.deepEqual(chunks, []);

    for (const early of ['', '01']) {
      const one = begin();
      one.receive(`${HEAD}${early}`);
      one.receive('23');
      let count = 0;
      const abandoned = one.exchange.read(() => {
        count++;
        one.exchange.abandon();
        return undefined;
      });
      await turns();
      assert.match(String(await abandoned), /not wanted/);
      assert.deepEqual([...one.said, count], ['close', 1]);
    }
  });

  test('by abandoning it at its last chunk, which leaves the connection alone', async () => {
    const one = begin();
    one.receive(HEAD);
    const abandoned = one.exchange.read(() => {
      one.exchange.abandon();
      return undefined;
    });
    await turns();
    one.receive('0123456789');
    assert.match(String(await abandoned), /not wanted/);
    assert.deepEqual(one.said, ['resume', 'keep']);
  });

  test('by its signal, at any stage', async () => {
    const reason = new Error('shutting down');
    const stages = [[], ['HTTP/1.1 '], [HEAD], [HEAD, '01'], [HEAD, '0123456789']];
    for (const pieces of stages) {
      const stopping = new AbortController();
      const one = begin(stopping.signal);
      for (const piece of pieces) one.receive(piece);
      stopping.abort(reason);
      assert.equal(one.said.length, 1);
      if (pieces[0] !== HEAD) await assert.rejects(one.exchange.response, reason);
      else assert.equal(((await readText(one).end) as Error).cause, reason);
    }
  });
});
