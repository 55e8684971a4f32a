import assert from 'node:assert/strict';
import { request } from 'node:http';
import { Duplex } from 'node:stream';
import { describe, test } from 'node:test';
import fc from 'fast-check';
import { HeadParser, MalformedHead, type ResponseHead } from './head.ts';

const OK = 'HTTP/1.1 200 OK\r\n';

function parse(...pieces: readonly string[]): ResponseHead | undefined {
  const parser = new HeadParser();
  return pieces.map(piece => parser.parse(Buffer.from(piece, 'latin1'))).at(-1);
}

/** What a head with these lines, and a status line before them, says. */
function headOf(...lines: readonly string[]): ResponseHead {
  return parse(`${OK}${lines.map(line => `${line}\r\n`).join('')}\r\n`) ?? assert.fail('incomplete');
}

describe('a head', () => {
  test('says what its lines say', () => {
    const text = 'HTTP/1.1 206 Partial Content\r\nContent-Length: 5\r\nX-A:b\r\n\r\n';
    const head = parse(`${text}hello`) ?? assert.fail('incomplete');
    assert.deepEqual([head.status, head.bodyBytes, head.isKeptAlive, head.takenBytes], [206, 5, true, text.length]);
    assert.deepEqual(['content-length', 'x-a', 'X-A', 'none', '__proto__'].map(head.header), ['5', 'b', ...Array(3)]);
  });

  test('is complete with its empty line, and not before', () => {
    const text = `${OK}content-length: 1\r\n\r\n`;
    for (let end = 0; end < text.length; end++) assert.equal(parse(text.slice(0, end)), undefined);
    assert.equal(parse(text)?.takenBytes, text.length);
    assert.equal(parse(OK, '\r', '\nx')?.takenBytes, 1);
    assert.equal(parse(`${OK}\r\n`)?.header('content-length'), undefined);
  });

  const statusLines: [line: string, status: number | undefined][] = [
    ['HTTP/1.1 200 OK', 200],
    ['HTTP/1.0 404 Not Found', 404],
    ['HTTP/1.1 200 ', 200],
    ['HTTP/1.1 200', 200],
    ['HTTP/1.1 599 \tSehr sch\xf6n', 599],
    ['HTTP/2.0 200 OK', undefined],
    ['HTTP/1.2 200 OK', undefined],
    ['http/1.1 200 OK', undefined],
    ['HTTP/1.1  200 OK', undefined],
    ['HTTP/1.1\t200 OK', undefined],
    ['HTTP/1.1 20 OK', undefined],
    ['HTTP/1.1 2000 OK', undefined],
    ['HTTP/1.1 099 OK', undefined],
    ['HTTP/1.1 600 OK', undefined],
    ['HTTP/1.1 200OK', undefined],
    ['HTTP/1.1 200 O\x00K', undefined],
    ['HTTP/1.1 200 O\x7fK', undefined],
    ['HTTP/1.1 200 O\rK', undefined],
    [' HTTP/1.1 200 OK', undefined],
    ['', undefined],
    ['SSH-2.0-OpenSSH', undefined],
  ];
  for (const [line, status] of statusLines) {
    test(`${status === undefined ? 'does not begin' : 'begins'} with ${JSON.stringify(line)}`, () => {
      if (status === undefined) assert.throws(() => parse(`${line}\r\n\r\n`), MalformedHead);
      else assert.equal(parse(`${line}\r\n\r\n`)?.status, status);
    });
  }

  const headers: [line: string, value: string | undefined][] = [
    ['x-a: b', 'b'],
    ['X-A:b', 'b'],
    ['x-a: \t b c \t', 'b c'],
    ['x-a:', ''],
    ['x-a: \t', ''],
    ['x-a: :"\\,\xe4\xa0', ':"\\,\xe4\xa0'],
    ['x-a : b', undefined],
    [' x-a: b', undefined],
    ['\tx-a: b', undefined],
    ['x-a', undefined],
    [': b', undefined],
    ['x a: b', undefined],
    ['x-a(: b', undefined],
    ['x-\xe4: b', undefined],
    ['x-a: b\x00c', undefined],
    ['x-a: b\rc', undefined],
    ['x-a: b\r', undefined],
    ['x-a: b\nx-b: c', undefined],
    ['x-a: b\x7f', undefined],
    ['x-a: b\r\n c', undefined],
  ];
  for (const [line, value] of headers) {
    test(`${value === undefined ? 'has no' : 'has a'} line ${JSON.stringify(line)}`, () => {
      if (value === undefined) assert.throws(() => headOf(line), MalformedHead);
      else assert.equal(headOf(line).header('x-a'), value);
    });
  }

  const all = "!#$%&'*+-.^_`|~09azAZ";
  test('has names of every character that is allowed', () =>
    assert.equal(headOf(`${all}: x`).header(all.toLowerCase()), 'x'));

  test('has the first value of a header, and all of one that is a list', () => {
    const { header } = headOf(
      'x-a: 1',
      'X-A: 2',
      'link: <a>',
      'Link: <b>',
      'WWW-Authenticate: A',
      'www-authenticate: B',
    );
    assert.deepEqual(['x-a', 'link', 'www-authenticate'].map(header), ['1', '<a>, <b>', 'A, B']);
  });
});

