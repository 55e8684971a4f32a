/** The client that content is pulled for. */
export interface Caller {
  /** What tells it from others, for fairness among them: its address. */
  readonly client: string;
  /** Aborted when it has disconnected. To be asked for where there is something to wait for: hits need none. */
  gone(): AbortSignal;
  /** It asks for ranges, not for all. */
  readonly isPartial?: boolean;
}

/** A pull of our own, which is not given up. */
export const OURSELVES: Caller = { client: '', gone: () => NEVER };
const NEVER = new AbortController().signal;
