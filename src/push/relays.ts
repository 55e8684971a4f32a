// Which relays are shared. Each upload has its own, with one exception: while a relay to a repository is known to send a
// digest, other uploads of that digest to it join the relay. Known are the digests that clients name before the first
// byte, and those of uploads that are being finished. Sharing ends at the repository: two of them may belong to people
// who must not get bytes of each other.
import { Condition } from '../base/condition.ts';
import type { Source } from '../content/content.ts';
import type { Digest } from '../oci/digest.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import type { Outcome } from '../pull/outcome.ts';
import { Relay, type RelayDependencies } from './relay.ts';
import type { RelaySource } from './relay-source.ts';

/** A relay, and whether another upload has started it. */
export interface Joined {
  readonly relay: Relay;
  readonly joined: boolean;
}

export class Relays {
  readonly #dependencies: RelayDependencies;
  /** By repository and digest. */
  readonly #shared = new Map<string, Relay>();

  constructor(dependencies: RelayDependencies) {
    this.#dependencies = dependencies;
  }

  /** Joins the relay that sends the digest, or starts one, which is shared if the digest is known. */
  join(repository: Repository, digest: Digest | undefined, source: RelaySource): Joined {
    const running = digest && !source.isSingleUse ? this.find(repository, digest) : undefined;
    running?.offer(source);
    const relay = running ?? new Relay(this.#dependencies, repository, source);
    if (digest !== undefined) this.share(relay, digest);
    return { relay, joined: running !== undefined };
  }

  /** Lets others join the relay, which is going to send this digest, unless they can join another one already. */
  share(relay: Relay, digest: Digest): void {
    if (relay.isSingleUse || !relay.isOpen || this.find(relay.repository, digest) !== undefined) return;
    const key = imageName(relay.repository, { digest });
    this.#shared.set(key, relay);
    void relay.result.then(() => {
      if (this.#shared.get(key) === relay) this.#shared.delete(key);
    });
  }

  /** The shared relay that sends the digest to the repository, if there is one. */
  find(repository: Repository, digest: Digest): Relay | undefined {
    const relay = this.#shared.get(imageName(repository, { digest }));
    return relay?.isOpen ? relay : undefined;
  }

  /**
   * Resolves when the upstream has the digest, all bytes of which are in the source, to how that came about; throws why
   * it does not. `first`: the relay that the source is with already.
   */
  async send(repository: Repository, digest: Digest, source: RelaySource, first?: Joined): Promise<Outcome> {
    first?.relay.offer(source);
    for (let current = first; ; current = undefined) {
      const { relay, joined } = current ?? this.join(repository, digest, source);
      const result = await relay.result;
      if ('accepted' in result && result.accepted === digest) return joined ? 'joined' : 'miss';
      // What was abandoned, failed half-way or turned out to be something else is sent as a whole.
      if ('failure' in result && result.isFinal) throw result.failure;
    }
  }

  /** As send(), of stored content. */
  async sendStored(repository: Repository, digest: Digest, content: Source): Promise<void> {
    const ingest = {
      writtenBytes: content.sizeBytes,
      progress: new Condition(),
      reader: () => ({ read: content.read.bind(content), close: () => {} }),
    };
    await this.send(repository, digest, { ingest, complete: digest, isSingleUse: false });
  }

  /** Whether the upstream has the blob; false also when it does not say. */
  holds(repository: Repository, digest: Digest): Promise<boolean> {
    const writes = this.#dependencies.writes(repository);
    return writes.holdsBlob(repository, digest).catch(() => false);
  }
}