describe('the length of a body', () => {
  const table: [lines: string[], bytes: number | undefined | 'malformed', status?: number][] = [
    [['content-length: 0'], 0],
    [['content-length: 007'], 7],
    [['content-length: 999999999999999'], 999_999_999_999_999],
    [['content-length: 1000000000000000'], 'malformed'],
    [['content-length: '], 'malformed'],
    [['content-length: -1'], 'malformed'],
    [['content-length: +1'], 'malformed'],
    [['content-length: 1.0'], 'malformed'],
    [['content-length: 0x1'], 'malformed'],
    [['content-length: 1 1'], 'malformed'],
    [['content-length: \xa01'], 'malformed'],
    [['content-length: 1, 1'], 'malformed'],
    [['content-length: 1', 'content-length: 1'], 'malformed'],
    [['content-length: 1', 'Content-Length: 2'], 'malformed'],
    [['content-length: 1', 'transfer-encoding: chunked'], 'malformed'],
    [['transfer-encoding: identity', 'content-length: 1'], 'malformed'],
    [['transfer-encoding: chunked'], undefined],
    [['transfer-encoding: gzip'], undefined],
    [[], undefined],
    [[], 0, 204],
    [['content-length: 5'], 0, 304],
    [['transfer-encoding: chunked'], 0, 304],
    [['content-length: x'], 'malformed', 304],
  ];
  for (const [lines, bytes, status = 200] of table) {
    test(`${status} with ${JSON.stringify(lines)}: ${bytes ?? 'not known'}`, () => {
      const text = [`HTTP/1.1 ${status} x`, ...lines, '', ''].join('\r\n');
      if (bytes === 'malformed') assert.throws(() => parse(text), MalformedHead);
      else assert.equal((parse(text) ?? assert.fail('incomplete')).bodyBytes, bytes);
    });
  }
});

test('a connection is kept unless the head says otherwise, or is of HTTP/1.0', () => {
  for (const line of ['x: close', 'connection: keep-alive', 'connection: closed', 'connection: not-close']) {
    assert.equal(headOf(line).isKeptAlive, true, line);
  }
  for (const line of ['connection: close', 'Connection: CLOSE', 'connection: x,close', 'connection: close ,\ty']) {
    assert.equal(headOf(line).isKeptAlive, false, line);
  }
  assert.equal(headOf('connection: keep-alive', 'connection: close').isKeptAlive, false);
  assert.equal(parse('HTTP/1.0 200 OK\r\nconnection: keep-alive\r\n\r\n')?.isKeptAlive, false);
});

