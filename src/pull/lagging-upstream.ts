// An upstream that lags behind what was written to it through here: its answers, without those that are from before our
// writes (local-writes.ts). What we pushed and it does not show yet is asked for again a few times; it is only asked for
// when it is not kept here.
import { type Digest, digestOf } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { imageName, type Reference, type Repository } from '../oci/reference.ts';
import type { TransferPermits } from '../upstream/permits.ts';
import {
  type BlobBody,
  isNotFound,
  type OpenOptions,
  type Spares,
  type Upstream,
  type UpstreamManifest,
} from '../upstream/upstream.ts';
import { WriteClient, type WriteClientOptions } from '../upstream/writes.ts';
import type { LocalWrites, Standing } from './local-writes.ts';

export class LaggingUpstream implements Upstream {
  readonly name: string;
  readonly offline: boolean;
  readonly downloads: TransferPermits;
  readonly spares: Spares;
  readonly #upstream: Upstream;
  readonly #writes: LocalWrites;

  constructor(upstream: Upstream, writes: LocalWrites) {
    this.name = upstream.name;
    this.offline = upstream.offline;
    this.downloads = upstream.downloads;
    this.spares = upstream.spares;
    this.#upstream = upstream;
    this.#writes = writes;
  }

  async getManifest(repository: Repository, reference: Reference): Promise<UpstreamManifest> {
    const ask = () => this.#upstream.getManifest(repository, reference);
    if (reference.tag === undefined) return this.#content('MANIFEST_UNKNOWN', repository, reference.digest, ask);
    const standing = await this.#writes.standing(repository, reference.tag);
    const answer = await this.#newer(repository, reference.tag, standing, ask());
    return answer ?? this.#ours(repository, reference.tag, standing);
  }

  async getIfChanged(repository: Repository, tag: string, known: Digest): Promise<UpstreamManifest | undefined> {
    const standing = await this.#writes.standing(repository, tag);
    const unchanged: UpstreamManifest = { bytes: Buffer.alloc(0), contentType: undefined, digest: known };
    const asking = this.#upstream.getIfChanged(repository, tag, known).then(came => came ?? unchanged);
    const answer = await this.#newer(repository, tag, standing, asking);
    const isUnchanged = answer === unchanged || (answer === undefined && standing?.digest === known);
    return isUnchanged ? undefined : (answer ?? this.#ours(repository, tag, standing));
  }

  async confirmManifest(repository: Repository, digest: Digest): Promise<void> {
    await this.#confirm('MANIFEST_UNKNOWN', repository, digest, this.#upstream.confirmManifest(repository, digest));
  }

  async confirmBlob(repository: Repository, digest: Digest): Promise<void> {
    await this.#confirm('BLOB_UNKNOWN', repository, digest, this.#upstream.confirmBlob(repository, digest));
  }

  async statBlob(repository: Repository, digest: Digest): Promise<number> {
    return this.#content('BLOB_UNKNOWN', repository, digest, () => this.#upstream.statBlob(repository, digest));
  }

  async openBlob(repository: Repository, digest: Digest, options: OpenOptions, signal: AbortSignal): Promise<BlobBody> {
    const open = () => this.#upstream.openBlob(repository, digest, options, signal);
    return this.#content('BLOB_UNKNOWN', repository, digest, open, signal);
  }

  async listTags(repository: Repository): Promise<readonly string[]> {
    let listed: readonly string[] = [];
    try {
      listed = await this.#upstream.listTags(repository);
    } catch (error) {
      if (!isNotFound(error) || this.#writes.listed(repository, []).length === 0) throw error;
    }
    return this.#writes.listed(repository, listed);
  }

  /** Not corrected: what is known of referrers is more than a list (local-referrers.ts). */
  listReferrers(repository: Repository, digest: Digest): Promise<readonly unknown[] | undefined> {
    return this.#upstream.listReferrers(repository, digest);
  }

  identity(repository: Repository): Promise<string> {
    return this.#upstream.identity(repository);
  }

  /** The answer for a tag; undefined if it is from before the write that stands. */
  async #newer<A extends UpstreamManifest>(
    repository: Repository,
    tag: string,
    standing: Standing | undefined,
    asking: Promise<A>,
  ): Promise<A | undefined> {
    let answer: A | undefined;
    try {
      answer = this.#unlessDeleted(repository, tag, await asking);
    } catch (error) {
      if (!isNotFound(error) || standing?.digest === undefined) throw error;
      return undefined;
    }
    if (standing === undefined) return answer;
    const digest = digestIn(answer);
    if (await standing.isOlder(digest)) return undefined;
    if (digest !== standing.digest && standing.isEndedByNewer) this.#writes.forget(repository, { tag });
    return answer;
  }

  /** What the tag points to by the write that stands. */
  #ours(repository: Repository, tag: string, standing: Standing | undefined): Promise<UpstreamManifest> {
    if (standing?.digest === undefined) throw gone('MANIFEST_UNKNOWN', imageName(repository, { tag }));
    return this.getManifest(repository, { digest: standing.digest });
  }

  /** An answer that names a manifest which was deleted through here is from before that. */
  #unlessDeleted<A extends UpstreamManifest | undefined>(repository: Repository, tag: string, answer: A): A {
    if (answer !== undefined && this.#writes.stateOf(repository, digestIn(answer)) === 'deleted') {
      throw gone('MANIFEST_UNKNOWN', imageName(repository, { tag }));
    }
    return answer;
  }

  /** Content that was deleted through here is not asked for, and what was pushed is asked for again. */
  async #content<T>(
    code: 'MANIFEST_UNKNOWN' | 'BLOB_UNKNOWN',
    repository: Repository,
    digest: Digest,
    ask: () => Promise<T>,
    signal?: AbortSignal,
  ): Promise<T> {
    const state = this.#writes.stateOf(repository, digest);
    if (state === undefined) return ask();
    if (state === 'deleted') throw gone(code, imageName(repository, { digest }));
    return this.#writes.retrying(ask, isNotFound, signal && { signal });
  }

  async #confirm(
    code: 'MANIFEST_UNKNOWN' | 'BLOB_UNKNOWN',
    repository: Repository,
    digest: Digest,
    confirming: Promise<void>,
  ): Promise<void> {
    await confirming.catch(error => {
      if (!isNotFound(error) || this.#writes.stateOf(repository, digest) !== 'pushed') throw error;
    });
    if (this.#writes.stateOf(repository, digest) === 'deleted') throw gone(code, imageName(repository, { digest }));
  }
}

/** Writes to such an upstream: a blob that was deleted through here is sent again, though it may still show. */
export class LaggingWrites extends WriteClient {
  readonly #localWrites: LocalWrites;

  constructor(options: WriteClientOptions, localWrites: LocalWrites) {
    super(options);
    this.#localWrites = localWrites;
  }

  override async holdsBlob(repository: Repository, digest: Digest): Promise<boolean> {
    if (this.#localWrites.stateOf(repository, digest) === 'deleted') return false;
    return super.holdsBlob(repository, digest);
  }
}

/** What an answer is, by its own word if it has one; its bytes are verified where they are stored. */
function digestIn({ bytes, digest }: UpstreamManifest): Digest {
  return digest ?? digestOf(bytes);
}

function gone(code: 'MANIFEST_UNKNOWN' | 'BLOB_UNKNOWN', what: string): RegistryError {
  return new RegistryError(code, `${what} was deleted through this cache a moment ago`);
}
