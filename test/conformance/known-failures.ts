// Tests of the suites that do not pass and are not failures of ours: tests for another kind of run, and what the
// upstream does not support, which the cache cannot make up for, since it acknowledges nothing that the upstream has
// not accepted.
import type { Suite, Test } from './suites.ts';
import type { Upstream } from './upstreams.ts';

interface KnownFailure {
  /** In these suites. */
  readonly suites: readonly Suite['name'][];
  /** Absent: with any upstream. */
  readonly upstream?: Upstream['name'];
  readonly test: RegExp;
  readonly reason: string;
}

const RELEASED = ['v1.1.1', '2026-04'];

const KNOWN_FAILURES: readonly KnownFailure[] = [
  {
    suites: RELEASED,
    test: /Get tag name from environment$/,
    reason: 'runs only against a read-only registry',
  },
  {
    suites: RELEASED,
    test: /Populate registry with test tags \(no push\)$/,
    reason: 'runs only against a read-only registry',
  },
  {
    suites: RELEASED,
    test: /Cross-mounting of nonexistent blob should yield session id$/,
    reason: 'runs only if the registry rejected the mount before it',
  },
  {
    suites: RELEASED,
    test: /automatic content discovery disabled should return a 202$/,
    reason: 'the opposite of another test, which ran',
  },
  {
    suites: RELEASED,
    upstream: 'ghcr',
    test: /GET request to deleted blob URL should yield 404 response$/,
    reason: 'ghcr.io cannot delete a single blob, neither in the registry nor in its API',
  },
  {
    suites: ['main'],
    upstream: 'ghcr',
    test: /\/blob-delete$/,
    reason: 'ghcr.io cannot delete a single blob, neither in the registry nor in its API',
  },
  {
    suites: ['main'],
    upstream: 'ghcr',
    test: /^image\/delete\/(tag|manifest)-delete$/,
    reason: 'GitHub does not delete the last version of a package, only the whole package',
  },
  {
    suites: ['main'],
    upstream: 'ghcr',
    test: /^tag-param-sha\d+\/delete\/tag-delete$/,
    reason: 'GitHub deletes a version with all of its tags, so a single tag of several cannot be deleted',
  },
  {
    suites: ['main'],
    upstream: 'distribution',
    test: /^(tag-param-)?sha512\//,
    reason: 'distribution stores manifests by sha256 only, and therefore rejects an index that names them by sha512',
  },
];

/** Why this test is known not to pass; undefined when it should. */
export function knownFailure(test: Test, suite: Suite, upstream: Upstream): string | undefined {
  return KNOWN_FAILURES.find(
    known =>
      known.suites.includes(suite.name) &&
      (known.upstream === undefined || known.upstream === upstream.name) &&
      known.test.test(test.name),
  )?.reason;
}
