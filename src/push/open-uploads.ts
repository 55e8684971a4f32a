// The uploads that are open, and which of them goes when there are too many. One without bytes costs next to nothing and
// goes when newer ones come, the oldest first: so none of them keeps anybody from pushing. Those with bytes have a hard
// bound, where only one that has been idle for a while makes way.
import { RegistryError } from '../oci/errors.ts';
import type { Upload } from './upload.ts';

/** Uploads without bytes, of all clients and of one. A client is an address: behind one there may be many pushers. */
const EMPTY_LIMIT = 10_000;
const EMPTY_CLIENT_LIMIT = 5_000;
/** Uploads with bytes. */
const BEGUN_LIMIT = 1_000;
const BEGUN_CLIENT_LIMIT = 500;
/** How many that wait for their client may hold a file open. */
const FILES_LIMIT = 16;
/** An upload that has been idle for this long occupies nothing but its place, and loses that to one that needs it. */
export const RESTING_MS = 60_000;
const RETRY_MS = 60_000;

/** Uploads, the oldest first. */
type Group = Set<Upload>;

export class OpenUploads {
  readonly #byId = new Map<string, Upload>();
  readonly #empty: Group = new Set();
  readonly #begun: Group = new Set();
  readonly #ofClients = new Map<string, { readonly empty: Group; readonly begun: Group }>();
  /** Those that may hold a file open, the latest used last. */
  readonly #awake: Group = new Set();

  all(): Iterable<Upload> {
    return this.#byId.values();
  }

  find(id: string): Upload | undefined {
    return this.#byId.get(id);
  }

  /** One without bytes. Too many of them: the oldest is given up. */
  async add(upload: Upload): Promise<void> {
    const { empty } = this.#of(upload.client);
    this.#byId.set(upload.id, upload);
    for (const group of [this.#empty, empty]) group.add(upload);
    if (empty.size > EMPTY_CLIENT_LIMIT) await giveUpOldest(empty);
    else if (this.#empty.size > EMPTY_LIMIT) await giveUpOldest(this.#empty);
  }

  /** One with bytes, whether it was here without them or not. */
  begin(upload: Upload): void {
    this.remove(upload);
    this.#byId.set(upload.id, upload);
    for (const group of [this.#begun, this.#of(upload.client).begun]) group.add(upload);
  }

  /** Throws TOOMANYREQUESTS when another upload of the client with bytes would be one too many. */
  async makeRoom(client: string): Promise<void> {
    const begun = this.#ofClients.get(client)?.begun;
    if (begun !== undefined && begun.size >= BEGUN_CLIENT_LIMIT) await giveUpIdle(begun, `of ${client} `);
    if (this.#begun.size >= BEGUN_LIMIT) await giveUpIdle(this.#begun, '');
  }

  /** Its client has nothing more to send for the moment. */
  idled(upload: Upload): void {
    this.#awake.delete(upload);
    this.#awake.add(upload);
    const [longest] = this.#awake;
    if (this.#awake.size <= FILES_LIMIT || longest === undefined) return;
    this.#awake.delete(longest);
    longest.restFile();
  }

  remove(upload: Upload): void {
    const { empty, begun } = this.#of(upload.client);
    for (const group of [empty, begun, this.#empty, this.#begun, this.#awake]) group.delete(upload);
    this.#byId.delete(upload.id);
    if (empty.size + begun.size === 0) this.#ofClients.delete(upload.client);
  }

  #of(client: string) {
    const groups = this.#ofClients.get(client) ?? { empty: new Set(), begun: new Set() };
    this.#ofClients.set(client, groups);
    return groups;
  }
}

async function giveUpOldest(uploads: Group): Promise<void> {
  for (const upload of uploads) if (!upload.isBusy) return upload.cancel();
}

async function giveUpIdle(uploads: Group, whose: string): Promise<void> {
  let longest: Upload | undefined;
  for (const upload of uploads) if (upload.idleMs > (longest?.idleMs ?? RESTING_MS)) longest = upload;
  if (longest !== undefined) return longest.cancel();
  const message = `${uploads.size} uploads ${whose}have begun and are not finished, which is the most; try again`;
  throw new RegistryError('TOOMANYREQUESTS', message, { retryAfterMs: RETRY_MS });
}
