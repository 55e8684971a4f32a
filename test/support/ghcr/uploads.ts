// Blob uploads: opened by a POST, fed by PATCHes and the closing PUT, which names the digest; or a blob is mounted from
// another package. An upload belongs to its repository, expires, and keeps its bytes in a spool. Requests for one
// upload are handled one after another.
import { randomUUID } from 'node:crypto';
import { parseDigest } from '../../../src/oci/digest.ts';
import type { Auth } from './auth.ts';
import type { Exchange, Reply } from './exchange.ts';
import { type Answer, answers, errorAnswer } from './faults.ts';
import { RequestGone } from './receive.ts';
import { Spool, type Spools } from './spool.ts';
import type { State } from './state.ts';
import type { Switches } from './switches.ts';

const UNKNOWN = errorAnswer(404, 'BLOB_UPLOAD_UNKNOWN', 'blob upload unknown to registry');
const INVALID = errorAnswer(404, 'BLOB_UPLOAD_INVALID', 'blob upload invalid');
const OUT_OF_ORDER = errorAnswer(416, 'REQUESTED_RANGE_NOT_SATISFIABLE', 'the chunk is out of order');
const CHUNK_TOO_LARGE = errorAnswer(
  416,
  'REQUESTED_RANGE_NOT_SATISFIABLE',
  'the request body is too large and exceeds the maximum permissible limit of 4.00MiB',
);
const BLOB_TOO_LARGE = errorAnswer(413, 'SIZE_INVALID', 'the blob is larger than a layer may be');

interface Upload {
  readonly id: string;
  readonly repository: string;
  readonly startedAtMs: number;
  readonly spool: Spool;
  /** What the query of its Location must contain, when it has one. */
  state: string;
  /** Resolves when the previous request is done. */
  turn: Promise<unknown>;
}

export class Uploads {
  readonly #state: State;
  readonly #auth: Auth;
  readonly #spools: Spools;
  readonly #uploads = new Map<string, Upload>();

  constructor(state: State, auth: Auth, spools: Spools) {
    this.#state = state;
    this.#auth = auth;
    this.#spools = spools;
  }

