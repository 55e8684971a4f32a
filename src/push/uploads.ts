// The uploads that are open. Those with bytes outlive the process: the bytes of each are in a named ingest, its row is in
// metadata, and one that a client comes back to after a restart is resumed. What no client comes back to is given up. One
// without bytes is nowhere but in memory.
import type { Random } from '../base/clock.ts';
import { SingleFlight } from '../base/single-flight.ts';
import type { Ingests } from '../content/ingest.ts';
import type { UploadRow, UploadStore } from '../metadata/metadata.ts';
import type { Algorithm } from '../oci/digest.ts';
import { RegistryError } from '../oci/errors.ts';
import { imageName, type Repository } from '../oci/reference.ts';
import type { UploadReservation } from '../retention/budget.ts';
import type { Admission } from './admission.ts';
import { OpenUploads, RESTING_MS } from './open-uploads.ts';
import type { Stored } from './spool.ts';
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

/** What an earlier process has left of an upload, with its room in the budget. */
interface Left {
  readonly row: UploadRow;
  readonly reservation: UploadReservation;
}

export class Uploads {
  readonly #dependencies: UploadsDependencies;
  readonly #open = new OpenUploads();
  /** Those of an earlier process that no client has asked for yet. */
  readonly #left: Map<string, Left>;
  readonly #openedAtMs: number;
  readonly #sweeping = new SingleFlight<void>();
  /** By id, what resumes or discards an upload of an earlier process. */
  readonly #resuming = new SingleFlight<Upload | undefined>();

  private constructor(dependencies: UploadsDependencies, left: Map<string, Left>) {
    this.#dependencies = dependencies;
    this.#left = left;
    this.#openedAtMs = dependencies.clock.monotonic();
  }

  /** Finds the uploads of an earlier process among its ingests, which are given by name with their sizes in bytes. */
  static async open(dependencies: UploadsDependencies, found: ReadonlyMap<string, number>): Promise<Uploads> {
    const { metadata, budget, clock } = dependencies;
    const rows = await metadata.uploads();
    const left = new Map<string, Left>();
    for (const row of rows) {
      const isYoung = clock.now() - row.startedAtMs < OLDEST_ROW_MS;
      const sizeBytes = isYoung ? found.get(row.id) : undefined;
      if (sizeBytes === undefined) await metadata.removeUpload(row.id);
      else left.set(row.id, { row, reservation: budget.reserveUpload(() => sizeBytes) });
    }
    return new Uploads(dependencies, left);
  }

  /** Of the ingests of an earlier process that are to be kept. */
  get leftNames(): string[] {
    return [...this.#left.keys()];
  }

  /**
   * Opens an upload of a client, which is told by its address, once the upstream has agreed to take one. Throws its error
   * if it does not, and TOOMANYREQUESTS.
   */
  async start(repository: Repository, algorithm: Algorithm, client: string): Promise<Upload> {
    await this.#open.makeRoom(client);
    const { clock, random, admission } = this.#dependencies;
    await admission.admit(repository);
    const upload = this.#create({ id: random.uuid(), repository, algorithm, startedAtMs: clock.now() }, client);
    await this.#open.add(upload);
    return upload;
  }

  /** The open upload with this id; one of an earlier process belongs to the client that asks. Throws BLOB_UPLOAD_UNKNOWN. */
  async find(repository: Repository, id: string, client: string): Promise<Upload> {
    const upload = this.#open.find(id) ?? (await this.#resume(id, client));
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
    await Promise.all([...this.#open.all()].map(upload => upload.finishing));
  }

  async #sweep(): Promise<void> {
    if (this.#dependencies.clock.monotonic() - this.#openedAtMs > ABANDONED_MS) {
      for (const id of this.#left.keys()) await this.#discard(id);
    }
    for (const upload of this.#open.all()) {
      if (upload.idleMs > ABANDONED_MS) await upload.cancel();
      else if (upload.idleMs > RESTING_MS) upload.rest();
    }
  }

  /** Goes on with what an earlier process left. */
  #resume(id: string, client: string): Promise<Upload | undefined> {
    return this.#takeUp(id, async ({ row, reservation }) => {
      const ingest = await this.#dependencies.ingests.resume(row.algorithm, id);
      if (ingest === undefined) return undefined;
      reservation.release();
      const { budget } = this.#dependencies;
      const upload = this.#create(row, client, {
        ingest,
        reservation: budget.reserveUpload(() => ingest.writtenBytes),
      });
      this.#open.begin(upload);
      return upload;
    });
  }

  /** Unless a client is just coming back to it. */
  async #discard(id: string): Promise<void> {
    await this.#takeUp(id, () => this.#dependencies.ingests.discard(id).then(() => undefined));
  }

  /** What `open` does not go on with is forgotten. */
  #takeUp(id: string, open: (left: Left) => Promise<Upload | undefined>): Promise<Upload | undefined> {
    return this.#resuming.run(id, async () => {
      const left = this.#left.get(id);
      if (left === undefined) return undefined;
      const upload = await open(left);
      this.#left.delete(id);
      if (upload !== undefined) return upload;
      left.reservation.release();
      await this.#dependencies.metadata.removeUpload(id);
      return undefined;
    }).result;
  }

  #create(row: UploadRow, client: string, stored?: Stored): Upload {
    const { metadata, ingests, log } = this.#dependencies;
    let isRecorded = stored !== undefined;
    const upload: Upload = new Upload(
      this.#dependencies,
      row,
      client,
      {
        open: async () => {
          await this.#open.makeRoom(client);
          this.#open.begin(upload);
          isRecorded = true;
          await metadata.putUpload(row);
          return ingests.begin(row.algorithm, row.id);
        },
        idled: () => this.#open.idled(upload),
        over: async () => {
          this.#open.remove(upload);
          if (!isRecorded) return;
          const what = `an upload to ${imageName(row.repository)}`;
          await metadata
            .removeUpload(row.id)
            .catch(error =>
              log.warn({}, `${what} is over, and its record stays until the next start: ${error.message}`),
            );
        },
      },
      stored,
    );
    return upload;
  }
}
