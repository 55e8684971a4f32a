// What every implementation of Content owes, as tests: the contract of src/content/content.ts, sentence by
// sentence. An implementation hands in how one is made, how the same content is opened again as after a
// restart, and how its bytes are changed behind its back.
import assert from 'node:assert/strict';
import { readSync } from 'node:fs';
import { describe, type TestContext, test } from 'node:test';
import fc from 'fast-check';
import type { Content } from '../../src/content/content.ts';
import { ALGORITHMS, type Algorithm, type Digest, digestOf } from '../../src/oci/digest.ts';
import { bytesOf, randomContent } from '../support/images.ts';
import { drain, namesIn, put as putInto, read, type Stores, write } from '../support/stores.ts';

export interface StoresUnderTest extends Stores {
  /** The same content and ingests, as a process that is started later finds them. */
  reopen(): Promise<Stores>;
  /** Replaces the bytes under the digest by others, past the implementation. */
  overwrite(digest: Digest, bytes: Uint8Array): Promise<void>;
}

/** What a test of a suite is given. */
export interface Subject extends StoresUnderTest {
  put(bytes: Uint8Array, algorithm?: Algorithm): Promise<Digest>;
}

/** Runs each test on stores of its own. */
export function suiteOf(make: (t: TestContext) => Promise<StoresUnderTest>) {
  return (what: string, run: (subject: Subject) => Promise<void>) =>
    test(what, async t => {
      const stores = await make(t);
      await run({ ...stores, put: (bytes, algorithm) => putInto(stores, bytes, algorithm) });
    });
}

const MIB = 1024 * 1024;

