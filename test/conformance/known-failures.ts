// What is no fault though it does not pass: what no run of a suite asks, and what the upstream cannot do and the
// cache must not do without it, since nothing is acknowledged that the upstream has not accepted.
import type { Suite, Test } from './suites.ts';
import type { Upstream } from './upstreams.ts';

interface Excuse {
  /** Of these suites. */
  readonly suites: readonly Suite['name'][];
  /** Absent: whatever the upstream is. */
  readonly upstream?: Upstream['name'];
  readonly test: RegExp;
  readonly why: string;
}

const RELEASED = ['v1.1.1', '2026-04'];

const EXCUSES: readonly Excuse[] = [
  {
    suites: RELEASED,
    test: /Get tag name from environment$/,
    why: 'only for a registry that cannot be pushed to',
  },
  {
    suites: RELEASED,
    test: /Populate registry with test tags \(no push\)$/,
    why: 'only for a registry that cannot be pushed to',
  },
  {
    suites: RELEASED,
    test: /Cross-mounting of nonexistent blob should yield session id$/,
    why: 'only for a registry that refused the mount before it',
  },
  {
    suites: RELEASED,
    test: /automatic content discovery disabled should return a 202$/,
    why: 'the contrary of another test, which did run',
  },
  {
    suites: RELEASED,
    upstream: 'ghcr',
    test: /GET request to deleted blob URL should yield 404 response$/,
    why: 'ghcr.io deletes no single blob, neither in the registry nor in its API',
  },
  {
    suites: ['main'],
    upstream: 'ghcr',
    test: /\/blob-delete$/,
    why: 'ghcr.io deletes no single blob, neither in the registry nor in its API',
  },
  {
    suites: ['main'],
    upstream: 'ghcr',
    test: /^image\/delete\/(tag|manifest)-delete$/,
    why: 'GitHub does not delete the last version of a package, only the package',
  },
  {
    suites: ['main'],
    upstream: 'ghcr',
    test: /^tag-param-sha\d+\/delete\/tag-delete$/,
    why: 'GitHub deletes a version with all its tags, so one of several is not deleted alone',
  },
  {
    suites: ['main'],
    upstream: 'distribution',
    test: /^(tag-param-)?sha512\//,
    why: 'distribution knows manifests by sha256 alone, and so refuses an index that names them by sha512',
  },
];

/** Why it is no fault of ours that this test did not pass; undefined when it is one. */
export function excuseOf(test: Test, suite: Suite, upstream: Upstream): string | undefined {
  return EXCUSES.find(
    excuse =>
      excuse.suites.includes(suite.name) &&
      (excuse.upstream === undefined || excuse.upstream === upstream.name) &&
      excuse.test.test(test.name),
  )?.why;
}
