// The uploads that are open. They outlive the process: the bytes of each are in a named ingest, its row is in metadata,
// and one that a client comes back to after a restart is resumed. What no client comes back to is given up.
import type { Random } from '../base/clock.ts';
import { SingleFlight } from '../base/single-flight.ts';
import { StorageFailure } from '../content/content.ts';
import type { Ingest, Ingests } from '../content/ingest.ts';
import type { UploadRow, UploadStore } from '../metadata/metadata.ts';
import type { Algorithm } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import type { Admission } from './admission.ts';
import { Upload, type UploadDependencies } from './upload.ts';

export interface UploadsDependencies extends UploadDependencies {
  readonly ingests: Ingests;
  readonly metadata: UploadDependencies['metadata'] & UploadStore;
  readonly random: Random;
  readonly admission: Admission;
}

/** An upload that has been idle for this long is given up, also one that an earlier process left. */
const ABANDONED_MS = 3_600_000;
/** How old a row of an earlier process may be, by the wall clock. */
const OLDEST_ROW_MS = 24 * ABANDONED_MS;
/** An upload that has been idle for this long occupies no connection to the upstream. */
const RESTING_MS = 60_000;
const OPEN_LIMIT = 1_000;

export class Uploads {
  readonly #dependencies: UploadsDependencies;
  readonly #open = new Map<string, Upload>();
  /** Those of an earlier process that no client has asked for yet. */
  readonly #left: Map<string, UploadRow>;
  readonly #openedAtMs: number;
  readonly #sweeping = new SingleFlight<void>();
  /** By id, what resumes or discards an upload of an earlier process. */
  readonly #resuming = new SingleFlight<Upload | undefined>();

  private constructor(dependencies: UploadsDependencies, left: readonly UploadRow[]) {
    this.#dependencies = dependencies;
    this.#left = new Map(left.map(row => [row.id, row]));
    this.#openedAtMs = dependencies.clock.monotonic();
  }

  /** Finds the uploads of an earlier process, and removes what else it left. */
  static async open(dependencies: UploadsDependencies): Promise<Uploads> {
    const { metadata, ingests, clock } = dependencies;
    const left: UploadRow[] = [];
    for (const row of await metadata.uploads()) {
      if (clock.now() - row.startedAtMs < OLDEST_ROW_MS) left.push(row);
      else await metadata.removeUpload(row.id);
    }
    await ingests.keep(new Set(left.map(({ id }) => id)));
    return new Uploads(dependencies, left);
  }

  /** Opens an upload, once the upstream has agreed to take one. Throws its error if it does not, and TOOMANYREQUESTS. */
  async start(repository: Repository, algorithm: Algorithm): Promise<Upload> {
    await this.sweep();
    if (this.#open.size >= OPEN_LIMIT) {
      const message = `${OPEN_LIMIT} uploads are open, which is the most; try again`;
      throw new RegistryError('TOOMANYREQUESTS', message, { retryAfterMs: 60_000 });
    }
    const { ingests, metadata, clock, random, admission } = this.#dependencies;
    await admission.admit(repository);
    const row = { id: random.uuid(), repository, algorithm, startedAtMs: clock.now() };
    let ingest: Ingest | undefined;
    try {
      await metadata.putUpload(row);
      ingest = await ingests.begin(algorithm, row.id);
    } catch (error) {
      if (!(error instanceof StorageFailure)) throw error;
      this.#warn(repository, error);
    }
    return this.#add(row, ingest);
  }

  /** The open upload with this id. Throws BLOB_UPLOAD_UNKNOWN. */
  async find(repository: Repository, id: string): Promise<Upload> {
    const upload = this.#open.get(id) ?? (await this.#resume(id));
    if (upload === undefined || imageName(upload.repository) !== imageName(repository) || upload.isOver) {
      const what = `there is no such upload to ${imageName(repository)}`;
      throw new RegistryError('BLOB_UPLOAD_UNKNOWN', `${what}: it was finished, cancelled or given up; begin another`);
    }
    return upload;
  }

  /** Gives up abandoned uploads, and releases the upstream for those that rest. To be called from time to time. */
  sweep(): Promise<void> {
    return this.#sweeping.run('', () => this.#sweep()).result;
  }

  /** Resolves when no upload is being finished. */
  async settled(): Promise<void> {
    await Promise.all([...this.#open.values()].map(upload => upload.finishing));
  }

  async #sweep(): Promise<void> {
    if (this.#dependencies.clock.monotonic() - this.#openedAtMs > ABANDONED_MS) {
      for (const { id } of this.#left.values()) await this.#discard(id);
    }
    for (const upload of this.#open.values()) {
      if (upload.idleMs > ABANDONED_MS) await upload.cancel();
      else if (upload.idleMs > RESTING_MS) upload.rest();
    }
  }

  #resume(id: string): Promise<Upload | undefined> {
    return this.#takeUp(id, ({ algorithm }) => this.#dependencies.ingests.resume(algorithm, id));
  }

  /** Unless a client is just coming back to it. */
  async #discard(id: string): Promise<void> {
    await this.#takeUp(id, () => this.#dependencies.ingests.discard(id).then(() => undefined));
  }

  /** Goes on with what an earlier process left, if `open` finds its ingest; else it is forgotten. */
  #takeUp(id: string, open: (row: UploadRow) => Promise<Ingest | undefined>): Promise<Upload | undefined> {
    return this.#resuming.run(id, async () => {
      const row = this.#left.get(id);
      if (row === undefined) return undefined;
      const ingest = await open(row);
      this.#left.delete(id);
      if (ingest !== undefined) return this.#add(row, ingest);
      await this.#dependencies.metadata.removeUpload(id);
      return undefined;
    }).result;
  }

  #add(row: UploadRow, ingest: Ingest | undefined): Upload {
    const onOver = () => {
      this.#open.delete(row.id);
      return this.#dependencies.metadata.removeUpload(row.id).catch(error => this.#warn(row.repository, error));
    };
    const upload = new Upload(this.#dependencies, row, ingest, onOver);
    this.#open.set(row.id, upload);
    return upload;
  }

  #warn(repository: Repository, error: Error): void {
    const what = `an upload to ${imageName(repository)}`;
    this.#dependencies.log.warn({}, `${what} would not survive a restart: ${error.message}`);
  }
}
