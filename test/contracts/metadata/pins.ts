// What every implementation of UsageStore owes to pinned images, as tests: pinned is the manifest that a pin names and
// all that it is made of, and nothing else.
import assert from 'node:assert/strict';
import fc from 'fast-check';
import type { LinkedManifest, Metadata, Pin } from '../../../src/metadata/metadata.ts';
import type { Digest } from '../../../src/oci/digest.ts';
import type { Repository } from '../../../src/oci/reference.ts';
import { APP, type MakeMetadata, manifestRow, OTHER, OTHERS, row, suiteOf } from './suite.ts';

const byTag = (tag: string, repository = APP): Pin => ({ repository, reference: { tag } });
const byDigest = ({ digest }: { digest: Digest }, repository = APP): Pin => ({
  repository,
  reference: { digest },
});

/** Links a manifest with a config and a layer of its own, and further parts. */
async function linkImage(
  metadata: Metadata,
  seed: string,
  { repository = APP, tags = [], shared = [] }: { repository?: Repository; tags?: string[]; shared?: Digest[] } = {},
): Promise<{ manifest: LinkedManifest; all: Digest[] }> {
  const blobs = [row(`${seed} config`), row(`${seed} layer`)];
  for (const blob of blobs) await metadata.linkBlob([repository], blob);
  const manifest = manifestRow(seed, 100, { parts: [...blobs.map(({ digest }) => digest), ...shared] });
  await metadata.linkManifest(repository, manifest, tags);
  return { manifest, all: [manifest.digest, ...manifest.parts] };
}

async function unpinned(metadata: Metadata, ...pins: Pin[]): Promise<Digest[]> {
  const pinned = new Set((await metadata.pinned(pins)).map(({ digest }) => digest));
  const all = (await metadata.leastRecentlyUsed(1_000)).map(({ digest }) => digest);
  for (const digest of pinned) assert.ok(all.includes(digest), 'what is pinned is recorded');
  return all.filter(digest => !pinned.has(digest)).sort();
}