export function contentSuite(name: string, make: (t: TestContext) => Promise<StoresUnderTest>): void {
  describe(`${name} keeps the contract of Content:`, () => {
    const suite = suiteOf(make);

    suite('what is not here is undefined', async ({ content }) => {
      const { digest } = randomContent(10);
      assert.equal(await content.open(digest), undefined);
      assert.equal(await content.sizeOf(digest), undefined);
      assert.deepEqual(await namesIn(content), []);
      await content.remove(digest);
    });

    suite('a file that is lent has the bytes at their positions until it is released', async ({ content, ingests }) => {
      const bytes = bytesOf(randomContent(300_000, 'lent'));
      const ingest = await ingests.begin('sha256');
      await write(ingest, bytes.subarray(0, 100_000));
      await ingest.flush();
      const reader = ingest.reader();
      const early = await reader.lend?.(10);
      await write(ingest, bytes.subarray(100_000));
      const digest = await ingest.finish();
      const late = await reader.lend?.(100_000);
      reader.close();
      await content.publish(ingest, digest);
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
      suite(`after publish content is here whole, under its ${algorithm}`, async ({ content, put, reopen }) => {
        const bytes = bytesOf(randomContent(2.5 * MIB, 'whole'));
        const digest = await put(bytes, algorithm);
        assert.equal(digest, digestOf(bytes, algorithm));
        for (const store of [content, (await reopen()).content]) {
          assert.equal(await store.sizeOf(digest), bytes.length);
          assert.deepEqual(await read(store, digest), bytes);
          assert.deepEqual(await namesIn(store), [`${digest} ${bytes.length}`]);
        }
      });
    }

    suite('content that is not published is not visible, however far it is', async ({ content, ingests, reopen }) => {
      const bytes = bytesOf(randomContent(100_000, 'hidden'));
      const digest = digestOf(bytes);
      const assertHidden = async (store: Content) => {
        assert.equal(await store.open(digest), undefined);
        assert.equal(await store.sizeOf(digest), undefined);
        assert.deepEqual(await namesIn(store), []);
      };
      const ingest = await ingests.begin('sha256');
      await assertHidden(content);
      await write(ingest, bytes);
      await assertHidden(content);
      assert.equal(await ingest.finish(), digest);
      await assertHidden(content);
      await assertHidden((await reopen()).content);
      await ingest.abort();
    });

    suite('empty content is content', async ({ content, ingests }) => {
      const ingest = await ingests.begin('sha256');
      const digest = await ingest.finish();
      assert.equal(digest, digestOf(Buffer.alloc(0)));
      await content.publish(ingest, digest);
      const source = (await content.open(digest)) ?? assert.fail();
      assert.equal(source.sizeBytes, 0);
      assert.equal(await source.read(Buffer.alloc(8), 0), 0);
      assert.equal(await source.verify(), true);
      source.close();
    });

    suite('remove takes content away, and a reader of it goes on', async ({ content, put }) => {
      const bytes = bytesOf(randomContent(300_000, 'removed'));
      const digest = await put(bytes);
      const source = (await content.open(digest)) ?? assert.fail();
      await content.remove(digest);
      assert.equal(await content.open(digest), undefined);
      assert.equal(await content.sizeOf(digest), undefined);
      assert.deepEqual(await namesIn(content), []);
      assert.deepEqual(await drain(source, bytes.length), bytes);
      await content.remove(digest);
    });

    suite('what was removed can come again', async ({ content, put }) => {
      const bytes = bytesOf(randomContent(1000, 'again'));
      const digest = await put(bytes);
      await content.remove(digest);
      await put(bytes);
      assert.deepEqual(await read(content, digest), bytes);
    });

    suite('the same content may come in several times at once', async ({ content, put }) => {
      const bytes = bytesOf(randomContent(200_000, 'twice'));
      const [digest = assert.fail(), ...others] = await Promise.all([1, 2, 3].map(() => put(bytes)));
      assert.deepEqual(others, [digest, digest]);
      assert.deepEqual(await namesIn(content), [`${digest} ${bytes.length}`]);
      assert.deepEqual(await read(content, digest), bytes);
    });

    suite('a named ingest is no content before it is published, also after a restart', async ({
      content,
      ingests,
      reopen,
    }) => {
      const bytes = Buffer.from('hidden');
      const ingest = await ingests.begin('sha256', digestOf(bytes).slice('sha256:'.length));
      await write(ingest, bytes);
      const digest = await ingest.finish();
      for (const store of [content, (await reopen()).content]) {
        assert.equal(await store.open(digest), undefined);
        assert.deepEqual(await namesIn(store), []);
      }
      await ingest.abort();
    });

    suite('publish says whether the content is new; what was here already stays as it is', async ({
      content,
      ingests,
      reopen,
    }) => {
      const bytes = bytesOf(randomContent(200_000, 'new or not'));
      const publish = async (stores: Stores, name?: string) => {
        const ingest = await stores.ingests.begin('sha256', name);
        await write(ingest, bytes);
        const reader = ingest.reader();
        const isNew = await stores.content.publish(ingest, await ingest.finish());
        assert.deepEqual(await drain(reader, bytes.length), bytes, 'a reader of the ingest goes on');
        return isNew;
      };
      const digest = digestOf(bytes);
      assert.equal(await publish({ content, ingests }), true);
      const source = (await content.open(digest)) ?? assert.fail();
      assert.equal(await publish({ content, ingests }), false);
      assert.equal(await publish({ content, ingests }, 'named'), false);
      const later = await reopen();
      assert.equal(await publish(later), false);
      assert.deepEqual(await drain(source, bytes.length), bytes);
      assert.deepEqual(await namesIn(later.content), [`${digest} ${bytes.length}`]);
      await later.content.remove(digest);
      assert.equal(await publish(later, 'named'), true);
      assert.deepEqual(await read(later.content, digest), bytes);
    });

    suite('of several ingests of the same content published at once exactly one is new', async ({
      content,
      ingests,
    }) => {
      for (let round = 0; round < 5; round++) {
        const bytes = bytesOf(randomContent(50_000, `at once ${round}`));
        const digest = digestOf(bytes);
        const all = await Promise.all(
          Array.from({ length: 6 }, (_, i) => ingests.begin('sha256', i % 2 ? `${round}-${i}` : undefined)),
        );
        for (const ingest of all) await write(ingest, bytes);
        for (const ingest of all) assert.equal(await ingest.finish(), digest);
        const answers = await Promise.all(all.map(ingest => content.publish(ingest, digest)));
        assert.equal(answers.filter(isNew => isNew).length, 1, answers.join());
        assert.deepEqual(await read(content, digest), bytes);
        await assertRight(content, digest);
      }
    });

    suite('different content published at once is all new', async ({ content, ingests }) => {
      const answers = await Promise.all(
        ALGORITHMS.flatMap(algorithm =>
          ['a', 'b', 'c'].map(async text => {
            const ingest = await ingests.begin(algorithm);
            await write(ingest, Buffer.from(text));
            return content.publish(ingest, await ingest.finish());
          }),
        ),
      );
      assert.deepEqual(answers, Array(6).fill(true));
    });

    suite('list names all that is here', async ({ content, put }) => {
      const expected: string[] = [];
      for (let i = 0; i < 20; i++) {
        const bytes = Buffer.from(`content ${i}`);
        expected.push(`${await put(bytes, i % 2 ? 'sha512' : 'sha256')} ${bytes.length}`);
      }
      assert.deepEqual(await namesIn(content), expected.sort());
    });

    suite('a read fills the front of the buffer from any position, and gives 0 at the end alone', async ({
      content,
      put,
    }) => {
      const bytes = bytesOf(randomContent(5000, 'positions'));
      const source = (await content.open(await put(bytes))) ?? assert.fail();
      await fc.assert(
        fc.asyncProperty(fc.nat({ max: 5000 }), fc.integer({ min: 1, max: 6000 }), async (position, length) => {
          const into = Buffer.alloc(length);
          const count = await source.read(into, position);
          assert.equal(count > 0, position < 5000);
          assert.deepEqual(into.subarray(0, count), bytes.subarray(position, position + count));
        }),
      );
      source.close();
    });

    suite('what is cut short is found out', async ({ put, reopen, overwrite }) => {
      const bytes = bytesOf(randomContent(100_000, 'short'));
      const digest = await put(bytes);
      await overwrite(digest, bytes.subarray(0, 99_999));
      assert.equal(await verdictOn((await reopen()).content, digest), false);
    });

    suite('what was changed behind its back is found out, and what was not is not', async ({
      put,
      reopen,
      overwrite,
    }) => {
      const bytes = bytesOf(randomContent(MIB, 'changed'));
      const digest = await put(bytes);
      const other = await put(bytesOf(randomContent(MIB, 'other')));
      const wrong = Buffer.from(bytes);
      wrong.writeUInt8(wrong.readUInt8(MIB - 1) ^ 1, MIB - 1);
      await overwrite(digest, wrong);
      const later = await reopen();
      assert.equal(await verdictOn(later.content, digest), false);
      assert.equal(await verdictOn(later.content, other), true);
    });

    suite('bytes that are in memory are right, whatever becomes of what they were read from', async ({
      content,
      put,
      overwrite,
    }) => {
      const bytes = bytesOf(randomContent(10_000, 'in memory'));
      const digest = await put(bytes);
      // Not every implementation keeps any.
      const kept = await content.open(digest);
      kept?.close();
      await overwrite(digest, Buffer.alloc(bytes.length));
      for (const source of [kept, await content.open(digest)]) {
        if (source?.bytes === undefined) continue;
        assert.equal(source.verify(), true);
        assert.equal(source.sizeBytes, bytes.length);
        assert.deepEqual(source.bytes, bytes);
        assert.deepEqual(await drain(source, bytes.length), bytes);
      }
    });

    suite('what is removed while it is being opened is not found again', async ({ content, put }) => {
      const digest = await put(bytesOf(randomContent(10_000, 'removed')));
      const opening = content.open(digest);
      const removing = content.remove(digest);
      (await opening)?.close();
      await removing;
      assert.equal(await content.open(digest), undefined);
    });

    suite('it can be checked, and knows how much more it can take', async ({ content }) => {
      await content.check();
      const { bytes, files } = await content.free();
      assert.ok(bytes > 0 && files > 0);
    });
  });
}

/** It is here, and found to be right. */
export async function assertRight(content: Content, digest: Digest): Promise<void> {
  assert.equal(await verdictOn(content, digest), true);
}

export async function verdictOn(content: Content, digest: Digest): Promise<boolean> {
  const source = (await content.open(digest)) ?? assert.fail();
  const verdict = source.verify();
  source.close();
  return verdict;
}
