// The skips that are no fault: what no run of a suite asks, and what cannot be served. Any other skip fails the run.
import type { Suite, Test } from './suites.ts';
import type { Upstream } from './upstreams.ts';

interface KnownSkip {
  readonly suite: Suite['name'];
  /** Absent: whatever the upstream is. */
  readonly upstream?: Upstream['name'];
  readonly test: RegExp;
  readonly why: string;
}

const KNOWN: readonly KnownSkip[] = [
  {
    suite: 'v1.1.1',
    test: /Get tag name from environment$/,
    why: 'only for a registry that cannot be pushed to',
  },
  {
    suite: 'v1.1.1',
    test: /Populate registry with test tags \(no push\)$/,
    why: 'only for a registry that cannot be pushed to',
  },
  {
    suite: 'v1.1.1',
    test: /Cross-mounting of nonexistent blob should yield session id$/,
    why: 'only for a registry that refused the mount before it',
  },
  {
    suite: 'v1.1.1',
    test: /automatic content discovery disabled should return a 202$/,
    why: 'the contrary of another test, which did run',
  },
  {
    suite: 'v1.1.1',
    upstream: 'ghcr',
    test: /GET request to deleted blob URL should yield 404 response$/,
    why: 'ghcr.io deletes no single blob, neither in the registry nor in its API',
  },
  {
    suite: 'main',
    upstream: 'ghcr',
    test: /\/blob-delete$/,
    why: 'ghcr.io deletes no single blob, neither in the registry nor in its API',
  },
];

/** Why this skip is none to mind; undefined when it is one. */
export function whySkipped(test: Test, suite: Suite, upstream: Upstream): string | undefined {
  return KNOWN.find(
    known =>
      known.suite === suite.name &&
      (known.upstream === undefined || known.upstream === upstream.name) &&
      known.test.test(test.name),
  )?.why;
}
