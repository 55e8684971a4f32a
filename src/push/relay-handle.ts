// One upload's way to the upstream: when it gets a relay, which one, and what follows when that one ends. To the upload
// it may only say that the client has to wait, or that the upload is not wanted.
import type { Digest } from '../oci/digest.ts';
import type { Repository } from '../oci/reference.ts';
import type { Outcome } from '../pull/outcome.ts';
import { isTransient } from './relay.ts';
import type { RelaySource } from './relay-source.ts';
import type { Joined, Relays } from './relays.ts';

/** An upload, as its relays see it. */
export type RelayedUpload = RelaySource & { readonly repository: Repository };

/** What is shorter is sent when it is complete. */
const STREAMED_BYTES = 1024 * 1024;

export class RelayHandle {
  readonly #relays: Relays;
  readonly #upload: RelayedUpload;
  readonly #onFailed: () => void;
  #current: Joined | undefined;
  /** There is a relay, or is going to be one if the upload has to be sent. */
  #hasBegun = false;
  #expected: Digest | undefined;
  /** Whether the upstream has what is expected. */
  #held: Promise<boolean> | undefined;
  /** Why the upload is not going to be accepted, whatever else it brings. */
  #failure: Error | undefined;

  /** `onFailed`: the upload need not go on. */
  constructor(relays: Relays, upload: RelayedUpload, onFailed: () => void) {
    this.#relays = relays;
    this.#upload = upload;
    this.#onFailed = onFailed;
  }

  /** The client names the digest before its bytes: what the upstream has, or another upload sends, is not sent. */
  expect(digest: Digest): void {
    if (this.#hasBegun) return;
    this.#expected = digest;
    const { repository } = this.#upload;
    if (this.#relays.find(repository, digest) !== undefined) this.#join(digest);
    else this.#held = this.#relays.holds(repository, digest);
  }

  /** Throws the upstream's error if it does not take the upload: no one needs to send the rest. */
  assertWanted(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }

  /** So many bytes are here: starts a relay when they are enough. A promise asks the client to wait for the upstream. */
  keepUp(receivedBytes: number): Promise<void> | undefined {
    if (this.#current === undefined) {
      if (receivedBytes >= STREAMED_BYTES && !this.#hasBegun) void this.#begin();
      return undefined;
    }
    const { relay } = this.#current;
    const sent = relay.keepUp(receivedBytes);
    // The client whose upload the relay reads may have stopped sending.
    if (sent !== undefined) relay.offer(this.#upload);
    return sent;
  }

  /** The upload can be read only once from now on: it gets a relay of its own, at once. */
  isolate(): void {
    if (this.#current?.relay.isSingleUse) return;
    this.rest();
    this.#join(undefined);
  }

  /** Releases the upstream until there are more bytes, if any come. */
  rest(): void {
    const current = this.#current;
    this.#current = undefined;
    this.#hasBegun = false;
    current?.relay.leave(this.#upload);
  }

  /** Resolves when the upstream has the complete upload, to how that came about; throws why it does not. */
  async finish(digest: Digest): Promise<Outcome> {
    this.assertWanted();
    if ((await this.#held) && digest === this.#expected) {
      this.rest();
      return 'revalidated';
    }
    this.#leaveIfBehind(digest);
    try {
      return await this.#relays.send(this.#upload.repository, digest, this.#upload, this.#current);
    } catch (error) {
      // The next finish, if there is one, tries again.
      this.rest();
      throw error;
    }
  }

  /** Lets another relay send the digest that is not behind the present one, or else others join this one. */
  #leaveIfBehind(digest: Digest): void {
    const relay = this.#current?.relay;
    if (relay === undefined || relay.isSingleUse || !relay.isOpen) return;
    const other = this.#relays.find(relay.repository, digest);
    if (other === undefined) this.#relays.share(relay, digest);
    else if (other !== relay && other.sentBytes >= relay.sentBytes) this.rest();
  }

  async #begin(): Promise<void> {
    this.#hasBegun = true;
    const isHeld = await this.#held;
    if (!isHeld && this.#hasBegun && this.#current === undefined) this.#join(this.#expected);
  }

  #join(digest: Digest | undefined): void {
    const current = this.#relays.join(this.#upload.repository, digest, this.#upload);
    this.#current = current;
    this.#hasBegun = true;
    void current.relay.result.then(result => {
      if (current !== this.#current || 'accepted' in result) return;
      // Another upload was being read, and was given up: the next bytes start another relay.
      if ('abandoned' in result) return this.rest();
      if (!this.#upload.isSingleUse && isTransient(result.failure)) return;
      this.#failure = result.failure;
      this.#onFailed();
    });
  }
}
