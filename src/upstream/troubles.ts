// Images that an upstream could not be asked for, each remembered for itself: asked for again soon, they fail at once, so
// that a loop over one that is sick costs little and holds nothing up.
import type { Clock } from '../base/clock.ts';
import { ExpiringCache } from '../base/expiring-cache.ts';
import type { ErrorCode, RegistryError } from '../oci/errors.ts';
import { Trouble } from './transport/trouble.ts';

interface Remembered {
  readonly code: ErrorCode;
  readonly message: string;
  /** The image is asked for again then. */
  readonly untilMs: number;
  readonly pauseMs: number;
}

const FIRST_PAUSE_MS = 1_000;
const LONGEST_PAUSE_MS = 10_000;
/** After so long a new trouble starts with a short pause again. */
const FORGOTTEN_MS = 60_000;
const IMAGES_LIMIT = 1_000;

export class Troubles {
  readonly #clock: Pick<Clock, 'monotonic'>;
  readonly #images: ExpiringCache<Remembered>;

  constructor(clock: Pick<Clock, 'monotonic'>) {
    this.#clock = clock;
    this.#images = new ExpiringCache({ clock, max: IMAGES_LIMIT, ttlMs: FORGOTTEN_MS });
  }

  /** Throws what was remembered of this image, if that was a moment ago. */
  check(image: string): void {
    const found = this.#images.get(image);
    if (found === undefined) return;
    const retryAfterMs = found.untilMs - this.#clock.monotonic();
    if (retryAfterMs <= 0) return;
    const message = `${found.message}; it will be asked for again in ${Math.ceil(retryAfterMs / 1000)} s`;
    throw new Trouble(found.code, message, { of: 'image', mayRetry: false, retryAfterMs });
  }

  remember(image: string, error: RegistryError): void {
    const isOfHost = error instanceof Trouble && error.of === 'host';
    // The host is left alone already.
    if (isOfHost && !error.mayRetry) return;
    const { code, message } = error;
    const known = this.#images.get(image);
    // A host may be back at any moment.
    const isFirst = known === undefined || isOfHost;
    const pauseMs = isFirst ? FIRST_PAUSE_MS : Math.min(known.pauseMs * 2, LONGEST_PAUSE_MS);
    this.#images.set(image, { code, message, pauseMs, untilMs: this.#clock.monotonic() + pauseMs });
  }

  /** It was had. */
  forget(image: string): void {
    this.#images.delete(image);
  }

  /** What was remembered may have been the trouble of a host that is over. */
  clear(): void {
    this.#images.clear();
  }
}