describe('responses that announce the final one', () => {
  const early = 'HTTP/1.1 103 Early Hints\r\nlink: </x>\r\ncontent-length: 7\r\n\r\n';
  const final = `${OK}content-length: 2\r\n\r\n`;

  test('are passed over, whole or in pieces, and leave nothing behind', () => {
    const text = `HTTP/1.0 100\r\n\r\n${early}${early}${final}`;
    for (const pieces of [[text], [...text]]) {
      const head = parse(...pieces) ?? assert.fail('incomplete');
      assert.deepEqual([head.status, head.bodyBytes, head.header('link')], [200, 2, undefined]);
    }
    assert.equal(parse(`${early}${final}ok`)?.takenBytes, early.length + final.length);
  });

  test('may be a hundred, each as long as a head may be, and no more', () => {
    assert.equal(parse(...Array(100).fill(early), final)?.status, 200);
    assert.throws(() => parse(...Array(101).fill(early)), MalformedHead);
    const long = `HTTP/1.1 103 x\r\nx: ${'y'.repeat(10_000)}\r\n\r\n`;
    assert.equal(parse(long, long, final)?.status, 200);
  });

  test('do not change the protocol', () => {
    assert.throws(() => parse('HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n'), MalformedHead);
  });
});

describe('limits', () => {
  test('a head has at most 16 KiB, whether its end is in sight or not', () => {
    const around = `${OK}x: \r\n\r\n`.length;
    const most = `${OK}x: ${'y'.repeat(16 * 1024 - around)}\r\n\r\n`;
    assert.equal(parse(`${most}${'z'.repeat(100_000)}`)?.takenBytes, 16 * 1024);
    assert.throws(() => parse(most.replace('y', 'yy')), MalformedHead);
    assert.throws(() => parse(`${OK}x: ${'y'.repeat(16 * 1024)}`), MalformedHead);
    assert.throws(() => parse(...Array(17).fill('x'.repeat(1024))), MalformedHead);
  });

  test('a head has at most 100 lines', () => {
    assert.equal(headOf(...Array(99).fill('x: y')).status, 200);
    assert.throws(() => headOf(...Array(100).fill('x: y')), MalformedHead);
  });

  test('the longest lines are read in time that grows no faster than they do', () => {
    const startedMs = performance.now();
    for (const piece of [' ', 'a', 'a ', '\t', ': ', 'close ', ',', '\xa0']) {
      const filler = piece.repeat(16_000 / piece.length);
      for (const name of ['x', 'connection', 'content-length', 'y']) {
        for (const line of [`${name}:${filler}`, `${name}:${filler}\x00`, filler]) {
          try {
            headOf(line);
          } catch (error) {
            assert(error instanceof MalformedHead);
          }
        }
      }
    }
    assert(performance.now() - startedMs < 1_000);
  });
});

const NAMES = fc.constantFrom('x-a', 'X-A', 'Link', 'WWW-Authenticate', 'Connection', 'Date');
const VALUES = fc.string({ unit: fc.constantFrom('a', 'close', ' ', '\t', ',', ':', '\xe4', '"'), maxLength: 8 });
const LINE = fc.tuple(NAMES, VALUES).map(([name, value]) => `${name}:${value}`);
const HEAD = fc
  .record({
    version: fc.constantFrom('1.0', '1.1'),
    status: fc.integer({ min: 200, max: 599 }),
    framing: fc.constantFrom([], ['Content-Length: 3'], ['transfer-encoding: chunked']),
    lines: fc.array(LINE, { maxLength: 6 }),
    interim: fc.constantFrom('', 'HTTP/1.1 103 x\r\nlink: y\r\n\r\n'),
  })
  .map(({ version, status, framing, lines, interim }) => {
    return `${interim}${[`HTTP/${version} ${status} x`, ...lines, ...framing].join('\r\n')}\r\n\r\n`;
  });
const SEEN = ['x-a', 'link', 'www-authenticate', 'connection', 'date', 'content-length', 'transfer-encoding'];

/** All that a head says, to be compared. */
function contentOf(head: ResponseHead | undefined) {
  return head && [head.status, head.bodyBytes, head.isKeptAlive, ...SEEN.map(name => head.header(name))];
}

