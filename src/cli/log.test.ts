import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { describe, test } from 'node:test';
import { escapeJson, textOf } from './log.ts';

const time = new Date(2026, 0, 2, 3, 4, 5);
const DIGEST = `sha256:${'0123456789abcdef'.repeat(4)}`;
const request = {
  ...{
    method: 'GET',
    kind: 'manifest',
    image: 'ghcr.io/owner/app:v1',
    outcome: 'hit',
    status: 200,
    bytes: 1234,
    ms: 3,
  },
  ...{ client: '127.0.0.1', agent: 'docker/29.0.1 go/go1.25' },
};

describe('a line for people', () => {
  const lines: [fields: object, message: string, line: string][] = [
    [
      request,
      'request',
      'GET manifest   ghcr.io/owner/app:v1                     hit         200  1.2 KiB    3 ms 127.0.0.1       docker/29.0.1 go/go1.25',
    ],
    [
      {
        ...request,
        kind: 'blob',
        image: `ghcr.io/owner/app@${DIGEST}`,
        outcome: 'joined',
        bytes: 734_003_200,
        ms: 12_345,
      },
      'request',
      'GET blob       ghcr.io/owner/app@sha256:0123456789ab    joined      200  700 MiB    12 s 127.0.0.1       docker/29.0.1 go/go1.25',
    ],
    [
      {
        method: 'GET',
        kind: 'other',
        path: '/favicon.ico',
        outcome: 'bypass',
        status: 404,
        bytes: 0,
        ms: 0,
        client: '::1',
      },
      'request',
      'GET other      /favicon.ico                             bypass      404      0 B    0 ms ::1',
    ],
    [
      { ...request, outcome: 'miss', status: 502, bytes: 99, ms: 61_000, reason: 'ghcr.io does not answer' },
      'request',
      'GET manifest   ghcr.io/owner/app:v1                     miss        502     99 B   1m01s 127.0.0.1       docker/29.0.1 go/go1.25 | ghcr.io does not answer',
    ],
    [
      { ...request, agent: undefined, bytes: 10 * 1024 ** 3, ms: 9_940 },
      'client disconnected',
      'GET manifest   ghcr.io/owner/app:v1                     hit         200   10 GiB   9.9 s 127.0.0.1 | client disconnected',
    ],
    [
      { ...request, image: `ghcr.io/owner/${'long/'.repeat(10)}app:v1` },
      'request',
      `GET manifest   ghcr.io/owner/${'long/'.repeat(10)}app:v1 hit         200  1.2 KiB    3 ms 127.0.0.1       docker/29.0.1 go/go1.25`,
    ],
    [{}, 'a sentence', 'a sentence'],
    [{ credential: 'credential 1' }, 'denied', 'denied credential="credential 1"'],
    [
      { upstream: 'ghcr.io', count: 3, gone: undefined, list: ['a'] },
      'said',
      'said upstream=ghcr.io count=3 list=["a"]',
    ],
  ];
  for (const [fields, message, line] of lines) {
    test(line.slice(0, 60), () => {
      assert.equal(textOf('info', fields, message, time), `03:04:05 info  ${line}`);
    });
  }

  test('has its level, and the stack of an error that nobody expected', () => {
    const err = new Error('boom');
    const [first, ...stack] = textOf('error', { err }, 'failed', time).split('\n');
    assert.equal(first, '03:04:05 error failed');
    assert.equal(stack[0], '  Error: boom');
    assert.match(stack[1] ?? '', /^ {6}at .*log\.test\.ts/);
    assert.equal(textOf('warn', { err: 'text' }, 'failed', time), '03:04:05 warn  failed\n  text');
  });

  test('moves no cursor and turns no text around, whatever a client or an upstream sends', () => {
    const hostile = '\x1b[2J\r\n\x07\x7f\x9b31m\u202e\u2066\u200b\u2028.';
    const shown = '\\u001b[2J\\u000d\\u000a\\u0007\\u007f\\u009b31m\\u202e\\u2066\\u200b\\u2028.';
    for (const fields of [
      { ...request, agent: hostile },
      { ...request, image: undefined, path: hostile },
      { ...request, reason: hostile },
      { upstream: hostile },
    ]) {
      const line = textOf('info', fields, 'request', time);
      assert.match(line, /\\u001b\[2J.*\\u009b31m\\u202e/);
      assert.doesNotMatch(line, /[\p{Cc}\p{Cf}\u2028]/u);
    }
    assert.ok(textOf('info', {}, hostile, time).includes(shown));
    const [, ...stack] = textOf('error', { err: `a\n${hostile}` }, 'failed', time).split('\n');
    assert.doesNotMatch(stack.join(''), /[\p{Cc}\p{Cf}\u2028]/u);
  });
});

test('what JSON leaves as it is but a terminal acts on is escaped, and the object stays the same', () => {
  const entry = { agent: 'a\x9b31m\x7f\u202e\u{e0001}\u2028 ü 😀', msg: 'request\n\x1b' };
  const line = escapeJson(`${JSON.stringify(entry)}\n`);
  assert.doesNotMatch(line.slice(0, -1), /[\p{Cc}\p{Cf}\u2028]/u);
  assert.ok(line.endsWith('}\n'));
  assert.match(line, /ü 😀/);
  assert.deepEqual(JSON.parse(line), entry);
});

describe('the log of a config', () => {
  /** What a process writes that logs two lines, without a terminal. */
  function stderrOf(config: object, isTerminal?: boolean): string {
    const program = `
      import { openLog } from ${JSON.stringify(import.meta.resolve('./log.ts'))};
      const log = openLog({ log: ${JSON.stringify(config)} }, ${isTerminal});
      log.debug({ a: 1 }, 'not written at info');
      log.info(${JSON.stringify(request)}, 'request');
      log.error({ agent: '\\u009b' }, 'failed');
      process.stdout.write(String(log.isLevelEnabled('info')));
    `;
    const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '--eval', program], {
      encoding: 'utf8',
    });
    assert.equal(stdout, String(JSON.stringify(config).includes('info')));
    return stderr;
  }

  test('is JSON where there is no terminal, or when that is asked for', () => {
    for (const [format, isTerminal] of [
      ['auto', undefined],
      ['auto', false],
      ['json', true],
    ] as const) {
      const lines = stderrOf({ level: 'info', format }, isTerminal).trimEnd().split('\n');
      const [first, second] = lines.map(line => JSON.parse(line));
      const { time, ...entry } = first;
      assert.deepEqual(entry, { level: 'info', ...request, msg: 'request' });
      assert.match(time, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$/);
      assert.equal(second.agent, '\x9b');
      assert.doesNotMatch(lines.join(), /\x9b/);
      assert.equal(lines.length, 2);
    }
  });

  test('is for people on a terminal, or when that is asked for', () => {
    for (const [format, isTerminal] of [
      ['auto', true],
      ['text', false],
    ] as const) {
      const lines = stderrOf({ level: 'info', format }, isTerminal).split('\n');
      assert.match(lines[0] ?? '', /^\d\d:\d\d:\d\d info {2}GET manifest /);
      assert.match(lines[1] ?? '', /^\d\d:\d\d:\d\d error failed agent=\\u009b$/);
      assert.equal(lines.length, 3);
    }
  });

  test('writes only its level and above', () => {
    for (const format of ['text', 'json']) {
      assert.equal(stderrOf({ level: 'error', format }).trimEnd().split('\n').length, 1);
      assert.equal(stderrOf({ level: 'silent', format }), '');
    }
  });
});
