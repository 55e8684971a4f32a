import assert from 'node:assert/strict';
import { test } from 'node:test';
import { TestClock } from '../../test/support/clock.ts';
import { OutOfDescriptors, RegistryError, StorageFailure } from '../oci/errors.ts';
import { Descriptors, descriptorLimit } from './descriptors.ts';

function setUp(limit: number | undefined) {
  const lines: string[] = [];
  const clock = new TestClock();
  const descriptors = new Descriptors(limit, clock, { warn: (_, message) => void lines.push(message) });
  return { lines, clock, descriptors };
}

const withCode = (code: string) => Object.assign(new Error(`${code}: too many open files, open 'x'`), { code });

test('a low limit is said at the start, with what to do, and one that is enough or unknown is not', () => {
  const { lines, descriptors } = setUp(1_024);
  assert.equal(lines.length, 1);
  assert.match(lines[0] ?? '', /1024 files and connections.*at most 512 clients.*4096 or more \(ulimit -n/);
  assert.deepEqual([descriptors.keptFiles, descriptors.maxConnections], [128, 512]);
  for (const limit of [4_096, 1_048_576, undefined]) assert.deepEqual(setUp(limit).lines, []);
});

test('what is kept open follows the limit, and is bounded where there is none', () => {
  for (const [limit, keptFiles, maxConnections] of [
    [4, 1, 2],
    [256, 32, 128],
    [4_096, 256, 2_048],
    [1_048_576, 256, 524_288],
    [undefined, 256, Infinity],
  ] as const) {
    const { descriptors } = setUp(limit);
    assert.deepEqual([descriptors.keptFiles, descriptors.maxConnections], [keptFiles, maxConnections], `${limit}`);
  }
});

test('an error of lacking descriptors, however deep, is explained to the client, and files are closed', () => {
  const { descriptors } = setUp(8_192);
  let shrunk = 0;
  descriptors.onShrink(() => shrunk++);
  const errors = [
    withCode('EMFILE'),
    withCode('ENFILE'),
    new Error('connect failed', { cause: withCode('EMFILE') }),
    new AggregateError([withCode('ECONNREFUSED'), withCode('EMFILE')]),
    new StorageFailure('it cannot be opened', { cause: withCode('EMFILE') }),
    new OutOfDescriptors(withCode('EMFILE')),
  ];
  for (const error of errors) {
    const explained = descriptors.explain(error);
    assert.ok(explained instanceof OutOfDescriptors);
    assert.deepEqual([explained.code, explained.retryAfterMs], ['UNAVAILABLE', 5_000]);
    assert.match(explained.message, /too many files and connections are open; try again/);
  }
  assert.equal(shrunk, errors.length);
  const others = [withCode('EIO'), new RegistryError('DENIED', 'no'), new StorageFailure('full'), 'text', undefined];
  for (const error of others) assert.equal(descriptors.explain(error), error);
  assert.equal(shrunk, errors.length);
});

test('the log says so at most once in ten seconds', () => {
  const { lines, clock, descriptors } = setUp(8_192);
  for (let i = 0; i < 100; i++) descriptors.explain(withCode('EMFILE'));
  for (let i = 0; i < 100; i++) descriptors.turnedAway();
  clock.advance(9_999);
  descriptors.exhausted();
  assert.equal(lines.length, 1);
  assert.match(lines[0] ?? '', /too many are open \(limit: 8192\); raise the limit/);
  clock.advance(1);
  descriptors.turnedAway();
  assert.match(lines[1] ?? '', /a client was turned away, since 4096 are connected/);
});

test('the limit of this process is read where the system tells it', { skip: process.platform !== 'linux' }, () => {
  assert.ok((descriptorLimit() ?? 0) > 0);
});
