// What every implementation of Ingests owes, as tests: the contract of src/content/ingest.ts, sentence by sentence.
import assert from 'node:assert/strict';
import { describe, type TestContext } from 'node:test';
import fc from 'fast-check';
import { Spans } from '../../src/base/spans.ts';
import type { Content } from '../../src/content/content.ts';
import type { Ingest } from '../../src/content/ingest.ts';
import { ALGORITHMS, type Digest, digestOf } from '../../src/oci/digest.ts';
import { turns } from '../support/async.ts';
import { bytesOf, randomContent } from '../support/images.ts';
import { drain, namesIn, read, write } from '../support/stores.ts';
import { assertRight, type StoresUnderTest, suiteOf } from './content.ts';

const MIB = 1024 * 1024;

export function ingestsSuite(name: string, make: (t: TestContext) => Promise<StoresUnderTest>): void {
  describe(`${name} keeps the contract of Ingests:`, () => {
    const suite = suiteOf(make);

    suite('nothing is left of an ingest that was aborted, at any stage', async ({ content, ingests, reopen }) => {
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
        const ingest = await ingests.begin('sha256');
        await reach(ingest);
        await ingest.abort();
        assert.deepEqual(await namesIn(content), []);
      }
      assert.deepEqual(await namesIn((await reopen()).content), []);
    });

    suite('finish tells what the bytes hash to, whatever pieces they come in', async ({ ingests }) => {
      const pieces = fc.array(fc.uint8Array({ maxLength: 200 }), { maxLength: 30 });
      await fc.assert(
        fc.asyncProperty(pieces, fc.array(fc.boolean()), async (chunks, waits) => {
          const ingest = await ingests.begin('sha256');
          for (const [i, chunk] of chunks.entries()) {
            const wait = write(ingest, chunk);
            if (waits[i]) await (wait ?? turns());
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

    suite('an ingest can be read as far as it says that it is written, while it grows', async ({ ingests }) => {
      const bytes = bytesOf(randomContent(3 * MIB, 'growing'));
      const ingest = await ingests.begin('sha256');
      const seen: number[] = [];
      const following = (async () => {
        for (let from = 0; from < bytes.length; ) {
          await ingest.progress.wait(() => ingest.writtenBytes > from);
          const to = ingest.writtenBytes;
          seen.push(to);
          assert.deepEqual(await drain(ingest.reader(), to, from), bytes.subarray(from, to));
          from = to;
        }
      })();
      for (let at = 0; at < bytes.length; at += 100_000) await write(ingest, bytes.subarray(at, at + 100_000));
      await ingest.finish();
      await following;
      assert.ok(seen.length > 1, 'it must not all come at the end');
      assert.equal(seen.at(-1), bytes.length);
      await ingest.abort();
    });

    const endings: Record<string, (content: Content, ingest: Ingest, digest: Digest) => Promise<void>> = {
      'it is published': async (content, ingest, digest) => {
        await content.publish(ingest, digest);
      },
      'it is published and removed': async (content, ingest, digest) => {
        await content.publish(ingest, digest);
        await content.remove(digest);
      },
      'it is aborted': (_, ingest) => ingest.abort(),
    };
    for (const [ending, end] of Object.entries(endings)) {
      suite(`a reader of an ingest can go on after ${ending}`, async ({ content, ingests }) => {
        const bytes = bytesOf(randomContent(300_000, 'followed'));
        const ingest = await ingests.begin('sha256');
        const readers = [ingest.reader(), ingest.reader()] as const;
        await write(ingest, bytes);
        readers[0].close();
        const digest = await ingest.finish();
        await end(content, ingest, digest);
        assert.deepEqual(await drain(readers[1], bytes.length), bytes);
      });
    }

    for (const algorithm of ALGORITHMS) {
      suite(`an ingest with a name outlives the process, and can be resumed where it stood (${algorithm})`, async ({
        content,
        ingests,
        reopen,
      }) => {
        const bytes = bytesOf(randomContent(1.5 * MIB, 'named'));
        const first = await ingests.begin(algorithm, 'upload');
        await write(first, bytes.subarray(0, 700_000));
        await first.flush();
        const second = (await (await reopen()).ingests.resume(algorithm, 'upload')) ?? assert.fail();
        assert.equal(second.writtenBytes, 700_000);
        await write(second, bytes.subarray(700_000, 700_001));
        await second.flush();
        const later = await reopen();
        const third = (await later.ingests.resume(algorithm, 'upload')) ?? assert.fail();
        assert.equal(third.writtenBytes, 700_001);
        await write(third, bytes.subarray(700_001));
        const digest = await third.finish();
        assert.equal(digest, digestOf(bytes, algorithm));
        assert.equal(await content.publish(third, digest), true);
        assert.deepEqual(await read(later.content, digest), bytes);
        assert.deepEqual(await namesIn(later.content), [`${digest} ${bytes.length}`]);
      });
    }

    suite('an ingest that was resumed hashes, counts and reads what came before and after, wherever it was cut', async ({
      ingests,
      reopen,
    }) => {
      let round = 0;
      const pieces = fc.array(fc.uint8Array({ maxLength: 200 }), { minLength: 1, maxLength: 4 });
      await fc.assert(
        fc.asyncProperty(pieces, async chunks => {
          const name = `upload-${round++}`;
          let ingest = await ingests.begin('sha256', name);
          let written = 0;
          for (const chunk of chunks) {
            write(ingest, chunk);
            await ingest.flush();
            written += chunk.length;
            ingest = (await (await reopen()).ingests.resume('sha256', name)) ?? assert.fail();
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

    suite('a reader of a resumed ingest sees it grow, and goes on after it is published', async ({
      ingests,
      reopen,
    }) => {
      const bytes = bytesOf(randomContent(300_000, 'resumed'));
      const first = await ingests.begin('sha256', 'upload');
      await write(first, bytes.subarray(0, 100_000));
      await first.flush();
      const later = await reopen();
      const ingest = (await later.ingests.resume('sha256', 'upload')) ?? assert.fail();
      const reader = ingest.reader();
      const grown = ingest.progress.wait(() => ingest.writtenBytes > 100_000);
      await write(ingest, bytes.subarray(100_000));
      await grown;
      const digest = await ingest.finish();
      await later.content.publish(ingest, digest);
      assert.deepEqual(await drain(reader, bytes.length), bytes);
      await assertRight(later.content, digest);
    });

    suite('an ingest that is over cannot be resumed, be it published or aborted, nor one of an unknown name', async ({
      content,
      ingests,
      reopen,
    }) => {
      const bytes = Buffer.from('bytes');
      const start = async (name: string) => {
        const ingest = await ingests.begin('sha256', name);
        await write(ingest, bytes);
        await ingest.flush();
        return ingest;
      };
      const published = await start('published');
      assert.equal(await content.publish(published, await published.finish()), true);
      const superfluous = await start('superfluous');
      assert.equal(await content.publish(superfluous, await superfluous.finish()), false);
      await (await start('aborted')).abort();
      await start('resumed and aborted');
      const later = await reopen();
      await (await later.ingests.resume('sha256', 'resumed and aborted'))?.abort();
      for (const stores of [{ ingests }, later, await reopen()]) {
        for (const name of ['published', 'superfluous', 'aborted', 'resumed and aborted', 'unknown']) {
          assert.equal(await stores.ingests.resume('sha256', name), undefined, name);
        }
      }
    });

    suite('discard removes an ingest of an earlier process, which it does not read, and no other', async ({
      ingests,
      reopen,
    }) => {
      for (const name of ['one', 'two']) {
        const ingest = await ingests.begin('sha256', name);
        await write(ingest, Buffer.from(name));
        await ingest.flush();
      }
      const later = await reopen();
      for (const name of ['one', 'unknown']) await later.ingests.discard(name);
      assert.equal(await later.ingests.resume('sha256', 'one'), undefined);
      const other = (await later.ingests.resume('sha256', 'two')) ?? assert.fail();
      assert.equal(await other.finish(), digestOf(Buffer.from('two')));
      await other.abort();
      // The name is free again.
      const again = await later.ingests.begin('sha256', 'one');
      assert.equal(again.writtenBytes, 0);
      await again.abort();
    });

    suite('keep removes all others of earlier processes, and no content', async ({ ingests, put, reopen }) => {
      const digest = await put(Buffer.from('content'));
      for (const name of ['one', 'two', 'three']) {
        const ingest = await ingests.begin('sha256', name);
        await write(ingest, Buffer.from(name));
        await ingest.flush();
      }
      const unnamed = await ingests.begin('sha256');
      await write(unnamed, Buffer.from('unnamed'));
      const later = await reopen();
      await later.ingests.keep(new Set(['one', 'three', 'unknown']));
      assert.deepEqual([...(await later.ingests.list())].sort(), [
        ['one', 3],
        ['three', 5],
      ]);
      assert.equal(await later.ingests.resume('sha256', 'two'), undefined);
      assert.equal(await later.ingests.resume('sha256', 'unknown'), undefined);
      for (const name of ['one', 'three']) {
        const ingest = (await later.ingests.resume('sha256', name)) ?? assert.fail(name);
        assert.equal(await ingest.finish(), digestOf(Buffer.from(name)));
      }
      assert.equal((await read(later.content, digest)).toString(), 'content');
      const last = await reopen();
      await last.ingests.keep(new Set());
      for (const name of ['one', 'three']) assert.equal(await last.ingests.resume('sha256', name), undefined);
      assert.deepEqual(await namesIn(last.content), [`${digest} 7`]);
      // A name that was forgotten is free again.
      const again = await last.ingests.begin('sha256', 'one');
      assert.equal(again.writtenBytes, 0);
      await again.abort();
    });

    suite('one that is suspended is resumed where it stood, in this process or a later one', async stores => {
      const bytes = bytesOf(randomContent(300_000, 'suspended'));
      const ingest = await stores.ingests.begin('sha256', 'name', { isDurable: false });
      const reader = ingest.reader();
      await write(ingest, bytes.subarray(0, 200_000));
      await ingest.suspend();
      assert.deepEqual(await drain(reader, 200_000), bytes.subarray(0, 200_000));
      for (const { ingests } of [stores, await stores.reopen()]) {
        const resumed = (await ingests.resume('sha256', 'name')) ?? assert.fail();
        assert.equal(resumed.writtenBytes, 200_000);
        await resumed.suspend();
      }
      const { ingests } = await stores.reopen();
      const last = (await ingests.resume('sha256', 'name')) ?? assert.fail();
      await write(last, bytes.subarray(200_000));
      assert.equal(await last.finish(), digestOf(bytes));
      await last.abort();
    });

    suite('bytes may come in any order, by several writers, and are hashed and readable in their own', async ({
      content,
      ingests,
    }) => {
      const bytes = bytesOf(randomContent(5 * MIB + 12_345, 'segments'));
      const order = fc.shuffledSubarray([0, 1, 2, 3, 4, 5], { minLength: 6 });
      await fc.assert(
        fc.asyncProperty(order, fc.array(fc.nat(5), { maxLength: 40 }), async (units, turnsOf) => {
          const ingest = await ingests.begin('sha256');
          const writers = units.map(unit => ({
            at: unit * MIB,
            end: Math.min(bytes.length, (unit + 1) * MIB),
            write: ingest.writer(unit * MIB),
          }));
          const step = async (writer: (typeof writers)[number], size: number) => {
            const end = Math.min(writer.end, writer.at + size);
            await writer.write(Buffer.from(bytes.subarray(writer.at, end)));
            writer.at = end;
          };
          for (const turn of turnsOf) await step(writers[turn] ?? assert.fail(), 100_000);
          await ingest.flush();
          const gaps = new Spans([{ start: 0, end: bytes.length }]);
          for (const { start, end } of [{ start: 0, end: ingest.writtenBytes }, ...ingest.ahead]) {
            gaps.remove({ start, end });
            assert.deepEqual(await drain(ingest.reader(), end, start), bytes.subarray(start, end));
          }
          assert.equal(ingest.storedBytes, bytes.length - gaps.size);
          assert.equal(
            ingest.storedBytes,
            writers.reduce((sum, { at }, i) => sum + at - (units[i] ?? 0) * MIB, 0),
          );
          for (const writer of writers) while (writer.at < writer.end) await step(writer, 300_000);
          const digest = await ingest.finish();
          assert.deepEqual([digest, ingest.writtenBytes, ingest.ahead], [digestOf(bytes), bytes.length, []]);
          await content.publish(ingest, digest);
          assert.deepEqual(await read(content, digest), bytes);
          await content.remove(digest);
        }),
        { numRuns: 15 },
      );
    });

    suite('what several writers have left is resumed with its gaps, in this process or a later one', async stores => {
      const bytes = bytesOf(randomContent(4 * MIB, 'gaps'));
      const lengths = fc.tuple(...[0, 1, 2, 3].map(() => fc.constantFrom(0, 1, 70_000, MIB - 5_000, MIB)));
      let name = 0;
      await fc.assert(
        fc.asyncProperty(lengths, fc.boolean(), async (written, isLater) => {
          name++;
          const ingest = await stores.ingests.begin('sha256', `gaps-${name}`, { isDurable: false });
          const expected = new Spans();
          for (const [i, length] of written.entries()) {
            const [start, end] = [i * MIB, i * MIB + length];
            if (length > 0) await ingest.writer(start)(Buffer.from(bytes.subarray(start, end)));
            expected.add({ start, end });
          }
          await ingest.suspend();
          const { ingests } = isLater ? await stores.reopen() : stores;
          const resumed = (await ingests.resume('sha256', `gaps-${name}`, { isSparse: true })) ?? assert.fail();
          const here = new Spans([{ start: 0, end: resumed.writtenBytes }, ...resumed.ahead]);
          assert.deepEqual(here.list, expected.list);
          assert.equal(resumed.storedBytes, expected.size);
          const missing = new Spans([{ start: 0, end: bytes.length }]);
          for (const span of here.list) missing.remove(span);
          for (const { start, end } of missing.list) {
            await resumed.writer(start)(Buffer.from(bytes.subarray(start, end)));
          }
          assert.equal(await resumed.finish(), digestOf(bytes));
          await resumed.abort();
        }),
        { numRuns: 15 },
      );
    });

    suite('zeros where a gap could be are taken for one, and only there', async ({ ingests }) => {
      const bytes = Buffer.concat([
        Buffer.alloc(MIB - 600, 1),
        Buffer.alloc(600),
        Buffer.alloc(MIB, 2).fill(0, 1_000, 900_000),
        Buffer.alloc(300_000, 3),
      ]);
      const ingest = await ingests.begin('sha256', 'zeros', { isDurable: false });
      await write(ingest, bytes);
      await ingest.suspend();
      const resumed = (await ingests.resume('sha256', 'zeros', { isSparse: true })) ?? assert.fail();
      assert.equal(resumed.writtenBytes, MIB - 600);
      assert.deepEqual(resumed.ahead, [{ start: MIB, end: bytes.length }]);
      await resumed.write(Buffer.alloc(600));
      assert.equal(await resumed.finish(), digestOf(bytes));
      await resumed.abort();
    });

    suite('an ingest that rests at any stage goes on as if it had not', async ({ content, ingests, reopen }) => {
      for (const [round, name] of [undefined, 'upload'].entries()) {
        const bytes = bytesOf(randomContent(300_000, `resting ${round}`));
        const ingest = await ingests.begin('sha256', name);
        ingest.rest();
        write(ingest, bytes.subarray(0, 100_000));
        ingest.rest();
        await ingest.flush();
        ingest.rest();
        const reader = ingest.reader();
        ingest.rest();
        assert.deepEqual(await drain(ingest.reader(), 100_000), bytes.subarray(0, 100_000));
        await write(ingest, bytes.subarray(100_000));
        await ingest.flush();
        ingest.rest();
        assert.equal(await ingest.finish('sha512'), digestOf(bytes, 'sha512'));
        ingest.rest();
        const digest = await ingest.finish('sha256');
        assert.equal(await content.publish(ingest, digest), true);
        assert.deepEqual(await drain(reader, bytes.length), bytes);
        await assertRight((await reopen()).content, digest);
      }
      const aborted = await ingests.begin('sha256', 'aborted');
      aborted.rest();
      await aborted.abort();
      assert.equal(await (await reopen()).ingests.resume('sha256', 'aborted'), undefined);
    });

    suite('after flush all that was handed in can be read back, and more can come', async ({ ingests }) => {
      const bytes = bytesOf(randomContent(3 * MIB, 'flushed'));
      const ingest = await ingests.begin('sha256');
      await ingest.flush();
      assert.equal(ingest.writtenBytes, 0);
      for (const [from, to] of [
        [0, 1],
        [1, 2 * MIB],
        [2 * MIB, 3 * MIB],
      ] as const) {
        // Many at once: a caller of flush() need not have waited before.
        for (let at = from; at < to; at += 100_000) write(ingest, bytes.subarray(at, Math.min(to, at + 100_000)));
        await ingest.flush();
        assert.equal(ingest.writtenBytes, to);
        assert.deepEqual(await drain(ingest.reader(), to, from), bytes.subarray(from, to));
      }
      assert.equal(await ingest.finish(), digestOf(bytes));
      await ingest.flush();
      await ingest.abort();
    });

    suite('finish tells the digest of either algorithm, as often as it is asked, and either can be published', async ({
      content,
      ingests,
    }) => {
      for (const algorithm of ALGORITHMS) {
        const bytes = bytesOf(randomContent(700_000, `begun with ${algorithm}`));
        const ingest = await ingests.begin(algorithm);
        write(ingest, bytes);
        const reader = ingest.reader();
        for (const asked of [...ALGORITHMS, undefined, ...ALGORITHMS]) {
          assert.equal(await ingest.finish(asked), digestOf(bytes, asked ?? algorithm));
        }
        const digest = digestOf(bytes, algorithm === 'sha256' ? 'sha512' : 'sha256');
        assert.equal(await content.publish(ingest, digest), true);
        assert.deepEqual(await read(content, digest), bytes);
        assert.deepEqual(await drain(reader, bytes.length), bytes);
        assert.equal(await content.open(digestOf(bytes, algorithm)), undefined);
        await assertRight(content, digest);
      }
    });

    suite('finish gives the digest of the other algorithm of nothing, and of what was resumed', async ({
      ingests,
      reopen,
    }) => {
      const empty = await ingests.begin('sha256');
      assert.equal(await empty.finish('sha512'), digestOf(Buffer.alloc(0), 'sha512'));
      await empty.abort();
      const named = await ingests.begin('sha256', 'upload');
      await write(named, Buffer.from('before '));
      await named.flush();
      const resumed = (await (await reopen()).ingests.resume('sha256', 'upload')) ?? assert.fail();
      await write(resumed, Buffer.from('after'));
      assert.equal(await resumed.finish('sha512'), digestOf(Buffer.from('before after'), 'sha512'));
      assert.equal(await resumed.finish('sha256'), digestOf(Buffer.from('before after')));
      await resumed.abort();
    });

    suite('a writer that is faster than the store is told to wait, and then to go on', async ({ ingests }) => {
      const ingest = await ingests.begin('sha256');
      const chunk = Buffer.alloc(64 * 1024, 1);
      let handedIn = 0;
      const next = () => {
        handedIn += chunk.length;
        assert.ok(handedIn - ingest.writtenBytes < 16 * MIB, 'the writer is not told to wait');
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
  });
}
