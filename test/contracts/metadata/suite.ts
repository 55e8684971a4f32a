// What the suites of the metadata contracts share: how a store is made and opened again, and rows to put into it.
import assert from 'node:assert/strict';
import { type TestContext, test } from 'node:test';
import type { ContentRow, LinkedManifest, ManifestRow, Metadata, UploadRow } from '../../../src/metadata/metadata.ts';
import { type Digest, digestOf } from '../../../src/oci/digest.ts';
import type { Repository } from '../../../src/oci/reference.ts';
import { TestClock } from '../../support/clock.ts';

export interface MetadataUnderTest {
  readonly metadata: Metadata;
  /** Closes it, and opens the same data again. */
  reopen(): Promise<Metadata>;
}

/** Makes an empty store on a clock of the test's. */
export type MakeMetadata = (t: TestContext, clock: TestClock) => Promise<MetadataUnderTest>;

export const APP: Repository = { upstream: 'ghcr.io', name: 'owner/app' };
/** The same name at another upstream, another name at the same one, and names that are the same only when joined. */
export const OTHERS: readonly Repository[] = [
  { upstream: 'quay.io', name: 'owner/app' },
  { upstream: 'ghcr.io', name: 'owner/app2' },
  { upstream: 'ghcr.io', name: 'owner' },
  { upstream: 'ghcr.io/owner', name: 'app' },
];
export const [OTHER = assert.fail()] = OTHERS;
const TYPE = 'application/vnd.oci.image.manifest.v1+json';
export const UPLOAD: UploadRow = {
  id: 'upload',
  repository: APP,
  algorithm: 'sha256',
  startedAtMs: 1_700_000_000_000,
};

export function row(seed: string, sizeBytes = 100): ContentRow {
  return { digest: digestOf(Buffer.from(seed)), sizeBytes };
}

export function manifestRow(
  seed: string,
  sizeBytes = 100,
  { mediaType = TYPE, parts = [] }: { mediaType?: string; parts?: readonly Digest[] } = {},
): LinkedManifest {
  return { ...row(seed, sizeBytes), mediaType, parts };
}

type Run = (metadata: Metadata, clock: TestClock, reopen: () => Promise<Metadata>) => Promise<void>;

/** Defines tests whose names begin with `name`, each with an empty store of its own. */
export function suiteOf(name: string, make: MakeMetadata): (what: string, run: Run) => void {
  return (what, run) => {
    test(`${name} ${what}`, async t => {
      const clock = new TestClock();
      const { metadata, reopen } = await make(t, clock);
      await run(metadata, clock, reopen);
    });
  };
}

/** A row may have more columns than the contract names. */
export function assertIs(found: ContentRow | undefined, expected: ContentRow): void {
  assert.equal(found?.digest, expected.digest);
  assert.equal(found.sizeBytes, expected.sizeBytes);
}

export function assertIsManifest(found: ManifestRow | undefined, expected: ManifestRow): void {
  const { digest, sizeBytes, mediaType } = expected;
  assert.deepEqual({ ...found }, { digest, sizeBytes, mediaType });
}

/** Rows without the prototype, or the lack of it, that a driver gives them. */
export function plain(rows: readonly ContentRow[]): ContentRow[] {
  return rows.map(({ digest, sizeBytes }) => ({ digest, sizeBytes }));
}
