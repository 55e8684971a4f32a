// What every implementation of LinkStore owes, as tests.
import assert from 'node:assert/strict';
import {
  APP,
  assertIs,
  assertIsManifest,
  type MakeMetadata,
  manifestRow,
  OTHER,
  OTHERS,
  plain,
  row,
  suiteOf,
  UPLOAD,
} from './suite.ts';

export function linkStoreSuite(name: string, make: MakeMetadata): void {
  const suite = suiteOf(`${name} keeps the contract of LinkStore:`, make);

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
    assertIsManifest(await metadata.findManifest(APP, manifest.digest), manifest);
    for (const other of OTHERS) assert.equal(await metadata.findManifest(other, manifest.digest), undefined);
    assert.deepEqual(await metadata.pulledTags(APP), []);
  });

  suite('a blob link is no manifest link, and the same bytes can have both', async metadata => {
    const manifest = manifestRow('both');
    await metadata.linkBlob([APP], manifest);
    assert.equal(await metadata.findManifest(APP, manifest.digest), undefined);
    await metadata.linkManifest(OTHER, manifest);
    assert.equal(await metadata.findBlob(OTHER, manifest.digest), undefined);
    await metadata.linkManifest(APP, manifest);
    assertIs(await metadata.findBlob(APP, manifest.digest), manifest);
    assertIsManifest(await metadata.findManifest(APP, manifest.digest), manifest);
    assert.equal(await metadata.totalBytes(), manifest.sizeBytes);
  });

  suite('linking for no repository records the content all the same', async metadata => {
    await metadata.linkBlob([], row('alone', 5));
    assert.equal(await metadata.totalBytes(), 5);
  });

  suite('linking again is no error, and the last call wins', async metadata => {
    const first = manifestRow('again', 10, {
      mediaType: 'application/vnd.docker.distribution.manifest.v2+json',
    });
    const second = manifestRow('again', 11);
    await metadata.linkManifest(APP, first);
    await metadata.linkManifest(APP, second);
    assertIsManifest(await metadata.findManifest(APP, first.digest), second);
    await metadata.linkBlob([APP, APP], second);
    assert.equal(await metadata.totalBytes(), 11);
  });

  suite('removing content removes all links to it, and nothing else', async metadata => {
    const manifest = manifestRow('removed', 3);
    const kept = row('kept', 4);
    await metadata.linkManifest(APP, manifest, ['latest']);
    await metadata.linkBlob([APP, OTHER], manifest);
    await metadata.linkBlob([APP], kept);
    await metadata.remove([manifest.digest]);
    assert.equal(await metadata.findManifest(APP, manifest.digest), undefined);
    for (const repository of [APP, OTHER])
      assert.equal(await metadata.findBlob(repository, manifest.digest), undefined);
    assertIs(await metadata.findBlob(APP, kept.digest), kept);
    assert.equal(await metadata.totalBytes(), 4);
    assert.equal((await metadata.findTag(APP, 'latest'))?.digest, manifest.digest, 'the tag is still known');
    // The old links do not come back with it.
    await metadata.linkBlob([OTHER], manifest);
    assert.equal(await metadata.findBlob(APP, manifest.digest), undefined);
  });

  suite('unlinking a blob affects one repository, and tells whether another still has a link', async metadata => {
    const blob = row('blob', 7);
    await metadata.linkBlob([APP, OTHER], blob);
    assert.equal(await metadata.unlinkBlob(APP, blob.digest), true);
    assert.equal(await metadata.findBlob(APP, blob.digest), undefined);
    assertIs(await metadata.findBlob(OTHER, blob.digest), blob);
    assert.equal(await metadata.unlinkBlob(APP, blob.digest), true, 'there is nothing left to unlink');
    assert.equal(await metadata.unlinkBlob(OTHER, blob.digest), false);
    assert.equal(await metadata.findBlob(OTHER, blob.digest), undefined);
    // Whether it is removed is for the caller to decide.
    assert.equal(await metadata.totalBytes(), 7);
    assert.deepEqual(plain(await metadata.leastRecentlyUsed(10)), [blob]);
    await metadata.linkBlob([APP], blob);
    assertIs(await metadata.findBlob(APP, blob.digest), blob);
  });

  suite('unlinking a manifest removes the tags of its repository that point to it, and nothing else', async metadata => {
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
      assertIsManifest(await metadata.findManifest(repository, another.digest), another);
      for (const other of OTHERS.slice(i)) {
        assertIsManifest(await metadata.findManifest(other, manifest.digest), manifest);
        assert.deepEqual(await metadata.pulledTags(other), ['a', 'b', 'c']);
      }
    }
    assert.equal(await metadata.totalBytes(), 109);
    await metadata.linkManifest(APP, manifest);
    assert.deepEqual(await metadata.pulledTags(APP), ['c'], 'a tag that was removed does not come back');
  });

  suite('unlinking a blob leaves the manifest link and its tags, and vice versa', async metadata => {
    const both = manifestRow('both');
    const link = async () => {
      await metadata.linkBlob([APP], both);
      await metadata.linkManifest(APP, both, ['tag']);
    };
    await link();
    assert.equal(await metadata.unlinkBlob(APP, both.digest), true);
    assert.equal(await metadata.findBlob(APP, both.digest), undefined);
    assertIsManifest(await metadata.findManifest(APP, both.digest), both);
    assert.equal((await metadata.findTag(APP, 'tag'))?.digest, both.digest);
    await link();
    assert.equal(await metadata.unlinkManifest(APP, both.digest), true);
    assertIs(await metadata.findBlob(APP, both.digest), both);
    assert.equal(await metadata.findManifest(APP, both.digest), undefined);
    assert.equal(await metadata.findTag(APP, 'tag'), undefined);
    assert.equal(await metadata.unlinkManifest(APP, both.digest), true);
    assert.equal(await metadata.unlinkBlob(APP, both.digest), false);
  });

  suite('unlinking what is unknown is no error, and no repository has a link to it', async metadata => {
    const { digest } = row('unknown');
    assert.equal(await metadata.unlinkBlob(APP, digest), false);
    assert.equal(await metadata.unlinkManifest(APP, digest), false);
    await metadata.linkBlob([], row('unknown'));
    assert.equal(await metadata.unlinkBlob(APP, digest), false);
    assert.deepEqual(await metadata.repositories(), []);
    // A tag may point to what has been removed since.
    const manifest = manifestRow('removed');
    await metadata.linkManifest(APP, manifest, ['tag']);
    await metadata.remove([manifest.digest]);
    assert.equal(await metadata.unlinkManifest(APP, manifest.digest), false);
    assert.equal(await metadata.findTag(APP, 'tag'), undefined);
  });

  suite('content is recorded until it is removed, linked or not', async metadata => {
    const { digest } = row('blob');
    assert.equal(await metadata.isRecorded(digest), false);
    await metadata.linkBlob([APP], row('blob'));
    assert.equal(await metadata.isRecorded(digest), true);
    await metadata.unlinkBlob(APP, digest);
    assert.equal(await metadata.isRecorded(digest), true);
    await metadata.remove([digest]);
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
    await metadata.remove([blob.digest]);
    for (const upstream of ['ghcr.io', 'quay.io']) {
      assert.equal(await metadata.findHolder(upstream, blob.digest), undefined);
    }
  });

  suite('repositories are those with a link or a tag, in order of upstream and name', async metadata => {
    const names = ['b/a', 'a', 'a/b', 'a-b', 'a.b', 'a/a', 'a_b', 'a0'];
    const found = async () => (await metadata.repositories()).map(({ upstream, name }) => `${upstream} ${name}`);
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
    await metadata.remove([row('blob').digest]);
    assert.deepEqual(await found(), []);

    // What is only listed does not count, and each counts once.
    await metadata.saveTagList({ upstream: 'ghcr.io', name: 'listed' }, ['tag']);
    await metadata.saveReferrers({ upstream: 'ghcr.io', name: 'referred' }, row('subject').digest, []);
    await metadata.putUpload({ ...UPLOAD, repository: { upstream: 'ghcr.io', name: 'pushed' } });
    const manifest = manifestRow('manifest');
    await metadata.linkManifest(APP, manifest, ['a', 'b']);
    await metadata.linkBlob([APP], row('blob'));
    assert.deepEqual(await found(), ['ghcr.io owner/app']);
    // A tag is enough, and the last one that goes is the end of it.
    await metadata.unlinkBlob(APP, row('blob').digest);
    await metadata.remove([manifest.digest]);
    assert.deepEqual(await found(), ['ghcr.io owner/app']);
    await metadata.forgetTag(APP, 'a');
    assert.deepEqual(await found(), ['ghcr.io owner/app']);
    await metadata.forgetTag(APP, 'b');
    assert.deepEqual(await found(), []);
  });
}
