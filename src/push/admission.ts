// Whether the upstream takes pushes to a repository. It is asked before the client sends a byte, by opening an upload
// there; that upload is not wasted, the next relay to the repository sends to it.
import type { Clock } from '../base/clock.ts';
import { ExpiringCache } from '../base/expiring-cache.ts';
import { SingleFlight } from '../base/single-flight.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import type { UpstreamWrites } from '../upstream/upstream.ts';

/** How long a yes counts, and an upload that the upstream has opened is taken to be open still. */
const ADMITTED_MS = 60_000;
const ADMITTED_LIMIT = 1_000;

export interface AdmissionDependencies {
  readonly clock: Clock;
  writes(repository: Repository): UpstreamWrites;
}

export class Admission {
  readonly #dependencies: AdmissionDependencies;
  readonly #flight = new SingleFlight<void>();
  /** The upload that was opened, until a relay uses it. */
  readonly #admitted: ExpiringCache<{ location: URL | undefined }>;

  constructor(dependencies: AdmissionDependencies) {
    this.#dependencies = dependencies;
    const { clock } = dependencies;
    this.#admitted = new ExpiringCache({ clock, max: ADMITTED_LIMIT, ttlMs: ADMITTED_MS });
  }

  /** Resolves if the upstream takes pushes to the repository; throws the upstream's error if not. */
  async admit(repository: Repository): Promise<void> {
    const key = imageName(repository);
    if (this.#admitted.get(key) !== undefined) return;
    await this.#flight.run(key, async () => {
      this.#admitted.set(key, { location: await this.#startUpload(repository) });
    }).result;
  }

  /** Where the bytes of a new upload go: to one that admit() has opened, or to another. */
  async location(repository: Repository): Promise<URL> {
    const admitted = this.#admitted.get(imageName(repository));
    if (admitted?.location === undefined) return this.#startUpload(repository);
    const { location } = admitted;
    admitted.location = undefined;
    return location;
  }

  #startUpload(repository: Repository): Promise<URL> {
    return this.#dependencies.writes(repository).startUpload(repository);
  }
}