describe('whatever comes', () => {
  test('a head in pieces is the same head, and nothing behind it is looked at', () => {
    const cuts = fc.array(fc.nat(300), { maxLength: 10 });
    fc.assert(
      fc.property(HEAD, fc.string({ maxLength: 20 }), cuts, (text, rest, at) => {
        const bounds = [0, ...at.filter(each => each < text.length).sort((a, b) => a - b)];
        const pieces = bounds.map((from, i) => text.slice(from, bounds[i + 1]));
        const last = `${pieces.pop()}`;
        const head = parse(...pieces, last + rest);
        assert.deepEqual(contentOf(head), contentOf(parse(text)));
        assert.equal(head?.takenBytes, last.length);
      }),
    );
  });

  test('it ends in a head within what came, in MalformedHead, or waits for more', () => {
    const bytes = fc.oneof(
      fc.uint8Array({ maxLength: 300 }).map(each => Buffer.from(each)),
      fc.tuple(HEAD, fc.nat(300), fc.uint8Array({ minLength: 1, maxLength: 3 })).map(([text, at, change]) => {
        const mutated = Buffer.from(text, 'latin1');
        mutated.set(change.slice(0, Math.max(0, mutated.length - at)), Math.min(at, mutated.length));
        return mutated;
      }),
    );
    fc.assert(
      fc.property(fc.array(bytes, { minLength: 1, maxLength: 4 }), pieces => {
        const parser = new HeadParser();
        try {
          for (const piece of pieces) {
            const head = parser.parse(piece);
            if (head === undefined) continue;
            assert(head.takenBytes > 0 && head.takenBytes <= piece.length);
            return;
          }
        } catch (error) {
          assert(error instanceof MalformedHead, String(error));
        }
      }),
      { numRuns: 2_000 },
    );
  });

  test("what is taken for a head says the same to Node's parser", async () => {
    const mutations = fc.array(
      fc.tuple(fc.nat(200), fc.constantFrom('\r', '\n', '\r\n', ' ', '\t', ':', '\0', '0', 'x', '\x7f', '\xff', ',')),
      { maxLength: 2 },
    );
    await fc.assert(
      fc.asyncProperty(HEAD, mutations, async (text, changes) => {
        const mutated = changes.reduce((was, [at, change]) => was.slice(0, at) + change + was.slice(at), text);
        let head: ResponseHead | undefined;
        try {
          head = parse(mutated);
        } catch {}
        if (head === undefined) return;
        const theirs = await parseByNode(mutated.slice(0, head.takenBytes));
        assert.deepEqual(contentOf(head), theirs);
      }),
      { numRuns: 500 },
    );
  });
});

/** As contentOf(), of what Node's client makes of it. */
async function parseByNode(text: string) {
  const socket = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });
  const outgoing = request({ createConnection: () => socket });
  const response = await new Promise<import('node:http').IncomingMessage>((resolve, reject) => {
    outgoing.on('response', resolve).on('error', reject).end();
    socket.push(Buffer.from(text, 'latin1'));
  });
  const lines = response.rawHeaders.flatMap((name, i, all) => (i % 2 === 0 ? [[name.toLowerCase(), all[i + 1]]] : []));
  const valuesOf = (name: string) => lines.filter(([each]) => each === name).map(([, value]) => value ?? '');
  const headers = SEEN.map(name =>
    ['link', 'www-authenticate', 'connection'].includes(name) && valuesOf(name).length > 0
      ? valuesOf(name).join(', ')
      : valuesOf(name)[0],
  );
  const isEmpty = response.statusCode === 204 || response.statusCode === 304;
  const length = headers[SEEN.indexOf('content-length')];
  const isClosing = /(?:^|[,\t ])close(?:[,\t ]|$)/i.test(headers[SEEN.indexOf('connection')] ?? '');
  const isKeptAlive = response.httpVersion === '1.1' && !isClosing;
  const bodyBytes = isEmpty ? 0 : length === undefined ? undefined : Number(length);
  outgoing.destroy();
  return [response.statusCode, bodyBytes, isKeptAlive, ...headers];
}
