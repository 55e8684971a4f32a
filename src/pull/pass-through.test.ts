import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import fc from 'fast-check';
import { turns } from '../../test/support/async.ts';
import { TestClock } from '../../test/support/clock.ts';
import { type FakeAnswer, FakeUpstream } from '../../test/support/fake-upstream.ts';
import { bytesOf, randomContent } from '../../test/support/images.ts';
import type { Source } from '../content/content.ts';
import type { Algorithm } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { OURSELVES } from './caller.ts';
import { HOLD_BACK_BYTES } from './hold-back.ts';
import { openPassThrough } from './pass-through.ts';

const KIB = 1024;
const LARGE = 300 * KIB;

function setUp(
  t: TestContext | undefined,
  sizeBytes: number,
  script: (bytes: Buffer) => FakeAnswer[] = bytes => [{ bytes }],
  algorithm: Algorithm = 'sha256',
) {
  const content = randomContent(sizeBytes, '', algorithm);
  const bytes = bytesOf(content);
  const scripted = new FakeUpstream(script(bytes));
  const leaving = new AbortController();
  t?.after(() => leaving.abort());
  const { upstream, repository } = scripted;
  const open = () =>
    openPassThrough(
      { upstream: () => upstream, clock: new TestClock(), signal: leaving.signal },
      repository,
      content.digest,
      OURSELVES,
    );
  return { bytes, scripted, leaving, open };
}

/** Reads on from `start`, to the end or to where it fails; what was read until then is in `got`. */
async function readOn(source: Source, start = 0, bufferBytes = 10_000, got: Buffer[] = []): Promise<Buffer> {
  for (let position = start; ; ) {
    const into = Buffer.alloc(bufferBytes);
    const count = await source.read(into, position);
    if (count === 0) return Buffer.concat(got);
    got.push(into.subarray(0, count));
    position += count;
  }
}

const wrong = (bytes: Buffer): FakeAnswer => {
  const other = Buffer.from(bytes);
  other.writeUInt8(other.readUInt8(0) ^ 1, 0);
  return { bytes: other, contentType: 'text/html' };
};

async function assertAllLetGo(scripted: FakeUpstream): Promise<void> {
  for (let i = 0; i < 5; i++) await turns();
  assert.deepEqual([scripted.openBodies, scripted.placesTaken], [0, 0]);
}

describe('a blob that passes through', () => {
  for (const sizeBytes of [0, 1, HOLD_BACK_BYTES - 1, HOLD_BACK_BYTES, HOLD_BACK_BYTES + 1, LARGE, 1500 * KIB]) {
    test(`of ${sizeBytes} bytes is read whole, and then is at its end`, async t => {
      const { bytes, scripted, open } = setUp(t, sizeBytes);
      const source = await open();
      assert.equal(source.sizeBytes, sizeBytes);
      assert.ok((await readOn(source)).equals(bytes));
      assert.equal(await source.read(Buffer.alloc(1), sizeBytes), 0);
      source.close();
      await assertAllLetGo(scripted);
    });
  }

  test('may be of sha512', async t => {
    const { bytes, open } = setUp(t, LARGE, undefined, 'sha512');
    assert.ok((await readOn(await open())).equals(bytes));
  });

  test('may be read from any byte on, in buffers and chunks of any size', async () => {
    const cases = fc.record({
      start: fc.nat({ max: 150_000 }),
      bufferBytes: fc.integer({ min: 2_000, max: 200_000 }),
      chunkBytes: fc.integer({ min: 2_000, max: 70_000 }),
      again: fc.nat({ max: 30_000 }),
    });
    await fc.assert(
      fc.asyncProperty(cases, async ({ start, bufferBytes, chunkBytes, again }) => {
        const { bytes, open } = setUp(undefined, 150_000, whole => [{ bytes: whole, chunkBytes }]);
        const source = await open();
        // Some bytes, then a place further on, and from there to the end.
        const into = Buffer.alloc(100);
        const count = await source.read(into, start);
        assert.ok(into.subarray(0, count).equals(bytes.subarray(start, start + count)));
        const next = Math.min(start + count + again, bytes.length);
        assert.ok((await readOn(source, next, bufferBytes)).equals(bytes.subarray(next)));
        source.close();
      }),
      { numRuns: 40 },
    );
  });

  test('cannot be read backwards', async t => {
    const { open } = setUp(t, LARGE);
    const source = await open();
    const count = await source.read(Buffer.alloc(100), 0);
    await assert.rejects(source.read(Buffer.alloc(100), count - 1), /only be read forwards/);
  });

  test('is resumed when its download breaks', async t => {
    const { bytes, scripted, open } = setUp(t, LARGE, whole => [
      { bytes: whole.subarray(0, 100_000), sizeBytes: LARGE, after: new Error('reset') },
      { bytes: whole.subarray(100_000) },
    ]);
    assert.ok((await readOn(await open())).equals(bytes));
    assert.deepEqual(scripted.asked, [0, 100_000]);
  });

  test('is held back at its end until the digest is known', async t => {
    const { open } = setUp(t, LARGE, bytes => [{ bytes, after: 'stall' }]);
    const source = await open();
    let reached = 0;
    const reading = (async () => {
      const into = Buffer.alloc(LARGE);
      for (;;) reached += await source.read(into, reached);
    })();
    reading.catch(() => {});
    for (let i = 0; i < 400; i++) await turns();
    assert.equal(reached, LARGE - HOLD_BACK_BYTES);
    source.close();
    await assert.rejects(reading);
  });
});

