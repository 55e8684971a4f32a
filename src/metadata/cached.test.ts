import assert from 'node:assert/strict';
import { describe, test } from 'node:test';
import { metadataSuites } from '../../test/contracts/metadata/metadata.ts';
import { APP, manifestRow, OTHER, row } from '../../test/contracts/metadata/suite.ts';
import { overSqlite } from '../../test/support/metadata.ts';
import { cached } from './cached.ts';
import type { Metadata } from './metadata.ts';
import { bufferUsage } from './usage-buffer.ts';

metadataSuites(
  'SQLite behind the usage buffer and the cache',
  overSqlite((store, clock) => cached(bufferUsage(store, clock))),
);

const CHECKED_AT_MS = 1_000;
const MANIFEST = manifestRow('manifest');

/** Metadata in which everything is found, and each verb is counted. `hold` makes lookups wait. */
function counting() {
  const calls: string[] = [];
  let held: Promise<void> | undefined;
  let release = () => {};
  const verb =
    <T>(name: string, result: T) =>
    async (): Promise<T> => {
      calls.push(name);
      if (name.startsWith('find')) await held;
      return result;
    };
  const inner = {
    findBlob: verb('findBlob', row('blob')),
    findManifest: verb('findManifest', MANIFEST),
    findTag: verb('findTag', { digest: MANIFEST.digest, checkedAtMs: CHECKED_AT_MS }),
    linkBlob: verb('linkBlob', undefined),
    linkManifest: verb('linkManifest', undefined),
    unlinkBlob: verb('unlinkBlob', true),
    unlinkManifest: verb('unlinkManifest', true),
    confirmTag: verb('confirmTag', undefined),
    forgetTag: verb('forgetTag', undefined),
    remove: verb('remove', 0),
    saveTagList: verb('saveTagList', undefined),
    putUpload: verb('putUpload', undefined),
    touch: () => void calls.push('touch'),
  } as unknown as Metadata;
  return {
    inner,
    calls,
    hold: () => {
      held = new Promise(resolve => {
        release = resolve;
      });
    },
    release: () => {
      held = undefined;
      release();
    },
  };
}

async function lookUpAll(metadata: Metadata): Promise<void> {
  await metadata.findBlob(APP, row('blob').digest);
  await metadata.findManifest(APP, MANIFEST.digest);
  await metadata.findTag(APP, 'latest');
}

describe('cached metadata', () => {
  test('looks a row up once, and keeps blobs, manifests, tags and repositories apart', async () => {
    const { inner, calls } = counting();
    const metadata = cached(inner);
    for (let i = 0; i < 3; i++) await lookUpAll(metadata);
    assert.deepEqual(calls.splice(0), ['findBlob', 'findManifest', 'findTag']);
    await metadata.findBlob(OTHER, row('blob').digest);
    await metadata.findManifest(APP, row('blob').digest);
    await metadata.findTag(APP, 'other');
    assert.deepEqual(calls, ['findBlob', 'findManifest', 'findTag']);
  });

  test('does not remember that there is nothing', async () => {
    const calls: unknown[] = [];
    const nothing = async () => void calls.push('asked');
    const metadata = cached({ findBlob: nothing, findTag: nothing } as unknown as Metadata);
    for (let i = 0; i < 2; i++) {
      assert.equal(await metadata.findBlob(APP, row('blob').digest), undefined);
      assert.equal(await metadata.findTag(APP, 'latest'), undefined);
    }
    assert.equal(calls.length, 4);
  });

  const changes: [name: string, change: (metadata: Metadata) => Promise<unknown>][] = [
    ['linkBlob', metadata => metadata.linkBlob([APP], row('blob'))],
    ['linkManifest', metadata => metadata.linkManifest(APP, MANIFEST, ['latest'])],
    ['unlinkBlob', metadata => metadata.unlinkBlob(APP, row('blob').digest)],
    ['unlinkManifest', metadata => metadata.unlinkManifest(APP, MANIFEST.digest)],
    ['confirmTag', metadata => metadata.confirmTag(APP, 'latest')],
    ['forgetTag', metadata => metadata.forgetTag(APP, 'latest')],
    ['remove', metadata => metadata.remove([row('blob').digest])],
  ];
  for (const [name, change] of changes) {
    test(`forgets everything with ${name}, also when it fails`, async () => {
      const { inner, calls } = counting();
      const metadata = cached({
        ...inner,
        [name]: async () => {
          calls.push(name);
          if (calls.filter(call => call === name).length === 2) throw new Error('disk');
          return true;
        },
      });
      await lookUpAll(metadata);
      await change(metadata);
      await lookUpAll(metadata);
      await assert.rejects(change(metadata), /disk/);
      await lookUpAll(metadata);
      const finds = ['findBlob', 'findManifest', 'findTag'];
      assert.deepEqual(calls, [...finds, name, ...finds, name, ...finds]);
    });

    test(`does not keep what was read before ${name} was done`, async () => {
      const { inner, calls, hold, release } = counting();
      const metadata = cached(inner);
      hold();
      const lookingUp = [
        metadata.findBlob(APP, row('blob').digest),
        metadata.findManifest(APP, MANIFEST.digest),
        metadata.findTag(APP, 'latest'),
      ];
      await change(metadata);
      release();
      await Promise.all(lookingUp);
      calls.length = 0;
      await lookUpAll(metadata);
      assert.deepEqual(calls, ['findBlob', 'findManifest', 'findTag']);
    });
  }

  test('keeps its rows when nothing changes that it keeps', async () => {
    const { inner, calls } = counting();
    const metadata = cached(inner);
    await lookUpAll(metadata);
    metadata.touch(MANIFEST.digest);
    await metadata.saveTagList(APP, []);
    await metadata.putUpload({ id: 'x', repository: APP, algorithm: 'sha256', startedAtMs: 0 });
    calls.length = 0;
    await lookUpAll(metadata);
    assert.deepEqual(calls, []);
  });

  test('is bounded', async () => {
    const { inner, calls } = counting();
    const metadata = cached(inner);
    await metadata.findTag(APP, 'first');
    for (let i = 0; i < 20_000; i++) await metadata.findTag(APP, `tag-${i}`);
    calls.length = 0;
    await metadata.findTag(APP, 'tag-19999');
    assert.deepEqual(calls, []);
    await metadata.findTag(APP, 'first');
    assert.deepEqual(calls, ['findTag']);
  });
});
