// What every implementation of TagStore owes, as tests.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { Metadata } from '../../../src/metadata/metadata.ts';
import type { Repository } from '../../../src/oci/reference.ts';
import { APP, type MakeMetadata, manifestRow, OTHER, OTHERS, row, suiteOf } from './suite.ts';

export function tagStoreSuite(name: string, make: MakeMetadata): void {
  const suite = suiteOf(`${name} keeps the contract of TagStore:`, make);

  suite('a tag points to the manifest that it was last linked with, confirmed at that time', async (metadata, clock) => {
    const [one, two] = [manifestRow('one'), manifestRow('two')];
    await metadata.linkManifest(APP, one, ['latest']);
    const firstMs = clock.now();
    clock.advance(1000);
    assert.deepEqual({ ...(await metadata.findTag(APP, 'latest')) }, { digest: one.digest, checkedAtMs: firstMs });
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

  suite('forgetting removes one tag, and no content', async metadata => {
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

  suite('pulled tags are listed in the order of their bytes, each once', async metadata => {
    const tags = ['b', 'B', 'a', '_', '10', '9', 'a.b', 'a-b', 'a_b', 'ab', 'Z'];
    for (const tag of [...tags, ...tags]) await metadata.linkManifest(APP, manifestRow(tag), [tag]);
    await metadata.linkManifest(OTHER, manifestRow('x'), ['elsewhere']);
    const expected = tags
      .map(tag => Buffer.from(tag))
      .sort(Buffer.compare)
      .map(String);
    assert.deepEqual(await metadata.pulledTags(APP), expected);
  });

  suite('a tag list is found as it was last saved, for its repository alone', async (metadata, clock) => {
    await metadata.saveTagList(APP, ['a', 'b']);
    clock.advance(10);
    const tags = ['', '"', 'a', '\u{1f600}', "'; DROP TABLE tags"];
    await metadata.saveTagList(APP, tags);
    assert.deepEqual(await metadata.findTagList(APP), { tags, checkedAtMs: clock.now() });
    for (const other of OTHERS) assert.equal(await metadata.findTagList(other), undefined);
    await metadata.saveTagList(APP, []);
    assert.deepEqual((await metadata.findTagList(APP))?.tags, []);
    assert.deepEqual(await metadata.pulledTags(APP), [], 'listed tags are not pulled');
    const many = Array.from({ length: 50_000 }, (_, i) => `tag-${i}`);
    await metadata.saveTagList(APP, many);
    assert.deepEqual((await metadata.findTagList(APP))?.tags, many);
  });

  suite('a manifest can be linked under several tags at once, all confirmed at that time', async (metadata, clock, reopen) => {
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
      assert.deepEqual(await tags(store, OTHER), [{ tag: 'moved', digest: one.digest, checkedAtMs: firstMs }]);
    }
  });

  suite('names and tags may be any text: none is taken for another, or for a part of a query', async metadata => {
    const texts = fc.uniqueArray(fc.string({ unit: fc.constantFrom(...'aA%_*?\'"\\;-/ é\u{1f600}'), maxLength: 6 }), {
      minLength: 2,
      maxLength: 8,
    });
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
}
