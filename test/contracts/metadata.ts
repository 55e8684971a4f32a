// What every implementation of Metadata owes, as tests: the contract of src/metadata/metadata.ts, verb by
// verb. An implementation hands in how an empty one is made on a clock of the test's, and how the same
// data is opened anew.
import assert from 'node:assert/strict';
import { describe, type TestContext, test } from 'node:test';
import fc from 'fast-check';
import type { ContentRow, ManifestRow, Metadata, UploadRow } from '../../src/metadata/metadata.ts';
import { digestOf } from '../../src/oci/digest.ts';
import type { Repository } from '../../src/oci/reference.ts';
import { TestClock } from '../support/clock.ts';

export interface MetadataUnderTest {
  readonly metadata: Metadata;
  /** Closes it, and opens the same data again. */
  reopen(): Promise<Metadata>;
}

const APP: Repository = { upstream: 'ghcr.io', name: 'owner/app' };
/** The same name at another upstream, another name at the same one, and names that only together are the same. */
const OTHERS: readonly Repository[] = [
  { upstream: 'quay.io', name: 'owner/app' },
  { upstream: 'ghcr.io', name: 'owner/app2' },
  { upstream: 'ghcr.io', name: 'owner' },
  { upstream: 'ghcr.io/owner', name: 'app' },
];
const [OTHER = assert.fail()] = OTHERS;
const TYPE = 'application/vnd.oci.image.manifest.v1+json';
const UPLOAD: UploadRow = {
  id: 'upload',
  repository: APP,
  algorithm: 'sha256',
  startedAtMs: 1_700_000_000_000,
};

export function row(seed: string, sizeBytes = 100): ContentRow {
  return { digest: digestOf(Buffer.from(seed)), sizeBytes };
}

function manifestRow(seed: string, sizeBytes = 100, mediaType = TYPE): ManifestRow {
  return { ...row(seed, sizeBytes), mediaType };
}

