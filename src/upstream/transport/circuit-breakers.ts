// Circuit breakers, one for each host that an upstream's requests go to: the registry, its token realm, those that hold
// its blobs. While one is open requests to that host fail at once, without a connection and without a wait, but for a
// probe each second.
//
// A breaker opens on evidence about the host alone. A connection that cannot be made says something of the host; one that
// breaks before the answer, a missing answer and a 5xx say no more than that one image or repository is in trouble, until
// several are. An answer shows that the host is there, and closes the breaker at once.
import { LRUCache } from 'lru-cache';
import type { Clock } from '../../base/clock.ts';
import type { RegistryError } from '../../oci/errors.ts';
import { Trouble } from './trouble.ts';

/** What a request asks for: evidence is counted once for each. */
export interface Subject {
  readonly repository: string;
  readonly image: string;
}

export interface CircuitBreakersOptions {
  readonly clock: Pick<Clock, 'monotonic'>;
  readonly onDown: (host: string, why: string) => void;
  readonly onUp: (host: string, awayMs: number) => void;
  /** What errors call the host of this address. Default: by its own name. */
  readonly nameOf?: (url: URL) => string;
}

interface Breaker {
  readonly host: string;
  /** What was not answered since the last answer: images, and connections that could not be made. */
  readonly unanswered: Set<string>;
  /** Repositories that were answered with a 5xx, or not in time, since the last other answer. */
  readonly troubled: Set<string>;
  downSinceMs: number | undefined;
  nextProbeMs: number;
  lastFailure: string;
}

const EVIDENCE_LIMIT = 3;
const PROBE_MS = 1_000;
/** Hosts of which nothing but answers is heard are not kept. */
const HOSTS_LIMIT = 100;

export class CircuitBreakers {
  readonly #options: CircuitBreakersOptions;
  readonly #breakers = new LRUCache<string, Breaker>({ max: HOSTS_LIMIT });

  constructor(options: CircuitBreakersOptions) {
    this.#options = options;
  }

  /**
   * Returns when a request may be sent to this host, whose end is to be reported by one of the methods below, unless it is
   * abandoned. Throws UPSTREAM_UNAVAILABLE when the host is left alone; one that may not probe waits for the others.
   */
  check(url: URL, mayProbe = true): void {
    const breaker = this.#breakers.get(url.origin);
    if (breaker?.downSinceMs === undefined) return;
    const nowMs = this.#options.clock.monotonic();
    if (nowMs < breaker.nextProbeMs || !mayProbe) {
      const { nameOf } = this.#options;
      const message = `${nameOf?.(url) ?? breaker.host} is failing and is left alone for a moment: ${breaker.lastFailure}`;
      const retryAfterMs = Math.max(0, breaker.nextProbeMs - nowMs);
      throw new Trouble('UPSTREAM_UNAVAILABLE', message, { of: 'host', mayRetry: false, retryAfterMs });
    }
    // This request is the probe; the others wait for its report, or for the next one.
    breaker.nextProbeMs = nowMs + PROBE_MS;
  }

  /** The headers of a response are here. */
  answered(url: URL, status: number, { repository }: Subject): void {
    if (status < 500) {
      const breaker = this.#breakers.get(url.origin);
      if (breaker === undefined) return;
      this.#breakers.delete(url.origin);
      this.#reportUp(breaker);
      return;
    }
    const breaker = this.#breakerOf(url);
    breaker.unanswered.clear();
    this.#note(breaker, breaker.troubled, repository, `it answers with ${status}`);
  }

  /** No connection could be made. One that times out has cost seconds already: once is enough. */
  unreachable(url: URL, error: RegistryError): void {
    const breaker = this.#breakerOf(url);
    const count = error.code === 'UPSTREAM_TIMEOUT' ? EVIDENCE_LIMIT : 1;
    for (let i = 0; i < count; i++) {
      this.#note(breaker, breaker.unanswered, `connection ${breaker.unanswered.size}`, error.message);
    }
  }

  /** The connection broke before there was an answer, or there was none in time. */
  unanswered(url: URL, error: RegistryError, { repository, image }: Subject): void {
    const breaker = this.#breakerOf(url);
    const isLate = error.code === 'UPSTREAM_TIMEOUT';
    this.#note(breaker, isLate ? breaker.troubled : breaker.unanswered, isLate ? repository : image, error.message);
  }

  #breakerOf({ origin, host }: URL): Breaker {
    const known = this.#breakers.get(origin);
    if (known !== undefined) return known;
    const breaker: Breaker = {
      ...{ host, unanswered: new Set(), troubled: new Set() },
      ...{ downSinceMs: undefined, nextProbeMs: 0, lastFailure: '' },
    };
    this.#breakers.set(origin, breaker);
    return breaker;
  }

  #note(breaker: Breaker, evidence: Set<string>, key: string, why: string): void {
    if (evidence.size < EVIDENCE_LIMIT) evidence.add(key);
    breaker.lastFailure = why;
    const isDown = breaker.unanswered.size >= EVIDENCE_LIMIT || breaker.troubled.size >= EVIDENCE_LIMIT;
    if (!isDown) this.#reportUp(breaker);
    if (!isDown || breaker.downSinceMs !== undefined) return;
    breaker.downSinceMs = this.#options.clock.monotonic();
    breaker.nextProbeMs = breaker.downSinceMs + PROBE_MS;
    this.#options.onDown(breaker.host, why);
  }

  #reportUp(breaker: Breaker): void {
    if (breaker.downSinceMs === undefined) return;
    const awayMs = this.#options.clock.monotonic() - breaker.downSinceMs;
    breaker.downSinceMs = undefined;
    this.#options.onUp(breaker.host, awayMs);
  }
}