export function pinSuite(name: string, make: MakeMetadata): void {
  const suite = suiteOf(`${name} keeps pins:`, make);

  suite('an image that is pinned by tag or by digest stays whole, and another of its repository does not', async metadata => {
    const pinned = await linkImage(metadata, 'pinned', { tags: ['v1', 'latest'] });
    const other = await linkImage(metadata, 'other', { tags: ['v2'] });
    const all = [...pinned.all, ...other.all].sort();
    assert.deepEqual(await unpinned(metadata), all);
    for (const pin of [byTag('v1'), byTag('latest'), byDigest(pinned.manifest)])
      assert.deepEqual(await unpinned(metadata, pin), other.all.toSorted());
    assert.deepEqual(await unpinned(metadata, byTag('v1'), byTag('v2')), []);
    assert.deepEqual(
      await unpinned(metadata, byTag('v1'), byTag('v1'), byDigest(pinned.manifest)),
      other.all.toSorted(),
    );
  });

  suite('what a pinned image shares with another stays', async metadata => {
    const base = row('base');
    await metadata.linkBlob([APP], base);
    await linkImage(metadata, 'pinned', { tags: ['v1'], shared: [base.digest] });
    const other = await linkImage(metadata, 'other', { tags: ['v2'], shared: [base.digest] });
    const gone = other.all.filter(digest => digest !== base.digest);
    assert.deepEqual(await unpinned(metadata, byTag('v1')), gone.sort());
  });

  suite('the images of a pinned index stay, however deep they are, with their configs and layers', async metadata => {
    const images = [await linkImage(metadata, 'amd64'), await linkImage(metadata, 'arm64')];
    const inner = manifestRow('inner', 100, { parts: images.map(({ manifest }) => manifest.digest) });
    await metadata.linkManifest(APP, inner);
    await metadata.linkManifest(APP, manifestRow('index', 100, { parts: [inner.digest] }), ['multi']);
    const other = await linkImage(metadata, 'other', { tags: ['single'] });
    assert.deepEqual(await unpinned(metadata, byTag('multi')), other.all.toSorted());
    // A pin of one image of an index is none of the index, nor of the other images.
    const [amd64, arm64] = images as [(typeof images)[0], (typeof images)[0]];
    assert.deepEqual(
      await unpinned(metadata, byDigest(amd64.manifest)),
      [inner.digest, row('index').digest, ...arm64.all, ...other.all].sort(),
    );
  });

  suite('a pin by tag follows the tag, and one by digest does not', async (metadata, _, reopen) => {
    const old = await linkImage(metadata, 'old', { tags: ['latest'] });
    const young = await linkImage(metadata, 'young', { tags: ['latest'] });
    const later = await reopen();
    assert.deepEqual(await unpinned(later, byTag('latest')), old.all.toSorted());
    assert.deepEqual(await unpinned(later, byDigest(old.manifest)), young.all.toSorted());
    await later.forgetTag(APP, 'latest');
    assert.deepEqual(await unpinned(later, byTag('latest')), [...old.all, ...young.all].sort());
  });

  suite('a pin is of its repository alone, and of what is there', async metadata => {
    const { manifest, all } = await linkImage(metadata, 'image', { tags: ['v1'] });
    for (const pin of [
      ...OTHERS.flatMap(other => [byTag('v1', other), byDigest(manifest, other)]),
      byTag('v'),
      byTag('%'),
      byTag('v1', { upstream: 'ghcr.io', name: 'no\'body/"knows"' }),
      byDigest(row('unknown')),
    ])
      assert.deepEqual(await unpinned(metadata, pin), all.toSorted());
    await metadata.linkManifest(OTHER, manifest);
    assert.deepEqual(await unpinned(metadata, byDigest(manifest, OTHER)), []);
  });

  suite('a part that is not there yet is pinned once it comes', async metadata => {
    const layer = row('late layer');
    await metadata.linkManifest(APP, manifestRow('image', 100, { parts: [layer.digest] }), ['v1']);
    assert.deepEqual(await unpinned(metadata, byTag('v1')), []);
    await metadata.linkBlob([OTHER], layer);
    assert.deepEqual(await unpinned(metadata, byTag('v1')), []);
    assert.deepEqual(await unpinned(metadata), [row('image').digest, layer.digest].sort());
  });

  suite('the parts of a manifest go with it, and come back when it is linked again', async metadata => {
    const { manifest, all } = await linkImage(metadata, 'image', { tags: ['v1'] });
    await metadata.remove([manifest.digest]);
    assert.deepEqual(await unpinned(metadata, byTag('v1')), all.slice(1).sort());
    await metadata.linkManifest(APP, manifest);
    assert.deepEqual(await unpinned(metadata, byTag('v1')), []);
    await metadata.linkManifest(APP, manifest, ['v1']);
    await metadata.linkManifest(OTHER, manifest, ['v1']);
    assert.deepEqual(await unpinned(metadata, byTag('v1')), []);
  });

  suite('what is pinned is told once, with its size, however many pins protect it', async metadata => {
    const images = [];
    for (let i = 0; i < 120; i++) images.push(await linkImage(metadata, `image ${i}`, { tags: [`v${i}`] }));
    const pins = images.flatMap(({ manifest }, i) => [byTag(`v${i}`), byDigest(manifest)]);
    const pinned = await metadata.pinned(pins);
    assert.deepEqual(pinned.map(({ digest }) => digest).sort(), images.flatMap(({ all }) => all).sort());
    for (const { sizeBytes } of pinned) assert.equal(sizeBytes, 100);
    assert.deepEqual(await metadata.pinned([]), []);
  });

  suite('protected is what can be reached from the pins, whatever refers to what', async metadata => {
    const index = fc.integer({ min: 0, max: 7 });
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(index, index), { maxLength: 16 }),
        fc.array(index, { maxLength: 3 }),
        fc.nat(),
        async (edges, pins, round) => {
          const repository = { upstream: 'ghcr.io', name: `round-${round}` };
          const rows = Array.from({ length: 8 }, (_, i) => row(`${round}/${i}`));
          const at = (i: number) => rows[i] ?? assert.fail();
          for (const [i, { digest }] of rows.entries()) {
            const parts = edges.filter(([from]) => from === i).map(([, to]) => at(to).digest);
            await metadata.linkManifest(
              repository,
              { digest, sizeBytes: 1, mediaType: 'x', parts: [...new Set(parts)] },
              [`tag-${i}`],
            );
          }
          const reached = new Set(pins);
          for (const from of reached) for (const [parent, to] of edges) if (parent === from) reached.add(to);
          const left = rows.filter((_, i) => !reached.has(i)).map(({ digest }) => digest);
          const found = await unpinned(metadata, ...pins.map(i => byTag(`tag-${i}`, repository)));
          assert.deepEqual(found, left.sort());
          for (const { digest } of rows) await metadata.remove([digest]);
        },
      ),
      { numRuns: 100 },
    );
  });
}