export function metadataSuite(
  name: string,
  make: (t: TestContext, clock: TestClock) => Promise<MetadataUnderTest>,
): void {
  describe(`${name} keeps the contract of Metadata:`, () => {
    const suite = (
      what: string,
      run: (metadata: Metadata, clock: TestClock, reopen: () => Promise<Metadata>) => Promise<void>,
    ) =>
      test(what, async t => {
        const clock = new TestClock();
        const { metadata, reopen } = await make(t, clock);
        await run(metadata, clock, reopen);
      });

    suite('an empty one knows nothing, and nothing is wrong with that', async metadata => {
      const { digest } = row('a');
      assert.equal(await metadata.findBlob(APP, digest), undefined);
      assert.equal(await metadata.findManifest(APP, digest), undefined);
      assert.equal(await metadata.findTag(APP, 'latest'), undefined);
      assert.deepEqual(await metadata.pulledTags(APP), []);
      assert.equal(await metadata.findTagList(APP), undefined);
      assert.equal(await metadata.findReferrers(APP, digest), undefined);
      assert.equal(await metadata.findHolder(APP.upstream, digest), undefined);
      assert.deepEqual(await metadata.repositories(), []);
      assert.deepEqual(await metadata.uploads(), []);
      assert.deepEqual(await metadata.leastRecentlyUsed(10, []), []);
      assert.equal(await metadata.totalBytes(), 0);
      await metadata.confirmTag(APP, 'latest');
      await metadata.forgetTag(APP, 'latest');
      await metadata.drop(digest);
      metadata.touch(digest);
      await metadata.check();
      assert.equal(await metadata.findTag(APP, 'latest'), undefined);
      assert.deepEqual(await metadata.leastRecentlyUsed(10, []), []);
    });

    suite('a blob is served by the repositories that link it, and by no other', async metadata => {
      const blob = row('blob', 7);
      await metadata.linkBlob([APP], blob);
      assertIs(await metadata.findBlob(APP, blob.digest), blob);
      for (const other of OTHERS) {
        assert.equal(await metadata.findBlob(other, blob.digest), undefined);
        assert.equal(await metadata.findManifest(other, blob.digest), undefined);
      }
      await metadata.linkBlob(OTHERS, blob);
      for (const other of OTHERS) assertIs(await metadata.findBlob(other, blob.digest), blob);
      assert.equal(await metadata.totalBytes(), 7, 'content counts once however often it is linked');
    });

    suite('a manifest is served by the repository that links it, and by no other', async metadata => {
      const manifest = manifestRow('manifest', 9);
      await metadata.linkManifest(APP, manifest);
      assert.deepEqual({ ...(await metadata.findManifest(APP, manifest.digest)) }, manifest);
      for (const other of OTHERS)
        assert.equal(await metadata.findManifest(other, manifest.digest), undefined);
      assert.deepEqual(await metadata.pulledTags(APP), []);
    });

    suite('a link as a blob is none as a manifest, and the same bytes can have both', async metadata => {
      const manifest = manifestRow('both');
      await metadata.linkBlob([APP], manifest);
      assert.equal(await metadata.findManifest(APP, manifest.digest), undefined);
      await metadata.linkManifest(OTHER, manifest);
      assert.equal(await metadata.findBlob(OTHER, manifest.digest), undefined);
      await metadata.linkManifest(APP, manifest);
      assertIs(await metadata.findBlob(APP, manifest.digest), manifest);
      assert.deepEqual({ ...(await metadata.findManifest(APP, manifest.digest)) }, manifest);
      assert.equal(await metadata.totalBytes(), manifest.sizeBytes);
    });

    suite('linking for no repository records the content all the same', async metadata => {
      await metadata.linkBlob([], row('alone', 5));
      assert.equal(await metadata.totalBytes(), 5);
    });

    suite('linking again is no error, and what was said last holds', async metadata => {
      const first = manifestRow('again', 10, 'application/vnd.docker.distribution.manifest.v2+json');
      const second = manifestRow('again', 11);
      await metadata.linkManifest(APP, first);
      await metadata.linkManifest(APP, second);
      assert.deepEqual({ ...(await metadata.findManifest(APP, first.digest)) }, second);
      await metadata.linkBlob([APP, APP], second);
      assert.equal(await metadata.totalBytes(), 11);
    });

    suite('a tag points to the manifest it was linked with last, confirmed then', async (metadata, clock) => {
      const [one, two] = [manifestRow('one'), manifestRow('two')];
      await metadata.linkManifest(APP, one, ['latest']);
      const firstMs = clock.now();
      clock.advance(1000);
      assert.deepEqual(
        { ...(await metadata.findTag(APP, 'latest')) },
        { digest: one.digest, checkedAtMs: firstMs },
      );
      await metadata.linkManifest(APP, two, ['latest']);
      assert.deepEqual(
        { ...(await metadata.findTag(APP, 'latest')) },
        { digest: two.digest, checkedAtMs: firstMs + 1000 },
      );
      // Both stay: a tag that moves takes nothing away.
      assert.notEqual(await metadata.findManifest(APP, one.digest), undefined);
      await metadata.linkManifest(APP, one);
      assert.equal((await metadata.findTag(APP, 'latest'))?.digest, two.digest, 'no tag named, none moved');
    });

    suite('confirming changes the time of one tag and nothing else', async (metadata, clock) => {
      const manifest = manifestRow('tagged');
      await metadata.linkManifest(APP, manifest, ['a']);
      await metadata.linkManifest(APP, manifest, ['b']);
      await metadata.linkManifest(OTHER, manifest, ['a']);
      const linkedMs = clock.now();
      clock.advance(5000);
      await metadata.confirmTag(APP, 'a');
      assert.deepEqual(
        { ...(await metadata.findTag(APP, 'a')) },
        { digest: manifest.digest, checkedAtMs: linkedMs + 5000 },
      );
      assert.equal((await metadata.findTag(APP, 'b'))?.checkedAtMs, linkedMs);
      assert.equal((await metadata.findTag(OTHER, 'a'))?.checkedAtMs, linkedMs);
    });

    suite('forgetting takes one tag away, and no content', async metadata => {
      const manifest = manifestRow('tagged');
      await metadata.linkManifest(APP, manifest, ['a']);
      await metadata.linkManifest(APP, manifest, ['b']);
      await metadata.linkManifest(OTHER, manifest, ['a']);
      await metadata.forgetTag(APP, 'a');
      assert.equal(await metadata.findTag(APP, 'a'), undefined);
      assert.equal((await metadata.findTag(APP, 'b'))?.digest, manifest.digest);
      assert.equal((await metadata.findTag(OTHER, 'a'))?.digest, manifest.digest);
      assert.notEqual(await metadata.findManifest(APP, manifest.digest), undefined);
    });

    suite('tags that were pulled come in the order of their bytes, each once', async metadata => {
      const tags = ['b', 'B', 'a', '_', '10', '9', 'a.b', 'a-b', 'a_b', 'ab', 'Z'];
      for (const tag of [...tags, ...tags]) await metadata.linkManifest(APP, manifestRow(tag), [tag]);
      await metadata.linkManifest(OTHER, manifestRow('x'), ['elsewhere']);
      const expected = tags
        .map(tag => Buffer.from(tag))
        .sort(Buffer.compare)
        .map(String);
      assert.deepEqual(await metadata.pulledTags(APP), expected);
    });

    suite('a list of tags comes back as it was saved last, for its repository alone', async (metadata, clock) => {
      await metadata.saveTagList(APP, ['a', 'b']);
      clock.advance(10);
      const tags = ['', '"', 'a', '\u{1f600}', "'; DROP TABLE tags"];
      await metadata.saveTagList(APP, tags);
      assert.deepEqual(await metadata.findTagList(APP), { tags, checkedAtMs: clock.now() });
      for (const other of OTHERS) assert.equal(await metadata.findTagList(other), undefined);
      await metadata.saveTagList(APP, []);
      assert.deepEqual((await metadata.findTagList(APP))?.tags, []);
      assert.deepEqual(await metadata.pulledTags(APP), [], 'tags that were heard of are not pulled');
      const many = Array.from({ length: 50_000 }, (_, i) => `tag-${i}`);
      await metadata.saveTagList(APP, many);
      assert.deepEqual((await metadata.findTagList(APP))?.tags, many);
    });

    suite('dropping content takes all links to it away, and nothing else', async metadata => {
      const manifest = manifestRow('dropped', 3);
      const kept = row('kept', 4);
      await metadata.linkManifest(APP, manifest, ['latest']);
      await metadata.linkBlob([APP, OTHER], manifest);
      await metadata.linkBlob([APP], kept);
      await metadata.drop(manifest.digest);
      assert.equal(await metadata.findManifest(APP, manifest.digest), undefined);
      for (const repository of [APP, OTHER])
        assert.equal(await metadata.findBlob(repository, manifest.digest), undefined);
      assertIs(await metadata.findBlob(APP, kept.digest), kept);
      assert.equal(await metadata.totalBytes(), 4);
      assert.equal(
        (await metadata.findTag(APP, 'latest'))?.digest,
        manifest.digest,
        'the tag is still known',
      );
      // What comes again comes without the old links.
      await metadata.linkBlob([OTHER], manifest);
      assert.equal(await metadata.findBlob(APP, manifest.digest), undefined);
    });

    suite('a manifest can be linked under several tags in one go, all confirmed then', async (metadata, clock, reopen) => {
      const [one, two] = [manifestRow('one'), manifestRow('two')];
      await metadata.linkManifest(APP, one, ['kept', 'moved']);
      await metadata.linkManifest(OTHER, one, ['moved']);
      const firstMs = clock.now();
      clock.advance(1000);
      await metadata.linkManifest(APP, two, ['moved', 'new', 'newer', 'new']);
      const tags = async (store: Metadata, repository: Repository) =>
        Promise.all(
          (await store.pulledTags(repository)).map(async tag => ({
            tag,
            ...(await store.findTag(repository, tag)),
          })),
        );
      for (const opened of [async () => metadata, reopen]) {
        const store = await opened();
        assert.deepEqual(await tags(store, APP), [
          { tag: 'kept', digest: one.digest, checkedAtMs: firstMs },
          { tag: 'moved', digest: two.digest, checkedAtMs: firstMs + 1000 },
          { tag: 'new', digest: two.digest, checkedAtMs: firstMs + 1000 },
          { tag: 'newer', digest: two.digest, checkedAtMs: firstMs + 1000 },
        ]);
        assert.deepEqual(await tags(store, OTHER), [
          { tag: 'moved', digest: one.digest, checkedAtMs: firstMs },
        ]);
      }
    });

    suite('unlinking a blob takes the right from one repository, and tells whether anybody has one still', async metadata => {
      const blob = row('blob', 7);
      await metadata.linkBlob([APP, OTHER], blob);
      assert.equal(await metadata.unlinkBlob(APP, blob.digest), true);
      assert.equal(await metadata.findBlob(APP, blob.digest), undefined);
      assertIs(await metadata.findBlob(OTHER, blob.digest), blob);
      assert.equal(await metadata.unlinkBlob(APP, blob.digest), true, 'there is nothing left to unlink');
      assert.equal(await metadata.unlinkBlob(OTHER, blob.digest), false);
      assert.equal(await metadata.findBlob(OTHER, blob.digest), undefined);
      // Whether it goes is for who was told so.
      assert.equal(await metadata.totalBytes(), 7);
      assert.deepEqual(plain(await metadata.leastRecentlyUsed(10, [])), [blob]);
      await metadata.linkBlob([APP], blob);
      assertIs(await metadata.findBlob(APP, blob.digest), blob);
    });

    suite('unlinking a manifest takes the tags of its repository along that point to it, and nothing else', async metadata => {
      const [manifest, another] = [manifestRow('manifest', 9), manifestRow('another')];
      for (const repository of [APP, ...OTHERS]) {
        await metadata.linkManifest(repository, manifest, ['a', 'b']);
        await metadata.linkManifest(repository, another, ['c']);
      }
      for (const [i, repository] of [APP, ...OTHERS].entries()) {
        const isLinked = await metadata.unlinkManifest(repository, manifest.digest);
        assert.equal(isLinked, i < OTHERS.length);
        assert.equal(await metadata.findManifest(repository, manifest.digest), undefined);
        assert.deepEqual(await metadata.pulledTags(repository), ['c']);
        assert.deepEqual({ ...(await metadata.findManifest(repository, another.digest)) }, another);
        for (const other of OTHERS.slice(i)) {
          assert.deepEqual({ ...(await metadata.findManifest(other, manifest.digest)) }, manifest);
          assert.deepEqual(await metadata.pulledTags(other), ['a', 'b', 'c']);
        }
      }
      assert.equal(await metadata.totalBytes(), 109);
      await metadata.linkManifest(APP, manifest);
      assert.deepEqual(await metadata.pulledTags(APP), ['c'], 'a tag that went does not come back');
    });

    suite('unlinking as a blob leaves the link as a manifest and its tags, and the other way round', async metadata => {
      const both = manifestRow('both');
      const link = async () => {
        await metadata.linkBlob([APP], both);
        await metadata.linkManifest(APP, both, ['tag']);
      };
      await link();
      assert.equal(await metadata.unlinkBlob(APP, both.digest), true);
      assert.equal(await metadata.findBlob(APP, both.digest), undefined);
      assert.deepEqual({ ...(await metadata.findManifest(APP, both.digest)) }, both);
      assert.equal((await metadata.findTag(APP, 'tag'))?.digest, both.digest);
      await link();
      assert.equal(await metadata.unlinkManifest(APP, both.digest), true);
      assertIs(await metadata.findBlob(APP, both.digest), both);
      assert.equal(await metadata.findManifest(APP, both.digest), undefined);
      assert.equal(await metadata.findTag(APP, 'tag'), undefined);
      assert.equal(await metadata.unlinkManifest(APP, both.digest), true);
      assert.equal(await metadata.unlinkBlob(APP, both.digest), false);
    });

    suite('unlinking what is not known is no error, and nobody has a right to it', async metadata => {
      const { digest } = row('unknown');
      assert.equal(await metadata.unlinkBlob(APP, digest), false);
      assert.equal(await metadata.unlinkManifest(APP, digest), false);
      await metadata.linkBlob([], row('unknown'));
      assert.equal(await metadata.unlinkBlob(APP, digest), false);
      assert.deepEqual(await metadata.repositories(), []);
      // A tag may point to what was dropped since.
      const manifest = manifestRow('dropped');
      await metadata.linkManifest(APP, manifest, ['tag']);
      await metadata.drop(manifest.digest);
      assert.equal(await metadata.unlinkManifest(APP, manifest.digest), false);
      assert.equal(await metadata.findTag(APP, 'tag'), undefined);
    });

    suite('content is recorded until it is dropped, whoever may serve it', async metadata => {
      const { digest } = row('blob');
      assert.equal(await metadata.isRecorded(digest), false);
      await metadata.linkBlob([APP], row('blob'));
      assert.equal(await metadata.isRecorded(digest), true);
      await metadata.unlinkBlob(APP, digest);
      assert.equal(await metadata.isRecorded(digest), true);
      await metadata.drop(digest);
      assert.equal(await metadata.isRecorded(digest), false);
    });

    suite('a holder is a repository of that upstream that may serve it as a blob', async metadata => {
      const blob = manifestRow('blob');
      assert.equal(await metadata.findHolder('ghcr.io', blob.digest), undefined);
      await metadata.linkBlob([{ upstream: 'quay.io', name: 'owner/app' }], blob);
      await metadata.linkManifest(APP, blob, ['tag']);
      await metadata.linkBlob([APP], row('other'));
      assert.equal(await metadata.findHolder('ghcr.io', blob.digest), undefined);
      const holders = [APP, { upstream: 'ghcr.io', name: 'owner' }];
      await metadata.linkBlob(holders, blob);
      const holder = (await metadata.findHolder('ghcr.io', blob.digest)) ?? assert.fail();
      assert.ok(holders.some(({ upstream, name }) => upstream === holder.upstream && name === holder.name));
      await metadata.unlinkBlob(holder, blob.digest);
      const rest = holders.filter(({ name }) => name !== holder.name);
      assert.deepEqual([{ ...(await metadata.findHolder('ghcr.io', blob.digest)) }], rest);
      await metadata.drop(blob.digest);
      for (const upstream of ['ghcr.io', 'quay.io']) {
        assert.equal(await metadata.findHolder(upstream, blob.digest), undefined);
      }
    });

    suite('repositories are those with a link or a tag, in order of upstream and name', async metadata => {
      const names = ['b/a', 'a', 'a/b', 'a-b', 'a.b', 'a/a', 'a_b', 'a0'];
      const found = async () =>
        (await metadata.repositories()).map(({ upstream, name }) => `${upstream} ${name}`);
      assert.deepEqual(await found(), []);
      for (const upstream of ['quay.io', 'ghcr.io']) {
        for (const name of names) await metadata.linkBlob([{ upstream, name }], row('blob'));
      }
      const expected = ['ghcr.io', 'quay.io'].flatMap(upstream =>
        names
          .map(name => Buffer.from(name))
          .sort(Buffer.compare)
          .map(name => `${upstream} ${name}`),
      );
      assert.deepEqual(await found(), expected);
      await metadata.drop(row('blob').digest);
      assert.deepEqual(await found(), []);

      // What is only heard of is none of ours, and each counts once.
      await metadata.saveTagList({ upstream: 'ghcr.io', name: 'listed' }, ['tag']);
      await metadata.saveReferrers({ upstream: 'ghcr.io', name: 'referred' }, row('subject').digest, []);
      await metadata.putUpload({ ...UPLOAD, repository: { upstream: 'ghcr.io', name: 'pushed' } });
      const manifest = manifestRow('manifest');
      await metadata.linkManifest(APP, manifest, ['a', 'b']);
      await metadata.linkBlob([APP], row('blob'));
      assert.deepEqual(await found(), ['ghcr.io owner/app']);
      // A tag is enough, and the last one that goes is the end of it.
      await metadata.unlinkBlob(APP, row('blob').digest);
      await metadata.drop(manifest.digest);
      assert.deepEqual(await found(), ['ghcr.io owner/app']);
      await metadata.forgetTag(APP, 'a');
      assert.deepEqual(await found(), ['ghcr.io owner/app']);
      await metadata.forgetTag(APP, 'b');
      assert.deepEqual(await found(), []);
    });

    suite('referrers come back as they were saved last, for their subject and repository alone', async (metadata, clock, reopen) => {
      const [subject, other] = [row('subject').digest, row('other').digest];
      assert.equal(await metadata.findReferrers(APP, subject), undefined);
      await metadata.saveReferrers(APP, subject, [{ digest: 'first' }]);
      clock.advance(10);
      const descriptors = [
        {
          mediaType: 'a',
          digest: 'b',
          size: 2 ** 50,
          annotations: { "'": '"\u{1f600}\u0000', __proto: 'c' },
        },
        JSON.parse('{"__proto__":{"polluted":true}}'),
        ...[null, false, 0, '', [], {}, [[[]]], "'); DROP TABLE referrers; --"],
      ];
      await metadata.saveReferrers(APP, subject, descriptors);
      const savedMs = clock.now();
      clock.advance(10);
      await metadata.saveReferrers(APP, other, []);
      for (const opened of [async () => metadata, reopen]) {
        const store = await opened();
        assert.deepEqual(await store.findReferrers(APP, subject), { descriptors, checkedAtMs: savedMs });
        assert.deepEqual(await store.findReferrers(APP, other), {
          descriptors: [],
          checkedAtMs: savedMs + 10,
        });
        for (const repository of OTHERS) {
          assert.equal(await store.findReferrers(repository, subject), undefined);
        }
      }
    });

    suite('referrers are whatever JSON an upstream gave', async metadata => {
      const { digest } = row('subject');
      await fc.assert(
        fc.asyncProperty(fc.array(fc.jsonValue()), async descriptors => {
          await metadata.saveReferrers(APP, digest, descriptors);
          const saved = JSON.parse(JSON.stringify(descriptors));
          assert.deepEqual((await metadata.findReferrers(APP, digest))?.descriptors, saved);
        }),
        { numRuns: 50 },
      );
    });

    suite('uploads that are open are listed as they were put, until they are dropped', async (metadata, clock, reopen) => {
      assert.deepEqual(await metadata.uploads(), []);
      const uploads: UploadRow[] = [
        { ...UPLOAD, id: 'one' },
        { ...UPLOAD, id: 'two', algorithm: 'sha512', startedAtMs: clock.now() + 1 },
        ...OTHERS.map((repository, i) => ({ ...UPLOAD, id: `in another ${i}`, repository })),
      ];
      for (const upload of uploads) await metadata.putUpload(upload);
      const listed = async (store: Metadata) =>
        (await store.uploads()).toSorted((a, b) => (a.id < b.id ? -1 : 1));
      const expected = uploads.toSorted((a, b) => (a.id < b.id ? -1 : 1));
      assert.deepEqual(await listed(metadata), expected);
      const later = await reopen();
      assert.deepEqual(await listed(later), expected);
      await later.dropUpload('one');
      await later.dropUpload('one');
      await later.dropUpload("' OR 1=1 --");
      assert.deepEqual(
        await listed(later),
        expected.filter(({ id }) => id !== 'one'),
      );
      for (const { id } of uploads) await later.dropUpload(id);
      assert.deepEqual(await later.uploads(), []);
    });

    suite('an upload that is put again is what was said last', async metadata => {
      await metadata.putUpload(UPLOAD);
      const changed = { ...UPLOAD, repository: OTHER, algorithm: 'sha512', startedAtMs: 7 } as const;
      await metadata.putUpload(changed);
      assert.deepEqual(await metadata.uploads(), [changed]);
    });

    suite('sync can be asked for at any time, and takes nothing away', async (metadata, _, reopen) => {
      await metadata.sync();
      await metadata.linkBlob([APP], row('blob'));
      await Promise.all([metadata.sync(), metadata.linkBlob([OTHER], row('blob')), metadata.sync()]);
      const later = await reopen();
      await later.sync();
      for (const repository of [APP, OTHER]) {
        assertIs(await later.findBlob(repository, row('blob').digest), row('blob'));
      }
    });

    suite('leastRecentlyUsed is what was pulled longest ago, oldest first, and no more than asked for', async (metadata, clock) => {
      const rows = [row('0', 1), row('1', 2), row('2', 3), row('3', 4)] as const;
      for (const content of rows) {
        clock.advance(1000);
        await metadata.linkBlob([APP], content);
      }
      assert.deepEqual(plain(await metadata.leastRecentlyUsed(10, [])), [...rows]);
      assert.deepEqual(plain(await metadata.leastRecentlyUsed(2, [])), rows.slice(0, 2));
      assert.deepEqual(await metadata.leastRecentlyUsed(0, []), []);
      clock.advance(1000);
      metadata.touch(rows[0].digest);
      assert.deepEqual(plain(await metadata.leastRecentlyUsed(10, [])), [rows[1], rows[2], rows[3], rows[0]]);
      clock.advance(1000);
      for (const i of [1, 3, 1] as const) metadata.touch(rows[i].digest);
      clock.advance(1000);
      metadata.touch(rows[1].digest);
      assert.deepEqual(plain(await metadata.leastRecentlyUsed(10, [])), [rows[2], rows[0], rows[3], rows[1]]);
      // To be linked once more is not to be pulled.
      await metadata.linkBlob([OTHER], rows[2]);
      assert.deepEqual(plain(await metadata.leastRecentlyUsed(1, [])), [rows[2]]);
    });

    suite('leastRecentlyUsed leaves out what an excepted repository links, as a blob or as a manifest', async metadata => {
      const [blob, shared, free] = [row('blob'), row('shared'), row('free')] as const;
      const manifest = manifestRow('manifest');
      await metadata.linkBlob([APP], blob);
      await metadata.linkBlob([APP, OTHER], shared);
      await metadata.linkManifest(APP, manifest, ['latest']);
      await metadata.linkBlob([OTHER], free);
      await metadata.linkBlob([], row('orphan'));
      const leastRecentlyUsed = async (except: readonly Repository[]) =>
        (await metadata.leastRecentlyUsed(10, except)).map(({ digest }) => digest).sort();
      const digests = (...rows: ContentRow[]) => rows.map(({ digest }) => digest).sort();
      assert.deepEqual(await leastRecentlyUsed([APP]), digests(free, row('orphan')));
      assert.deepEqual(await leastRecentlyUsed([OTHER]), digests(blob, manifest, row('orphan')));
      assert.deepEqual(await leastRecentlyUsed([APP, OTHER]), digests(row('orphan')));
      const unknown = { upstream: 'ghcr.io', name: 'no\'body/"knows"' };
      assert.deepEqual(
        await leastRecentlyUsed([unknown]),
        digests(blob, shared, manifest, free, row('orphan')),
      );
    });

    suite('what was touched is known after a close', async (metadata, clock, reopen) => {
      const [older, newer] = [row('older'), row('newer')];
      await metadata.linkBlob([APP], older);
      clock.advance(1);
      await metadata.linkBlob([APP], newer);
      clock.advance(1);
      metadata.touch(older.digest);
      assert.deepEqual(plain(await (await reopen()).leastRecentlyUsed(1, [])), [newer]);
    });

    suite('content that is dropped right after a pull stays dropped, and comes again as new', async (metadata, clock) => {
      const [gone, other] = [row('gone'), row('other')];
      await metadata.linkBlob([APP], gone);
      clock.advance(1);
      metadata.touch(gone.digest);
      await metadata.drop(gone.digest);
      assert.deepEqual(await metadata.leastRecentlyUsed(10, []), []);
      assert.equal(await metadata.totalBytes(), 0);
      metadata.touch(gone.digest);
      await metadata.drop(gone.digest);
      clock.advance(1);
      await metadata.linkBlob([APP], other);
      clock.advance(1);
      await metadata.linkBlob([APP], gone);
      assert.deepEqual(plain(await metadata.leastRecentlyUsed(1, [])), [other]);
    });

    suite('all of it is there when it is opened again', async (metadata, clock, reopen) => {
      const manifest = manifestRow('manifest', 2 ** 40);
      await metadata.linkManifest(APP, manifest, ['latest']);
      await metadata.linkBlob([APP, OTHER], row('blob', 1));
      await metadata.saveTagList(APP, ['latest', 'v1']);
      const checkedAtMs = clock.now();
      clock.advance(1000);
      const later = await reopen();
      assert.deepEqual({ ...(await later.findManifest(APP, manifest.digest)) }, manifest);
      assertIs(await later.findBlob(OTHER, row('blob').digest), row('blob', 1));
      assert.deepEqual({ ...(await later.findTag(APP, 'latest')) }, { digest: manifest.digest, checkedAtMs });
      assert.deepEqual(await later.findTagList(APP), { tags: ['latest', 'v1'], checkedAtMs });
      assert.equal(await later.totalBytes(), 2 ** 40 + 1);
    });

    suite('calls that come at once do not lose one another', async metadata => {
      const repositories = Array.from({ length: 10 }, (_, i) => ({
        upstream: 'ghcr.io',
        name: `owner/app-${i}`,
      }));
      await Promise.all(
        Array.from({ length: 200 }, (_, i) => {
          const repository = repositories[i % 10] ?? APP;
          return i % 2
            ? metadata.linkBlob([repository, APP], row(`${i % 50}`))
            : metadata.linkManifest(repository, manifestRow(`${i % 50}`), [`tag-${i}`]);
        }),
      );
      assert.equal(await metadata.totalBytes(), 50 * 100);
      const tags = await Promise.all(repositories.map(repository => metadata.pulledTags(repository)));
      assert.equal(tags.flat().length, 100);
      for (let i = 1; i < 50; i += 2) assertIs(await metadata.findBlob(APP, row(`${i}`).digest), row(`${i}`));
    });

    suite('names and tags may be any text: none is taken for another, or for a part of a question', async metadata => {
      const texts = fc.uniqueArray(
        fc.string({ unit: fc.constantFrom(...'aA%_*?\'"\\;-/ é\u{1f600}'), maxLength: 6 }),
        {
          minLength: 2,
          maxLength: 8,
        },
      );
      await fc.assert(
        fc.asyncProperty(texts, fc.nat(), async (names, round) => {
          const upstream = `upstream-${round}`;
          for (const [i, name] of names.entries()) {
            await metadata.linkManifest({ upstream, name }, manifestRow(`${i}`), [name]);
          }
          for (const [i, name] of names.entries()) {
            const repository = { upstream, name };
            assert.deepEqual(await metadata.pulledTags(repository), [name]);
            assert.equal((await metadata.findTag(repository, name))?.digest, row(`${i}`).digest);
            for (const other of names) {
              const tag = await metadata.findTag(repository, other);
              assert.equal(tag !== undefined, other === name);
            }
            await metadata.forgetTag(repository, name);
          }
        }),
        { numRuns: 50 },
      );
    });
  });
}

/** A row may have more columns than the contract names. */
function assertIs(found: ContentRow | undefined, expected: ContentRow): void {
  assert.equal(found?.digest, expected.digest);
  assert.equal(found.sizeBytes, expected.sizeBytes);
}

/** Rows without the prototype, or the lack of it, that a driver gives them. */
function plain(rows: readonly ContentRow[]): ContentRow[] {
  return rows.map(({ digest, sizeBytes }) => ({ digest, sizeBytes }));
}