  /** POST: mounts the blob if it can, else opens an upload. */
  start(exchange: Exchange): Reply {
    const { record, request, url } = exchange;
    if (request.method !== 'POST') return answers.unsupported;
    const { repository = '' } = record;
    if (this.#mount(exchange, repository)) return created(repository, url.searchParams.get('mount') ?? '');

    const { switches, now } = this.#state;
    const upload = {
      id: randomUUID(),
      repository,
      startedAtMs: now(),
      spool: new Spool(this.#spools, switches.digests),
      state: '',
      turn: Promise.resolve(),
    };
    this.#uploads.set(upload.id, upload);
    return this.#progress(upload, 202);
  }

  #mount({ request, url }: Exchange, repository: string): boolean {
    const { packages, switches, lags } = this.#state;
    const named = url.searchParams.get('from');
    const everywhere = switches.nextSpec ? packages.list().map(({ name }) => name) : [];
    const blob = (named === null ? everywhere : [named])
      .filter(from => this.#auth.mayPull(request, from))
      .map(from => packages.get(from)?.blobs.get(url.searchParams.get('mount') ?? ''))
      .find(found => found !== undefined);
    if (!blob) return false;
    const target = packages.obtainFor(this.#auth.userOf(request), repository);
    lags.write('blob', target, blob.digest, () => target.blobs.set(blob.digest, blob));
    return true;
  }

  /** Any request for an upload's own URL. */
  async answer(exchange: Exchange): Promise<Reply> {
    const { upload: id = '', repository, method } = exchange.record;
    const upload = this.#uploads.get(id);
    if (!upload || upload.repository !== repository) return UNKNOWN;
    const before = upload.turn;
    const { promise, resolve } = Promise.withResolvers<void>();
    upload.turn = promise;
    await before;
    try {
      const { switches, now } = this.#state;
      if (now() - upload.startedAtMs >= switches.uploadTtlMs) await this.#remove(upload);
      const state = exchange.url.searchParams.get('_state') ?? '';
      if (!this.#uploads.has(id) || state !== upload.state) return UNKNOWN;
      if (method === 'GET') return this.#progress(upload, 204);
      if (method === 'PATCH') return await this.#patch(exchange, upload);
      if (method === 'PUT') return await this.#finish(exchange, upload);
      if (method !== 'DELETE') return answers.unsupported;
      await this.#remove(upload);
      return { status: 204 };
    } finally {
      resolve();
    }
  }

  /** Discards all uploads. No connection may be left. */
  async close(): Promise<void> {
    for (const upload of this.#uploads.values()) {
      await upload.turn;
      await this.#remove(upload);
    }
  }

  async #patch(exchange: Exchange, upload: Upload): Promise<Reply> {
    return (await this.#receive(exchange, upload)) ?? this.#progress(upload, 202);
  }

  async #finish(exchange: Exchange, upload: Upload): Promise<Reply> {
    const error = await this.#receive(exchange, upload);
    if (error) return error;
    this.#uploads.delete(upload.id);

    const { packages, switches, lags } = this.#state;
    const digest = parseDigest(exchange.url.searchParams.get('digest') ?? '');
    const allowed = digest && switches.digests.some(algorithm => digest.startsWith(`${algorithm}:`));
    const blob = allowed ? await upload.spool.finish(digest) : undefined;
    if (!blob) {
      await upload.spool.discard();
      return switches.badFinish === 404 ? INVALID : answers.digestInvalid;
    }
    const target = packages.obtainFor(this.#auth.userOf(exchange.request), upload.repository);
    const { blobs } = target;
    // An existing blob is as good, and may just be being sent.
    if (blobs.has(blob.digest)) await upload.spool.discard();
    else lags.write('blob', target, blob.digest, () => blobs.set(blob.digest, blob));
    return created(upload.repository, blob.digest);
  }

  /** Appends the body to the upload; resolves to the error response when it is not accepted. */
  async #receive(exchange: Exchange, upload: Upload): Promise<Answer | undefined> {
    return this.#checkRange(exchange, upload) ?? (await this.#append(exchange, upload));
  }

  /** Why a chunk with a Content-Range, of any request, is rejected before it is read. */
  #checkRange({ request, body }: Exchange, { spool }: Upload): Answer | undefined {
    const contentRange = request.headers['content-range'];
    if (contentRange === undefined) return undefined;
    const [, start, end] = /^(\d+)-(\d+)$/.exec(contentRange) ?? [];
    const size = Number(end) - Number(start) + 1;
    if (Number(start) !== spool.sizeBytes || !(size >= 0)) return OUT_OF_ORDER;
    if (request.method === 'PATCH' && size > this.#state.switches.chunkLimitBytes) return CHUNK_TOO_LARGE;
    if ((body.announcedBytes ?? size) === size) return undefined;
    return errorAnswer(400, 'SIZE_INVALID', 'Content-Range and Content-Length do not agree');
  }

  /** Removes the upload when the body makes it too large. */
  async #append({ body }: Exchange, upload: Upload): Promise<Answer | undefined> {
    const { blobLimitBytes, brokenUpload } = this.#state.switches;
    const { spool } = upload;
    const tooLarge = () => spool.sizeBytes > blobLimitBytes;
    try {
      if (spool.sizeBytes + (body.announcedBytes ?? 0) <= blobLimitBytes) {
        for await (const chunk of body.chunks()) {
          await spool.append(chunk);
          if (tooLarge()) break;
        }
        if (!tooLarge()) return undefined;
      }
    } catch (error) {
      if (error instanceof RequestGone && brokenUpload === 'lost') await this.#remove(upload);
      throw error;
    }
    await this.#remove(upload);
    return BLOB_TOO_LARGE;
  }

  async #remove(upload: Upload): Promise<void> {
    this.#uploads.delete(upload.id);
    await upload.spool.discard();
  }

  /** How many bytes the upload has, and where to continue. */
  #progress(upload: Upload, status: number): Reply {
    const { uploadState, uploadLocation } = this.#state.switches;
    const { id, repository, spool } = upload;
    upload.state = uploadState ? randomUUID() : '';
    const path = `/v2/${repository}/blobs/upload/${id}${uploadState ? `?_state=${upload.state}` : ''}`;
    return {
      status,
      headers: {
        location: this.#locationOf(path, uploadLocation),
        range: `0-${Math.max(0, spool.sizeBytes - 1)}`,
        'docker-upload-uuid': id,
      },
    };
  }

  #locationOf(path: string, form: Switches['uploadLocation']): string {
    if (typeof form === 'function') return form(path);
    return form === 'absolute' ? this.#state.originOf('registry') + path : path;
  }
}

function created(repository: string, digest: string): Reply {
  return {
    status: 201,
    headers: { location: `/v2/${repository}/blobs/${digest}`, 'docker-content-digest': digest },
  };
}
