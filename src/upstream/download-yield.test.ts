// When a download gives its connection and its permit back, and how it goes on.
import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { until } from '../../test/support/async.ts';
import { TestClock } from '../../test/support/clock.ts';
import { type FakeAnswer, FakeUpstream } from '../../test/support/fake-upstream.ts';
import { bytesOf, randomContent } from '../../test/support/images.ts';
import { download } from './download.ts';
import { Abandoned } from './download-errors.ts';
import type { DownloadOptions } from './download-options.ts';
import type { OnChunk } from './transport/response.ts';

const MIB = 1024 * 1024;
const SIZE = 3 * MIB;
const content = randomContent(SIZE);
const BYTES = bytesOf(content);
const from = (start: number): FakeAnswer => ({ bytes: BYTES.subarray(start), sizeBytes: SIZE, chunkBytes: 64 * 1024 });
/** Sends so much, and then nothing. */
const upTo = (end: number): FakeAnswer => ({
  bytes: BYTES.subarray(0, end),
  sizeBytes: SIZE,
  after: 'stall',
  chunkBytes: 64 * 1024,
});

function setUp(script: FakeAnswer[], options: Partial<DownloadOptions> = {}, onChunk?: OnChunk) {
  const scripted = new FakeUpstream(script);
  const clock = new TestClock();
  const pieces: Buffer[] = [];
  const { signal } = new AbortController();
  const start = () =>
    download(
      { upstream: scripted.upstream, clock, signal, client: 'c', ...options },
      scripted.repository,
      content.digest,
      () => () => chunk => {
        pieces.push(chunk);
        return onChunk?.(chunk);
      },
    );
  return { start, scripted, clock, received: () => Buffer.concat(pieces) };
}

describe('a download', () => {
  test('whose receiver takes nothing gives back connection and permit after two seconds, and then resumes', async () => {
    const gate = Promise.withResolvers<void>();
    let chunks = 0;
    const { start, scripted, clock, received } = setUp([from(0), from(64 * 1024)], {}, () =>
      ++chunks === 1 ? gate.promise : undefined,
    );
    const running = start();
    await until(() => chunks === 1);
    await clock.pass(1);
    assert.deepEqual([scripted.placesTaken, scripted.openBodies], [1, 1]);
    await clock.pass(2);
    assert.deepEqual([scripted.placesTaken, scripted.openBodies], [0, 0]);
    await clock.pass(60);
    assert.equal(scripted.asked.length, 1, 'nothing is asked for meanwhile');
    gate.resolve();
    await running;
    assert.deepEqual(received(), BYTES);
    assert.deepEqual(scripted.asked, [0, 64 * 1024]);
    assert.equal(scripted.placesTaken, 0);
  });

  test('whose receiver takes nothing for too long fails, where that has a bound', async () => {
    const gate = Promise.withResolvers<void>();
    const { start, scripted, clock } = setUp([from(0)], { receiverStallMs: 30_000 }, () => gate.promise);
    const running = assert.rejects(start(), { code: 'UNAVAILABLE', message: /the client took nothing .* for 30 s/ });
    await until(() => scripted.openBodies === 1);
    await clock.pass(32);
    await running;
    assert.deepEqual([scripted.placesTaken, scripted.openBodies], [0, 0]);
  });

  test('from an upstream that hardly sends goes behind those who wait, and stays when no one does', async () => {
    for (const isContended of [false, true]) {
      const { start, scripted, clock, received } = setUp([upTo(MIB), from(MIB)]);
      scripted.isContended = isContended;
      const running = start();
      await until(() => received().length === MIB);
      await clock.pass(10);
      assert.equal(scripted.asked.length, isContended ? 2 : 1);
      if (!isContended) continue;
      await running;
      assert.deepEqual(received(), BYTES);
    }
  });

  test('goes on for as long as each turn brings a little', async () => {
    const step = 1024;
    const turn = (_: unknown, index: number): FakeAnswer => ({
      bytes: BYTES.subarray(index * step, (index + 1) * step),
      start: index * step,
      sizeBytes: SIZE,
      after: 'stall',
      chunkBytes: step,
    });
    const { start, scripted, clock, received } = setUp([...Array.from({ length: 20 }, turn), from(20 * step)]);
    scripted.isContended = true;
    const running = start();
    for (let turns = 1; turns <= 20; turns++) {
      await until(() => received().length === turns * step);
      await clock.pass(5);
    }
    await running;
    assert.deepEqual(received(), BYTES);
  });

  test('that yields over and over without a byte fails', async () => {
    const { start, scripted, clock } = setUp([
      upTo(MIB),
      ...Array(9).fill({ ...from(MIB), bytes: Buffer.alloc(0), after: 'stall' }),
    ]);
    scripted.isContended = true;
    const running = assert.rejects(start(), {
      code: 'UPSTREAM_UNAVAILABLE',
      message: /broke 6 times.*it hardly sends/,
    });
    await clock.pass(60);
    await running;
    assert.deepEqual([scripted.placesTaken, scripted.openBodies], [0, 0]);
  });

  test('that no client waits for is given up when others wait, or when it is slow', async () => {
    for (const [isContended, end, seconds] of [
      [true, SIZE - 1, 1],
      [false, MIB, 8],
    ] as const) {
      let isWanted = true;
      const { start, scripted, clock, received } = setUp([upTo(end)], { isWanted: () => isWanted });
      scripted.isContended = isContended;
      const running = assert.rejects(start(), Abandoned);
      await until(() => received().length === end);
      isWanted = false;
      await clock.pass(seconds);
      await running;
      assert.deepEqual([scripted.placesTaken, scripted.openBodies], [0, 0]);
    }
  });

  test('with a permit for small blobs asks again with another one when the blob is large', async () => {
    const { start, scripted, received } = setUp([from(0), from(0)]);
    const log: string[] = [];
    const permit = (isForSmall: boolean) => async () => {
      log.push(isForSmall ? 'small' : 'large');
      return { isForSmall, isAwaited: false, release: () => log.push('released') };
    };
    scripted.permits = { acquire: permit(true), acquireLarge: permit(false) };
    await start();
    assert.deepEqual(received(), BYTES);
    assert.deepEqual(log.slice(0, 3), ['small', 'released', 'large']);
    assert.deepEqual(scripted.asked, [0, 0]);
  });

  test('of a small blob goes on with a permit for small blobs', async () => {
    const small = bytesOf(randomContent(1_000));
    const { start, scripted, received } = setUp([{ bytes: small }]);
    scripted.permits = { acquire: async () => ({ isForSmall: true, isAwaited: false, release: () => {} }) };
    await start();
    assert.deepEqual(received(), small);
    assert.deepEqual(scripted.asked, [0]);
  });
});
