// What every implementation of Content owes, as tests: the contract of src/content/content.ts, sentence by
// sentence. An implementation hands in how one is made, how the same content is opened anew as after a
// restart, and how its bytes are changed behind its back.
import assert from 'node:assert/strict';
import { readSync } from 'node:fs';
import { describe, type TestContext, test } from 'node:test';
import fc from 'fast-check';
import type { Content, Ingest, Source } from '../../src/content/content.ts';
import { ALGORITHMS, type Algorithm, type Digest, digestOf } from '../../src/oci/digest.ts';
import { bytesOf, randomContent } from '../support/images.ts';

export interface ContentUnderTest {
  readonly content: Content;
  /** The same content, as a process that is started later finds it. */
  reopen(): Promise<Content>;
  /** Replaces the bytes under the digest by others, past the implementation. */
  overwrite(digest: Digest, bytes: Uint8Array): Promise<void>;
}

const MIB = 1024 * 1024;

export function contentSuite(name: string, make: (t: TestContext) => Promise<ContentUnderTest>): void {
  describe(`${name} keeps the contract of Content:`, () => {
    const suite = (what: string, run: (subject: ContentUnderTest, t: TestContext) => Promise<void>) =>
      test(what, async t => run(await make(t), t));

    suite('what is not here is undefined', async ({ content }) => {
      const { digest } = randomContent(10);
      assert.equal(await content.open(digest), undefined);
      assert.equal(await content.sizeOf(digest), undefined);
      assert.deepEqual(await namesIn(content), []);
      await content.remove(digest);
    });

    suite('a file that is lent has the bytes at their positions until it is released', async ({
      content,
    }) => {
      const bytes = bytesOf(randomContent(300_000, 'lent'));
      const ingest = await content.ingest('sha256');
      await write(ingest, bytes.subarray(0, 100_000));
      await ingest.flush();
      const reader = ingest.reader();
      const early = await reader.lend?.(10);
      await write(ingest, bytes.subarray(100_000));
      const digest = await ingest.finish();
      const late = await reader.lend?.(100_000);
      reader.close();
      await ingest.commit(digest);
      const source = (await content.open(digest)) ?? assert.fail();
      const whole = await source.lend?.(0);
      source.close();
      await content.remove(digest);
      // Not every implementation has files.
      for (const [lent, end] of [
        [early, 100_000],
        [late, 300_000],
        [whole, 300_000],
      ] as const) {
        if (lent === undefined) continue;
        assert.equal(lent.end, end);
        const into = Buffer.alloc(end);
        assert.equal(readSync(lent.fd, into, 0, end, 0), end);
        assert.deepEqual(into, bytes.subarray(0, end));
        lent.release();
      }
    });

    for (const algorithm of ALGORITHMS) {
      suite(`after commit content is here whole, under its ${algorithm}`, async ({ content, reopen }) => {
        const bytes = bytesOf(randomContent(2.5 * MIB, 'whole'));
        const digest = await put(content, bytes, algorithm);
        assert.equal(digest, digestOf(bytes, algorithm));
        for (const store of [content, await reopen()]) {
          assert.equal(await store.sizeOf(digest), bytes.length);
          assert.deepEqual(await read(store, digest), bytes);
          assert.deepEqual(await namesIn(store), [`${digest} ${bytes.length}`]);
        }
      });
    }

    suite('content that is not committed is not visible, however far it is', async ({ content, reopen }) => {
      const bytes = bytesOf(randomContent(100_000, 'hidden'));
      const digest = digestOf(bytes);
      const assertHidden = async (store: Content) => {
        assert.equal(await store.open(digest), undefined);
        assert.equal(await store.sizeOf(digest), undefined);
        assert.deepEqual(await namesIn(store), []);
      };
      const ingest = await content.ingest('sha256');
      await assertHidden(content);
      await write(ingest, bytes);
      await assertHidden(content);
      assert.equal(await ingest.finish(), digest);
      await assertHidden(content);
      await assertHidden(await reopen());
      await ingest.abort();
    });

    suite('nothing is left of an ingest that was aborted, at any stage', async ({ content, reopen }) => {
      const bytes = bytesOf(randomContent(2 * MIB, 'aborted'));
      const stages: ((ingest: Ingest) => unknown)[] = [
        () => {},
        ingest => void write(ingest, bytes),
        ingest => write(ingest, bytes),
        async ingest => {
          await write(ingest, bytes);
          await ingest.finish();
        },
      ];
      for (const reach of stages) {
        const ingest = await content.ingest('sha256');
        await reach(ingest);
        await ingest.abort();
        assert.deepEqual(await namesIn(content), []);
      }
      assert.deepEqual(await namesIn(await reopen()), []);
    });

    suite('empty content is content', async ({ content }) => {
      const ingest = await content.ingest('sha256');
      const digest = await ingest.finish();
      assert.equal(digest, digestOf(Buffer.alloc(0)));
      await ingest.commit(digest);
      const source = (await content.open(digest)) ?? assert.fail();
      assert.equal(source.sizeBytes, 0);
      assert.equal(await source.read(Buffer.alloc(8), 0), 0);
      assert.equal(await source.verified, true);
      source.close();
    });

    suite('finish tells what the bytes hash to, whatever pieces they come in', async ({ content }) => {
      const pieces = fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 30 });
      await fc.assert(
        fc.asyncProperty(pieces, fc.array(fc.boolean()), async (chunks, waits) => {
          const ingest = await content.ingest('sha256');
          for (const [i, chunk] of chunks.entries()) {
            const wait = write(ingest, chunk);
            if (waits[i]) await (wait ?? nextTurn());
          }
          const bytes = Buffer.concat(chunks);
          assert.equal(await ingest.finish(), digestOf(bytes));
          assert.equal(ingest.writtenBytes, bytes.length);
          assert.deepEqual(await drain(ingest.reader(), bytes.length), bytes);
          await ingest.abort();
        }),
        { numRuns: 50 },
      );
    });

    suite('an ingest can be read as far as it says that it is written, while it grows', async ({
      content,
    }) => {
      const bytes = bytesOf(randomContent(3 * MIB, 'growing'));
      const ingest = await content.ingest('sha256');
      const seen: number[] = [];
      const reads: Promise<void>[] = [];
      const reader = ingest.reader();
      ingest.onWritten = () => {
        const from = seen.at(-1) ?? 0;
        seen.push(ingest.writtenBytes);
        reads.push(
          drain({ ...reader, close: () => {} }, ingest.writtenBytes, from).then(part =>
            assert.deepEqual(part, bytes.subarray(from, from + part.length)),
          ),
        );
      };
      for (let at = 0; at < bytes.length; at += 100_000)
        await write(ingest, bytes.subarray(at, at + 100_000));
      await ingest.finish();
      await Promise.all(reads);
      reader.close();
      assert.ok(seen.length > 1, 'it must not all come at the end');
      assert.deepEqual(
        seen,
        [...new Set(seen)].sort((a, b) => a - b),
        'each call is for more than the last',
      );
      assert.equal(seen.at(-1), bytes.length);
      await ingest.abort();
    });

    const endings: Record<string, (store: Content, ingest: Ingest, digest: Digest) => Promise<void>> = {
      commit: async (_, ingest, digest) => {
        await ingest.commit(digest);
      },
      'commit and remove': async (store, ingest, digest) => {
        await ingest.commit(digest);
        await store.remove(digest);
      },
      abort: (_, ingest) => ingest.abort(),
    };
    for (const [ending, end] of Object.entries(endings)) {
      suite(`who reads an ingest can go on after ${ending}`, async ({ content }) => {
        const bytes = bytesOf(randomContent(300_000, 'followed'));
        const ingest = await content.ingest('sha256');
        const readers = [ingest.reader(), ingest.reader()] as const;
        await write(ingest, bytes);
        readers[0].close();
        const digest = await ingest.finish();
        await end(content, ingest, digest);
        assert.deepEqual(await drain(readers[1], bytes.length), bytes);
      });
    }

    suite('remove takes content away, and who reads it goes on', async ({ content }) => {
      const bytes = bytesOf(randomContent(300_000, 'removed'));
      const digest = await put(content, bytes);
      const source = (await content.open(digest)) ?? assert.fail();
      await content.remove(digest);
      assert.equal(await content.open(digest), undefined);
      assert.equal(await content.sizeOf(digest), undefined);
      assert.deepEqual(await namesIn(content), []);
      assert.deepEqual(await drain(source, bytes.length), bytes);
      await content.remove(digest);
    });

    suite('what was removed can come again', async ({ content }) => {
      const bytes = bytesOf(randomContent(1000, 'again'));
      const digest = await put(content, bytes);
      await content.remove(digest);
      await put(content, bytes);
      assert.deepEqual(await read(content, digest), bytes);
    });

    suite('the same content may come in several times at once', async ({ content }) => {
      const bytes = bytesOf(randomContent(200_000, 'twice'));
      const [digest = assert.fail(), ...others] = await Promise.all([1, 2, 3].map(() => put(content, bytes)));
      assert.deepEqual(others, [digest, digest]);
      assert.deepEqual(await namesIn(content), [`${digest} ${bytes.length}`]);
      assert.deepEqual(await read(content, digest), bytes);
    });

    for (const algorithm of ALGORITHMS) {
      suite(`an ingest with a name outlives the process, and can be gone on with where it stood (${algorithm})`, async ({
        content,
        reopen,
      }) => {
        const bytes = bytesOf(randomContent(1.5 * MIB, 'named'));
        const first = await content.ingest(algorithm, 'upload');
        await write(first, bytes.subarray(0, 700_000));
        await first.flush();
        const second = (await (await reopen()).resume(algorithm, 'upload')) ?? assert.fail();
        assert.equal(second.writtenBytes, 700_000);
        await write(second, bytes.subarray(700_000, 700_001));
        await second.flush();
        const later = await reopen();
        const third = (await later.resume(algorithm, 'upload')) ?? assert.fail();
        assert.equal(third.writtenBytes, 700_001);
        await write(third, bytes.subarray(700_001));
        const digest = await third.finish();
        assert.equal(digest, digestOf(bytes, algorithm));
        assert.equal(await third.commit(digest), true);
        assert.deepEqual(await read(later, digest), bytes);
        assert.deepEqual(await namesIn(later), [`${digest} ${bytes.length}`]);
      });
    }

    suite('an ingest that was resumed hashes, counts and reads what came before and after, wherever it was cut', async ({
      content,
      reopen,
    }) => {
      let round = 0;
      const pieces = fc.array(fc.uint8Array({ maxLength: 200 }), { minLength: 1, maxLength: 4 });
      await fc.assert(
        fc.asyncProperty(pieces, async chunks => {
          const name = `upload-${round++}`;
          let ingest = await content.ingest('sha256', name);
          let written = 0;
          for (const chunk of chunks) {
            write(ingest, chunk);
            await ingest.flush();
            written += chunk.length;
            ingest = (await (await reopen()).resume('sha256', name)) ?? assert.fail();
            assert.equal(ingest.writtenBytes, written);
          }
          const bytes = Buffer.concat(chunks);
          assert.deepEqual(await drain(ingest.reader(), bytes.length), bytes);
          assert.equal(await ingest.finish(), digestOf(bytes));
          await ingest.abort();
        }),
        { numRuns: 20 },
      );
    });

    suite('who reads a resumed ingest sees it grow, and goes on after its commit', async ({
      content,
      reopen,
    }) => {
      const bytes = bytesOf(randomContent(300_000, 'resumed'));
      const first = await content.ingest('sha256', 'upload');
      await write(first, bytes.subarray(0, 100_000));
      await first.flush();
      const later = await reopen();
      const ingest = (await later.resume('sha256', 'upload')) ?? assert.fail();
      const seen: number[] = [];
      ingest.onWritten = () => seen.push(ingest.writtenBytes);
      const reader = ingest.reader();
      await write(ingest, bytes.subarray(100_000));
      const digest = await ingest.finish();
      assert.equal(seen.at(-1), bytes.length);
      assert.ok(seen.every(count => count > 100_000));
      await ingest.commit(digest);
      assert.deepEqual(await drain(reader, bytes.length), bytes);
      await assertKnown(later, digest);
    });

    suite('an ingest that is over cannot be resumed, be it committed or aborted, nor one of an unknown name', async ({
      content,
      reopen,
    }) => {
      const bytes = Buffer.from('bytes');
      const start = async (name: string) => {
        const ingest = await content.ingest('sha256', name);
        await write(ingest, bytes);
        await ingest.flush();
        return ingest;
      };
      const committed = await start('committed');
      assert.equal(await committed.commit(await committed.finish()), true);
      const superfluous = await start('superfluous');
      assert.equal(await superfluous.commit(await superfluous.finish()), false);
      await (await start('aborted')).abort();
      await start('resumed and aborted');
      const later = await reopen();
      await (await later.resume('sha256', 'resumed and aborted'))?.abort();
      for (const store of [content, later, await reopen()]) {
        for (const name of ['committed', 'superfluous', 'aborted', 'resumed and aborted', 'unknown']) {
          assert.equal(await store.resume('sha256', name), undefined, name);
        }
      }
    });

    suite('keepIngests forgets all others of earlier processes, and no content', async ({
      content,
      reopen,
    }) => {
      const digest = await put(content, Buffer.from('content'));
      for (const name of ['one', 'two', 'three']) {
        const ingest = await content.ingest('sha256', name);
        await write(ingest, Buffer.from(name));
        await ingest.flush();
      }
      const unnamed = await content.ingest('sha256');
      await write(unnamed, Buffer.from('unnamed'));
      const later = await reopen();
      await later.keepIngests(new Set(['one', 'three', 'unknown']));
      assert.equal(await later.resume('sha256', 'two'), undefined);
      assert.equal(await later.resume('sha256', 'unknown'), undefined);
      for (const name of ['one', 'three']) {
        const ingest = (await later.resume('sha256', name)) ?? assert.fail(name);
        assert.equal(await ingest.finish(), digestOf(Buffer.from(name)));
      }
      assert.equal((await read(later, digest)).toString(), 'content');
      const last = await reopen();
      await last.keepIngests(new Set());
      for (const name of ['one', 'three']) assert.equal(await last.resume('sha256', name), undefined);
      assert.deepEqual(await namesIn(last), [`${digest} 7`]);
      // A name that was forgotten is free again.
      const again = await last.ingest('sha256', 'one');
      assert.equal(again.writtenBytes, 0);
      await again.abort();
    });

    suite('a named ingest is no content before its commit, also after a restart', async ({
      content,
      reopen,
    }) => {
      const bytes = Buffer.from('hidden');
      const ingest = await content.ingest('sha256', digestOf(bytes).slice('sha256:'.length));
      await write(ingest, bytes);
      const digest = await ingest.finish();
      for (const store of [content, await reopen()]) {
        assert.equal(await store.open(digest), undefined);
        assert.deepEqual(await namesIn(store), []);
      }
      await ingest.abort();
    });

    suite('after flush all that was handed in can be read back, and more can come', async ({ content }) => {
      const bytes = bytesOf(randomContent(3 * MIB, 'flushed'));
      const ingest = await content.ingest('sha256');
      await ingest.flush();
      assert.equal(ingest.writtenBytes, 0);
      for (const [from, to] of [
        [0, 1],
        [1, 2 * MIB],
        [2 * MIB, 3 * MIB],
      ] as const) {
        // Many at once: whoever flushes need not have waited before.
        for (let at = from; at < to; at += 100_000)
          write(ingest, bytes.subarray(at, Math.min(to, at + 100_000)));
        await ingest.flush();
        assert.equal(ingest.writtenBytes, to);
        assert.deepEqual(await drain(ingest.reader(), to, from), bytes.subarray(from, to));
      }
      assert.equal(await ingest.finish(), digestOf(bytes));
      await ingest.flush();
      await ingest.abort();
    });

    suite('finish tells the digest of either algorithm, as often as it is asked, and either can be committed', async ({
      content,
    }) => {
      for (const algorithm of ALGORITHMS) {
        const bytes = bytesOf(randomContent(700_000, `begun with ${algorithm}`));
        const ingest = await content.ingest(algorithm);
        write(ingest, bytes);
        const reader = ingest.reader();
        for (const asked of [...ALGORITHMS, undefined, ...ALGORITHMS]) {
          assert.equal(await ingest.finish(asked), digestOf(bytes, asked ?? algorithm));
        }
        const digest = digestOf(bytes, algorithm === 'sha256' ? 'sha512' : 'sha256');
        assert.equal(await ingest.commit(digest), true);
        assert.deepEqual(await read(content, digest), bytes);
        assert.deepEqual(await drain(reader, bytes.length), bytes);
        assert.equal(await content.open(digestOf(bytes, algorithm)), undefined);
        await assertKnown(content, digest);
      }
    });

    suite('finish gives the digest of the other algorithm of nothing, and of what was resumed', async ({
      content,
      reopen,
    }) => {
      const empty = await content.ingest('sha256');
      assert.equal(await empty.finish('sha512'), digestOf(Buffer.alloc(0), 'sha512'));
      await empty.abort();
      const named = await content.ingest('sha256', 'upload');
      await write(named, Buffer.from('before '));
      await named.flush();
      const resumed = (await (await reopen()).resume('sha256', 'upload')) ?? assert.fail();
      await write(resumed, Buffer.from('after'));
      assert.equal(await resumed.finish('sha512'), digestOf(Buffer.from('before after'), 'sha512'));
      assert.equal(await resumed.finish('sha256'), digestOf(Buffer.from('before after')));
      await resumed.abort();
    });

    suite('commit says whether the content is new; what was here already stays as it is', async ({
      content,
      reopen,
    }) => {
      const bytes = bytesOf(randomContent(200_000, 'new or not'));
      const commit = async (store: Content, name?: string) => {
        const ingest = await store.ingest('sha256', name);
        await write(ingest, bytes);
        const reader = ingest.reader();
        const isNew = await ingest.commit(await ingest.finish());
        assert.deepEqual(await drain(reader, bytes.length), bytes, 'who reads the ingest goes on');
        return isNew;
      };
      const digest = digestOf(bytes);
      assert.equal(await commit(content), true);
      const source = (await content.open(digest)) ?? assert.fail();
      assert.equal(await commit(content), false);
      assert.equal(await commit(content, 'named'), false);
      const later = await reopen();
      assert.equal(await commit(later), false);
      assert.deepEqual(await drain(source, bytes.length), bytes);
      assert.deepEqual(await namesIn(later), [`${digest} ${bytes.length}`]);
      await later.remove(digest);
      assert.equal(await commit(later, 'named'), true);
      assert.deepEqual(await read(later, digest), bytes);
    });

    suite('of several commits of the same content at once exactly one is new', async ({ content }) => {
      for (let round = 0; round < 5; round++) {
        const bytes = bytesOf(randomContent(50_000, `at once ${round}`));
        const digest = digestOf(bytes);
        const ingests = await Promise.all(
          Array.from({ length: 6 }, (_, i) => content.ingest('sha256', i % 2 ? `${round}-${i}` : undefined)),
        );
        for (const ingest of ingests) await write(ingest, bytes);
        for (const ingest of ingests) assert.equal(await ingest.finish(), digest);
        const answers = await Promise.all(ingests.map(ingest => ingest.commit(digest)));
        assert.equal(answers.filter(isNew => isNew).length, 1, answers.join());
        assert.deepEqual(await read(content, digest), bytes);
        await assertKnown(content, digest);
      }
    });

    suite('commits of different content at once are all new', async ({ content }) => {
      const answers = await Promise.all(
        ALGORITHMS.flatMap(algorithm =>
          ['a', 'b', 'c'].map(async text => {
            const ingest = await content.ingest(algorithm);
            await write(ingest, Buffer.from(text));
            return ingest.commit(await ingest.finish());
          }),
        ),
      );
      assert.deepEqual(answers, Array(6).fill(true));
    });

    suite('list names all that is here', async ({ content }) => {
      const expected: string[] = [];
      for (let i = 0; i < 20; i++) {
        const bytes = Buffer.from(`content ${i}`);
        expected.push(`${await put(content, bytes, i % 2 ? 'sha512' : 'sha256')} ${bytes.length}`);
      }
      assert.deepEqual(await namesIn(content), expected.sort());
    });

    suite('a read fills the front of the buffer from any position, and gives 0 at the end alone', async ({
      content,
    }) => {
      const bytes = bytesOf(randomContent(5000, 'positions'));
      const source = (await content.open(await put(content, bytes))) ?? assert.fail();
      await fc.assert(
        fc.asyncProperty(
          fc.nat({ max: 5000 }),
          fc.integer({ min: 1, max: 6000 }),
          async (position, length) => {
            const into = Buffer.alloc(length);
            const count = await source.read(into, position);
            assert.equal(count > 0, position < 5000);
            assert.deepEqual(into.subarray(0, count), bytes.subarray(position, position + count));
          },
        ),
      );
      source.close();
    });

    suite('a writer that is faster than the store is told to wait, and then to go on', async ({
      content,
    }) => {
      const ingest = await content.ingest('sha256');
      const chunk = Buffer.alloc(64 * 1024, 1);
      let handedIn = 0;
      const next = () => {
        handedIn += chunk.length;
        assert.ok(handedIn - ingest.writtenBytes < 16 * MIB, 'nobody said to wait');
        return write(ingest, chunk);
      };
      for (let times = 0; times < 5; times++) {
        let wait = next();
        while (wait === undefined) wait = next();
        await wait;
      }
      await ingest.finish();
      assert.equal(ingest.writtenBytes, handedIn);
      await ingest.abort();
    });

    suite('what this process has stored is known to be right, with no wait', async ({ content }) => {
      const digest = await put(content, bytesOf(randomContent(100_000, 'known')));
      await assertKnown(content, digest);
    });

    suite('what was here before is verified once, and then known', async ({ content, reopen }) => {
      const digest = await put(content, bytesOf(randomContent(MIB, 'before')));
      const later = await reopen();
      const sources = await Promise.all(
        [1, 2, 3].map(async () => (await later.open(digest)) ?? assert.fail()),
      );
      for (const { verified } of sources) assert.ok(verified instanceof Promise);
      assert.deepEqual(await Promise.all(sources.map(source => source.verified)), [true, true, true]);
      for (const source of sources) source.close();
      await assertKnown(later, digest);
    });

    suite('a verdict comes also when the asker has closed meanwhile', async ({ content, reopen }) => {
      const digest = await put(content, bytesOf(randomContent(MIB, 'closed')));
      const source = (await (await reopen()).open(digest)) ?? assert.fail();
      source.close();
      assert.equal(await source.verified, true);
    });

    suite('what was changed behind its back is found out, and what was not is not', async ({
      content,
      reopen,
      overwrite,
    }) => {
      const bytes = bytesOf(randomContent(MIB, 'changed'));
      const digest = await put(content, bytes);
      const other = await put(content, bytesOf(randomContent(MIB, 'other')));
      const wrong = Buffer.from(bytes);
      wrong.writeUInt8(wrong.readUInt8(MIB - 1) ^ 1, MIB - 1);
      await overwrite(digest, wrong);
      const later = await reopen();
      assert.equal(await pendingVerdict(later, digest), false);
      assert.equal(await pendingVerdict(later, other), true);
    });

    suite('what is cut short is found out', async ({ content, reopen, overwrite }) => {
      const bytes = bytesOf(randomContent(100_000, 'short'));
      const digest = await put(content, bytes);
      await overwrite(digest, bytes.subarray(0, 99_999));
      assert.equal(await pendingVerdict(await reopen(), digest), false);
    });

    suite('what is changed while the process runs is verified anew', async ({ content, overwrite }) => {
      const bytes = bytesOf(randomContent(MIB, 'running'));
      const digest = await put(content, bytes);
      await assertKnown(content, digest);
      await overwrite(digest, Buffer.alloc(bytes.length));
      assert.equal(await pendingVerdict(content, digest), false);
      // A bad verdict is not remembered either.
      assert.equal(await pendingVerdict(content, digest), false);
      await overwrite(digest, bytes);
      assert.equal(await pendingVerdict(content, digest), true);
      await assertKnown(content, digest);
    });

    suite('bytes that are in memory are right, whatever becomes of what they were read from', async ({
      content,
      overwrite,
    }) => {
      const bytes = bytesOf(randomContent(10_000, 'in memory'));
      const digest = await put(content, bytes);
      // Not every implementation keeps any.
      const kept = await content.open(digest);
      kept?.close();
      await overwrite(digest, Buffer.alloc(bytes.length));
      for (const source of [kept, await content.open(digest)]) {
        if (source?.bytes === undefined) continue;
        assert.equal(source.verified, true);
        assert.equal(source.sizeBytes, bytes.length);
        assert.deepEqual(source.bytes, bytes);
        assert.deepEqual(await drain(source, bytes.length), bytes);
      }
    });

    suite('what is removed while it is being opened is not found again', async ({ content }) => {
      const digest = await put(content, bytesOf(randomContent(10_000, 'removed')));
      const opening = content.open(digest);
      const removing = content.remove(digest);
      (await opening)?.close();
      await removing;
      assert.equal(await content.open(digest), undefined);
    });

    suite('it can be checked, and knows how much more it can take', async ({ content }) => {
      await content.check();
      assert.ok((await content.freeBytes()) > 0);
    });
  });
}

