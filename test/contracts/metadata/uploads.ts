// What every implementation of UploadStore owes, as tests.
import assert from 'node:assert/strict';
import type { Metadata, UploadRow } from '../../../src/metadata/metadata.ts';
import { type MakeMetadata, OTHER, OTHERS, suiteOf, UPLOAD } from './suite.ts';

export function uploadStoreSuite(name: string, make: MakeMetadata): void {
  const suite = suiteOf(`${name} keeps the contract of UploadStore:`, make);

  suite('open uploads are listed as they were put, until they are removed', async (metadata, clock, reopen) => {
    assert.deepEqual(await metadata.uploads(), []);
    const uploads: UploadRow[] = [
      { ...UPLOAD, id: 'one' },
      { ...UPLOAD, id: 'two', algorithm: 'sha512', startedAtMs: clock.now() + 1 },
      ...OTHERS.map((repository, i) => ({ ...UPLOAD, id: `in another ${i}`, repository })),
    ];
    for (const upload of uploads) await metadata.putUpload(upload);
    const listed = async (store: Metadata) => (await store.uploads()).toSorted(byId);
    const expected = uploads.toSorted(byId);
    assert.deepEqual(await listed(metadata), expected);
    const later = await reopen();
    assert.deepEqual(await listed(later), expected);
    await later.removeUpload('one');
    await later.removeUpload('one');
    await later.removeUpload("' OR 1=1 --");
    assert.deepEqual(
      await listed(later),
      expected.filter(({ id }) => id !== 'one'),
    );
    for (const { id } of uploads) await later.removeUpload(id);
    assert.deepEqual(await later.uploads(), []);
  });

  suite('an upload that is put again replaces the one before', async metadata => {
    await metadata.putUpload(UPLOAD);
    const changed = { ...UPLOAD, repository: OTHER, algorithm: 'sha512', startedAtMs: 7 } as const;
    await metadata.putUpload(changed);
    assert.deepEqual(await metadata.uploads(), [changed]);
  });

  suite('the owner of an upload is kept with it, and an upload may have none', async (metadata, _, reopen) => {
    const owned = { ...UPLOAD, id: 'owned', owner: 'alice' };
    await metadata.putUpload(owned);
    await metadata.putUpload(UPLOAD);
    const later = await reopen();
    assert.deepEqual((await later.uploads()).toSorted(byId), [owned, UPLOAD]);
    await later.putUpload({ ...UPLOAD, id: 'owned' });
    assert.deepEqual((await later.uploads()).toSorted(byId), [{ ...UPLOAD, id: 'owned' }, UPLOAD]);
  });
}

function byId(a: UploadRow, b: UploadRow): number {
  return a.id < b.id ? -1 : 1;
}
