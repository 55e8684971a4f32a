// What a download is asked for, and what it is handed.
import type { Clock } from '../base/clock.ts';
import type { Span } from '../base/spans.ts';
import type { Digest } from '../oci/digest.ts';
import type { Repository } from '../oci/reference.ts';
import type { Permit } from './permits.ts';
import type { OnChunk } from './transport/response.ts';
import type { Upstream } from './upstream.ts';

/** What is fetched. */
export interface Blob {
  readonly repository: Repository;
  readonly digest: Digest;
  /** As a person writes it. */
  readonly what: string;
}

/**
 * Where a download goes: called once, before any byte; the size is undefined when the upstream does not tell. What it
 * throws, and what the receiver of chunks throws, ends the download and is passed on as it is.
 */
export type OpenReceiver = (
  sizeBytes: number | undefined,
  contentType: string | undefined,
) => Receiver | Promise<Receiver>;

/** Takes the bytes from a position on: from the first one that is wanted, unless it takes them in any order. */
export type Receiver = (position: number) => OnChunk;

/**
 * Has the bytes at a position fetched before others, by another connection. False when that is not possible now: they
 * come in their turn.
 */
export type Want = (position: number) => boolean;

export interface DownloadOptions {
  readonly upstream: Upstream;
  readonly clock: Clock;
  readonly signal: AbortSignal;
  /** The client that began it. */
  readonly client: string;
  /** Whether any client waits for it now. Default: always. */
  readonly isWanted?: () => boolean;
  /** How long the receiver may take nothing. Default: no bound. */
  readonly receiverStallMs?: number;
  /** The range that is wanted. Default: all. */
  readonly start?: number;
  readonly end?: number;
  /** What the receiver has already. */
  readonly here?: readonly Span[];
  /** The receiver takes bytes in any order, so there may be several connections. */
  readonly inAnyOrder?: boolean;
  /** Is handed what has bytes fetched that someone waits for: see Want. */
  readonly onWant?: (want: Want) => void;
  /** How large the blob is said to be by who names it. */
  readonly expectedBytes?: number | undefined;
  /** To begin with. Default: one is acquired. */
  readonly permit?: Permit | undefined;
  /** Called when it may ask for bytes, at least once before the receiver is opened. */
  readonly onPermit?: () => void;
  /** Is told why a body broke, and at which byte of the blob. */
  readonly onBreak?: (message: string, at: number) => void;
}