/** Hands in a copy: an ingest may give the memory back. */
export function write(ingest: Ingest, bytes: Uint8Array): Promise<void> | undefined {
  return ingest.write(Buffer.from(bytes));
}

/** Stores bytes as content; resolves to their digest. */
export async function put(
  content: Content,
  bytes: Uint8Array,
  algorithm: Algorithm = 'sha256',
): Promise<Digest> {
  const ingest = await content.ingest(algorithm);
  await write(ingest, bytes);
  const digest = await ingest.finish();
  await ingest.commit(digest);
  return digest;
}

/** All bytes of content that is here. */
export async function read(content: Content, digest: Digest): Promise<Buffer> {
  const source = (await content.open(digest)) ?? assert.fail(`${digest} is not here`);
  return drain(source, source.sizeBytes);
}

/** Reads up to `end` in pieces, and closes. */
async function drain(source: Pick<Source, 'read' | 'close'>, end: number, start = 0): Promise<Buffer> {
  const bytes = Buffer.alloc(end - start);
  for (let at = 0; at < bytes.length; ) {
    const count = await source.read(bytes.subarray(at, at + 70_000), start + at);
    assert.ok(count > 0, `the end came at byte ${start + at} of ${end}`);
    at += count;
  }
  source.close();
  return bytes;
}

async function namesIn(content: Content): Promise<string[]> {
  const names: string[] = [];
  for await (const { digest, sizeBytes } of content.list()) names.push(`${digest} ${sizeBytes}`);
  return names.sort();
}

/** Known to be right, with no hashing and no wait. */
async function assertKnown(content: Content, digest: Digest): Promise<void> {
  const source = (await content.open(digest)) ?? assert.fail();
  source.close();
  assert.equal(source.verified, true);
}

/** The verdict of a hashing that must be under way. */
async function pendingVerdict(content: Content, digest: Digest): Promise<boolean> {
  const source = (await content.open(digest)) ?? assert.fail();
  assert.ok(source.verified instanceof Promise, 'a verdict from before must not count');
  const verdict = await source.verified;
  source.close();
  return verdict;
}

const nextTurn = () => new Promise(resolve => setImmediate(resolve));
