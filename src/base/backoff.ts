export interface Backoff {
  readonly firstMs: number;
  /** Default: no bound. */
  readonly longestMs?: number;
}

/**
 * The pause after the `attempt`th failure in a row, from 1: it doubles each time, and is spread over half to one and
 * a half of that so that those who failed together do not come back together.
 */
export function backoffMs(attempt: number, { firstMs, longestMs = Infinity }: Backoff, fraction: number): number {
  return Math.min(firstMs * 2 ** (attempt - 1), longestMs) * (0.5 + fraction);
}
