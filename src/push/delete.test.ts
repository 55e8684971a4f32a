// The order in which a delete is done. What clients see is in test/behaviour/push.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { digestOf } from '../oci/digest.ts';
import { RegistryError, StorageFailure } from '../oci/errors.ts';
import { type DeleteDependencies, Deletes } from './delete.ts';

const APP = { upstream: 'ghcr.io', name: 'owner/app' };
const DIGEST = digestOf(Buffer.from('manifest'));
const GONE = new RegistryError('MANIFEST_UNKNOWN', 'gone');

function setUp({ deleting = async () => {}, syncing = async () => {} } = {}) {
  const steps: string[] = [];
  const step =
    (name: string, then: () => Promise<unknown> = async () => {}) =>
    async () => {
      steps.push(name);
      return then();
    };
  const missing = async () => {
    throw GONE;
  };
  const metadata = {
    ...{ findTag: async () => undefined, pulledTags: async () => [] },
    forgetTag: step('forgotten'),
    unlinkManifest: step('unlinked', async () => true),
    unlinkBlob: step('unlinked', async () => true),
    sync: step('synced', syncing),
  };
  const dependencies = {
    metadata,
    manifests: { pull: missing, fetch: missing },
    tagMutex: { run: (_: string, work: () => Promise<void>) => work() },
    tagLists: { changed: () => {} },
    writeOnce: { assertMayDelete: async () => {} },
    localWrites: {
      ...{ pushed: () => {}, deleted: () => {}, tagged: async () => {}, forget: () => {} },
      ...{ standing: async () => undefined, stateOf: () => undefined },
      retrying: (work: () => Promise<unknown>) => work(),
    },
    log: { warn: (_: object, message: string) => steps.push(message) },
    writes: () => ({
      capabilities: {},
      deleteManifest: step('deleted upstream', deleting),
      deleteBlob: step('deleted upstream', deleting),
    }),
  };
  return { steps, deletes: new Deletes(dependencies as unknown as DeleteDependencies) };
}

const kinds = {
  tag: (deletes: Deletes) => deletes.tag(APP, 'v1'),
  manifest: (deletes: Deletes) => deletes.manifest(APP, DIGEST),
  blob: (deletes: Deletes) => deletes.blob(APP, DIGEST),
};

for (const [kind, run] of Object.entries(kinds)) {
  const here = kind === 'tag' ? 'forgotten' : 'unlinked';

  test(`a ${kind} is deleted upstream, then here, and that is durable before it is answered`, async () => {
    const { steps, deletes } = setUp();
    await run(deletes);
    assert.deepEqual(steps, ['deleted upstream', here, 'synced']);
  });

  test(`a ${kind} that the upstream does not have is durably gone here too`, async () => {
    const { steps, deletes } = setUp({ deleting: () => Promise.reject(GONE) });
    await assert.rejects(run(deletes), GONE);
    assert.deepEqual(steps, ['deleted upstream', here, 'synced']);
  });

  test(`a ${kind} is deleted though that cannot be made durable, which is logged`, async () => {
    const { steps, deletes } = setUp({ syncing: () => Promise.reject(new StorageFailure('the disk fails')) });
    await run(deletes);
    assert.deepEqual(steps, ['deleted upstream', here, 'synced', 'the disk fails']);
  });
}