describe('a blob of wrong bytes that passes through', () => {
  test('is never completed, and the reader is told what came', async t => {
    const { scripted, open } = setUp(t, LARGE, bytes => [wrong(bytes)]);
    const source = await open();
    const got: Buffer[] = [];
    await assert.rejects(readOn(source, 0, 10_000, got), {
      code: 'UPSTREAM_INVALID',
      message: new RegExp(
        `wrong content for ghcr.io/owner/app@sha256:.*: ${LARGE} bytes of text/html that hash to sha256:`,
      ),
    });
    assert.ok(Buffer.concat(got).length <= LARGE - HOLD_BACK_BYTES);
    await assert.rejects(source.read(Buffer.alloc(10), Buffer.concat(got).length), {
      code: 'UPSTREAM_INVALID',
    });
    assert.equal(scripted.asked.length, 1, 'what the client has seen cannot be fetched again');
    source.close();
    await assertAllLetGo(scripted);
  });

  test('is fetched again, unseen, when the reader has no byte yet', async t => {
    const { bytes, scripted, open } = setUp(t, 1000, right => [wrong(right), { bytes: right }]);
    assert.ok((await readOn(await open())).equals(bytes));
    await assertAllLetGo(scripted);
  });

  test('is given up when it is wrong the second time too', async t => {
    const { scripted, open } = setUp(t, 1000, bytes => [wrong(bytes), wrong(bytes)]);
    await assert.rejects(open(), { code: 'UPSTREAM_INVALID' });
    await assertAllLetGo(scripted);
  });
});

describe('a blob that cannot pass through', () => {
  for (const code of ['BLOB_UNKNOWN', 'DENIED', 'UPSTREAM_UNAVAILABLE'] as const) {
    test(`ends in what the upstream says (${code}), asked once`, async t => {
      const error = new RegistryError(code, 'no');
      const { scripted, open } = setUp(t, LARGE, () => [{ error }]);
      await assert.rejects(open(), error);
      assert.equal(scripted.asked.length, 1);
      await assertAllLetGo(scripted);
    });
  }

  test('because its size is not told is refused, and nothing of it stays open', async t => {
    const unsized = (bytes: Buffer): FakeAnswer => ({ bytes, sizeBytes: null });
    const { scripted, open } = setUp(t, LARGE, bytes => [unsized(bytes), unsized(bytes)]);
    await assert.rejects(open(), { code: 'UPSTREAM_INVALID', message: /does not tell its size/ });
    await assertAllLetGo(scripted);
  });
});

describe('the reader of a blob that passes through', () => {
  test('that leaves ends the download', async t => {
    const { scripted, open } = setUp(t, 3000 * KIB);
    const source = await open();
    await source.read(Buffer.alloc(1000), 0);
    source.close();
    await assertAllLetGo(scripted);
    assert.ok(scripted.sentBytes < 3000 * KIB);
  });

  test('that leaves while the download waits for it ends the download', async t => {
    const { scripted, open } = setUp(t, 3000 * KIB, bytes => [{ bytes, chunkBytes: 64 * KIB }]);
    const source = await open();
    await untilStill(scripted);
    source.close();
    await assertAllLetGo(scripted);
  });

  test('is released when the server shuts down', async t => {
    const { scripted, leaving, open } = setUp(t, LARGE, bytes => [
      { bytes: bytes.subarray(0, 1000), sizeBytes: LARGE, after: 'stall' },
    ]);
    const source = await open();
    const reason = new Error('the server is shutting down');
    const reading = readOn(source);
    setImmediate(() => leaving.abort(reason));
    await assert.rejects(reading, reason);
    await assertAllLetGo(scripted);
  });

  for (const readBytes of [64 * KIB, 1 * KIB]) {
    test(`that is slow holds up the upstream, so that memory stays flat (reads of ${readBytes} bytes)`, async t => {
      const sizeBytes = 3000 * KIB;
      const chunkBytes = 64 * KIB;
      const { bytes, scripted, open } = setUp(t, sizeBytes, whole => [{ bytes: whole, chunkBytes }]);
      const source = await open();
      const into = Buffer.alloc(readBytes);
      let position = 0;
      for (let reads = 0; reads < 30; reads++) {
        await untilStill(scripted);
        // What is held back, what may be buffered, and a chunk on its way in.
        const pending = scripted.sentBytes - position;
        assert.ok(pending <= HOLD_BACK_BYTES + 512 * KIB + 2 * chunkBytes, `${pending} bytes are in memory`);
        position += await source.read(into, position);
      }
      assert.ok((await readOn(source, position)).equals(bytes.subarray(position)), 'and it goes on to the end');
    });
  }
});

/** Waits until the upstream sends no more. */
async function untilStill(scripted: FakeUpstream): Promise<void> {
  for (let before = -1; before !== scripted.sentBytes; ) {
    before = scripted.sentBytes;
    for (let i = 0; i < 4; i++) await turns();
  }
}
