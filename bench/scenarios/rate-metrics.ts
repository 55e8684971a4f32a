import type { Metric } from '../bench.ts';

/** What is measured of many small responses. */
export const RATE_METRICS: readonly Metric[] = [
  { name: 'rate', unit: '1/s', better: 'more' },
  { name: 'p50', unit: 'ms', better: 'less' },
  { name: 'p99', unit: 'ms', better: 'less' },
];
