// What every implementation of Metadata owes, as tests: the suites of all its contracts, and what holds across them.
import assert from 'node:assert/strict';
import { linkStoreSuite } from './links.ts';
import { pinSuite } from './pins.ts';
import { referrerStoreSuite } from './referrers.ts';
import { APP, assertIs, assertIsManifest, type MakeMetadata, manifestRow, OTHER, row, suiteOf } from './suite.ts';
import { tagStoreSuite } from './tags.ts';
import { uploadStoreSuite } from './uploads.ts';
import { usageStoreSuite } from './usage.ts';

export function metadataSuites(name: string, make: MakeMetadata): void {
  const suite = suiteOf(`${name} keeps the contract of Metadata:`, make);

  suite('an empty store finds nothing, and every verb may be asked of it', async metadata => {
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
    assert.deepEqual(await metadata.leastRecentlyUsed(10), []);
    assert.equal(await metadata.totalBytes(), 0);
    await metadata.confirmTag(APP, 'latest');
    await metadata.forgetTag(APP, 'latest');
    await metadata.remove([digest]);
    metadata.touch(digest);
    await metadata.check();
    assert.equal(await metadata.findTag(APP, 'latest'), undefined);
    assert.deepEqual(await metadata.leastRecentlyUsed(10), []);
  });

  suite('sync may be called at any time, and loses nothing', async (metadata, _, reopen) => {
    await metadata.sync();
    await metadata.linkBlob([APP], row('blob'));
    await Promise.all([metadata.sync(), metadata.linkBlob([OTHER], row('blob')), metadata.sync()]);
    const later = await reopen();
    await later.sync();
    for (const repository of [APP, OTHER]) {
      assertIs(await later.findBlob(repository, row('blob').digest), row('blob'));
    }
  });

  suite('everything is found when it is opened again', async (metadata, clock, reopen) => {
    const manifest = manifestRow('manifest', 2 ** 40);
    await metadata.linkManifest(APP, manifest, ['latest']);
    await metadata.linkBlob([APP, OTHER], row('blob', 1));
    await metadata.saveTagList(APP, ['latest', 'v1']);
    const checkedAtMs = clock.now();
    clock.advance(1000);
    const later = await reopen();
    assertIsManifest(await later.findManifest(APP, manifest.digest), manifest);
    assertIs(await later.findBlob(OTHER, row('blob').digest), row('blob', 1));
    assert.deepEqual({ ...(await later.findTag(APP, 'latest')) }, { digest: manifest.digest, checkedAtMs });
    assert.deepEqual(await later.findTagList(APP), { tags: ['latest', 'v1'], checkedAtMs });
    assert.equal(await later.totalBytes(), 2 ** 40 + 1);
  });

  suite("concurrent calls do not lose each other's changes", async metadata => {
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

  linkStoreSuite(name, make);
  tagStoreSuite(name, make);
  referrerStoreSuite(name, make);
  uploadStoreSuite(name, make);
  usageStoreSuite(name, make);
  pinSuite(name, make);
}
