// What an entry of an index of referrers should tell of its manifest and does not: cosign 3 lists its signatures by the
// type of their empty config, and without annotations, so that no filter finds them. It is read from the manifest, once:
// a list is asked for again and again, and its manifests may be large.
import { LRUCache } from 'lru-cache';
import { FairSemaphore } from '../base/fair-semaphore.ts';
import { SingleFlight } from '../base/single-flight.ts';
import { type Digest, parseDigest } from '../oci/digest.ts';
import { readManifest } from '../oci/reading.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import { artifactTypeOf, descriptorOf, entryDigest } from '../oci/referrers.ts';
import { isUnavailable } from '../upstream/upstream.ts';
import type { Manifests } from './manifests.ts';

const EMPTY_TYPE = 'application/vnd.oci.empty.v1+json';
/** Of one list; more are left as they are. */
const READ_LIMIT = 100;
/** Of all lists: each may be a manifest of some MiB. */
const CONCURRENT_READS = 8;
const REMEMBERED_BYTES = 8 * 1024 * 1024;
/** What an entry takes beside its text. */
const ENTRY_BYTES = 200;

type Details = Readonly<Record<string, unknown>>;

export class ReferrerDetails {
  readonly #manifests: Pick<Manifests, 'pull'>;
  /** By manifest and the repository through which it was read: content is served through links of its own. */
  readonly #known = new LRUCache<string, Details>({
    maxSize: REMEMBERED_BYTES,
    sizeCalculation: (details, key) => ENTRY_BYTES + key.length + JSON.stringify(details).length,
  });
  readonly #reading = new SingleFlight<Details>();
  readonly #permits = new FairSemaphore({ permits: CONCURRENT_READS });

  constructor(manifests: Pick<Manifests, 'pull'>) {
    this.#manifests = manifests;
  }

  /** The entries, with type and annotations of their manifests where they lack them. What cannot be read stays as it is. */
  async complete(repository: Repository, entries: readonly unknown[]): Promise<readonly unknown[]> {
    const lacking = entries.flatMap((entry, i) => (lacksDetails(entry) ? [i] : [])).slice(0, READ_LIMIT);
    if (lacking.length === 0) return entries;
    const completed = [...entries];
    let isAway = false;
    const rest = lacking.values();
    const read = async () => {
      // An upstream that is away is not waited for a hundred times.
      for (const i of rest) {
        if (isAway) return;
        completed[i] = await this.#completed(repository, entries[i]).catch(error => {
          isAway ||= isUnavailable(error);
          return entries[i];
        });
      }
    };
    await Promise.all(Array.from({ length: CONCURRENT_READS }, read));
    return completed;
  }

  async #completed(repository: Repository, entry: unknown): Promise<unknown> {
    const digest = parseDigest(entryDigest(entry) ?? '');
    if (digest === undefined) return entry;
    const key = imageName(repository, { digest });
    let details = this.#known.get(key);
    if (details === undefined) {
      details = await this.#reading.run(key, () => this.#read(repository, digest)).result;
      this.#known.set(key, details);
    }
    const { artifactType, ...others } = details;
    // What the entry tells itself is kept, but its type.
    const told = { ...others, ...(entry as object) };
    return artifactType === undefined ? told : { ...told, artifactType };
  }

  async #read(repository: Repository, digest: Digest): Promise<Details> {
    const release = await this.#permits.acquire(imageName(repository));
    try {
      const { manifest } = await this.#manifests.pull(repository, digest);
      const info = await readManifest(manifest.bytes, manifest.mediaType);
      const { artifactType, annotations } = descriptorOf(manifest, info);
      return {
        ...(artifactType !== undefined && { artifactType }),
        ...(annotations !== undefined && { annotations }),
      };
    } finally {
      release();
    }
  }
}

function lacksDetails(entry: unknown): boolean {
  const type = artifactTypeOf(entry);
  return entryDigest(entry) !== undefined && (type === undefined || type === '' || type === EMPTY_TYPE);
}
