// What the parts of the fake ghcr.io share: what it holds, how it behaves, its clock and its own URLs. All of it may
// change between two requests, so the parts read it each time and keep no copies.
import type { Lags } from './lag.ts';
import type { Packages } from './packages.ts';
import type { Switches } from './switches.ts';

export type OriginName = 'registry' | 'blobhost' | 'api';

export interface State {
  readonly packages: Packages;
  readonly switches: Switches;
  readonly lags: Lags;
  /** The clock of tokens, signed URLs and uploads, in ms. */
  readonly now: () => number;
  /** An origin of the fake as clients see it, without a trailing slash. */
  readonly originOf: (name: OriginName) => string;
}
