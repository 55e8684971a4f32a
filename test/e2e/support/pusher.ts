// A client that pushes over HTTP and survives the cache being killed: blobs in chunks with a Content-Range, then a
// manifest by tag. After an interruption it asks for the offset of each upload and resumes there. It keeps track of
// what was acknowledged, and checks every response against the distribution spec (1.1, "Pushing a blob in chunks").
import assert from 'node:assert/strict';
import { type Answer, ask } from './http.ts';
import { digestOf } from './images.ts';

const MANIFEST_TYPE = 'application/vnd.oci.image.manifest.v1+json';
const LANES = 2;

/** The connection broke, because the cache is gone. */
export class Interrupted extends Error {}

export interface Content {
  readonly digest: string;
  readonly bytes: Buffer;
}

interface BlobPush extends Content {
  readonly mediaType: string;
  location: string | undefined;
  /** Bytes that the cache has acknowledged. */
  offset: number;
  /** Bytes that it may have received. */
  sentBytes: number;
  /** The closing request was sent, and may have been carried out. */
  isClosing: boolean;
  isDone: boolean;
}

/** One image and the progress of its push. */
export class ImagePush {
  readonly blobs: readonly BlobPush[];
  readonly manifest: Content;
  isDone = false;

  /** The first of the blobs is its config. */
  constructor(blobs: readonly Buffer[]) {
    this.blobs = blobs.map((bytes, i) => ({
      bytes,
      digest: digestOf(bytes),
      mediaType: `application/vnd.oci.image.${i === 0 ? 'config.v1+json' : 'layer.v1.tar'}`,
      location: undefined,
      offset: 0,
      sentBytes: 0,
      isClosing: false,
      isDone: false,
    }));
    const [config, ...layers] = this.blobs.map(({ mediaType, digest, bytes }) => {
      return { mediaType, digest, size: bytes.length };
    });
    const manifest = Buffer.from(JSON.stringify({ schemaVersion: 2, mediaType: MANIFEST_TYPE, config, layers }));
    this.manifest = { bytes: manifest, digest: digestOf(manifest) };
  }
}

export class Pusher {
  /** Acknowledged with a 201. */
  readonly blobs: Content[] = [];
  readonly manifests: Content[] = [];
  /** The digest under the tag, and one that may be there instead, because its push was interrupted. */
  tagged: string | undefined;
  maybeTagged: string | undefined;
  /** Uploads that may have been opened, but whose location never arrived. */
  lostUploads = 0;
  /** Uploads that were resumed at an offset. */
  resumed = 0;
  readonly #url: string;
  readonly #tag: string;
  readonly #chunkBytes: number;

  constructor(cacheUrl: string, repository: string, tag: string, chunkBytes: number) {
    this.#url = `${cacheUrl}/v2/${repository}`;
    this.#tag = tag;
    this.#chunkBytes = chunkBytes;
  }

  /** Pushes what is not pushed yet, in order. Throws Interrupted when the cache is gone. */
  async push(images: readonly ImagePush[]): Promise<void> {
    for (const image of images) {
      if (image.isDone) continue;
      const left = image.blobs.filter(({ isDone }) => !isDone);
      const lane = async () => {
        for (let blob = left.shift(); blob !== undefined; blob = left.shift()) await this.#pushBlob(blob);
      };
      const lanes = await Promise.allSettled(Array.from({ length: LANES }, lane));
      for (const result of lanes) {
        if (result.status === 'rejected' && !(result.reason instanceof Interrupted)) throw result.reason;
      }
      for (const result of lanes) if (result.status === 'rejected') throw result.reason;
      await this.#pushManifest(image);
    }
  }

  async #pushBlob(blob: BlobPush): Promise<void> {
    if (blob.location !== undefined && (await this.#recover(blob))) return;
    if (blob.location === undefined) {
      this.lostUploads++;
      const opened = await this.#ask('POST', `${this.#url}/blobs/uploads/`);
      this.lostUploads--;
      assertStatus(opened, 202, 'POST');
      blob.location = this.#locationOf(opened);
    }
    while (blob.offset < blob.bytes.length) {
      const chunk = blob.bytes.subarray(blob.offset, blob.offset + this.#chunkBytes);
      blob.sentBytes = blob.offset + chunk.length;
      const range = { 'content-range': `${blob.offset}-${blob.sentBytes - 1}` };
      const answer = await this.#ask('PATCH', blob.location, range, chunk);
      assertStatus(answer, 202, `PATCH ${range['content-range']}`);
      assert.equal(offsetIn(answer), blob.sentBytes, 'Range after a PATCH');
      blob.offset = blob.sentBytes;
      blob.location = this.#locationOf(answer);
    }
    blob.isClosing = true;
    const closing = new URL(blob.location);
    closing.searchParams.set('digest', blob.digest);
    const answer = await this.#ask('PUT', closing.href, {}, Buffer.alloc(0));
    assertStatus(answer, 201, 'PUT of a blob');
    assert.equal(answer.headers['docker-content-digest'], blob.digest);
    blob.isDone = true;
    this.blobs.push(blob);
  }

  /** Finds out the offset of an interrupted upload; true if it had completed. */
  async #recover(blob: BlobPush): Promise<boolean> {
    const status = await this.#ask('GET', blob.location ?? '');
    if (status.status === 404 && blob.isClosing) {
      // It completed and only the response was lost, so the blob must exist.
      const found = await this.#ask('HEAD', `${this.#url}/blobs/${blob.digest}`);
      assertStatus(found, 200, 'HEAD of a blob whose upload is gone');
      blob.isDone = true;
      return true;
    }
    if (status.status === 404 && blob.offset === 0) {
      // One of which no byte was acknowledged is not kept over a crash, and begins again.
      blob.location = undefined;
      blob.sentBytes = 0;
      return false;
    }
    assertStatus(status, 204, `GET of an upload with ${blob.offset} of ${blob.bytes.length} bytes`);
    const offset = offsetIn(status);
    assert.ok(offset >= blob.offset, `${blob.offset} bytes were acknowledged, but the offset is ${offset}`);
    assert.ok(offset <= blob.sentBytes, `${blob.sentBytes} bytes were sent, but the offset is ${offset}`);
    if (offset > 0) this.resumed++;
    blob.offset = offset;
    blob.location = this.#locationOf(status);
    return false;
  }

  async #pushManifest(image: ImagePush): Promise<void> {
    const { bytes, digest } = image.manifest;
    this.maybeTagged = digest;
    const url = `${this.#url}/manifests/${this.#tag}`;
    const answer = await this.#ask('PUT', url, { 'content-type': MANIFEST_TYPE }, bytes);
    assertStatus(answer, 201, 'PUT of a manifest');
    assert.equal(answer.headers['docker-content-digest'], digest);
    this.tagged = digest;
    this.maybeTagged = undefined;
    this.manifests.push(image.manifest);
    image.isDone = true;
  }

  async #ask(method: string, url: string, headers: Record<string, string> = {}, body?: Buffer): Promise<Answer> {
    try {
      return await ask(method, url, { ...headers, ...(body && { 'content-length': `${body.length}` }) }, body);
    } catch (error) {
      throw new Interrupted(`${method} ${url}`, { cause: error });
    }
  }

  #locationOf({ headers }: Answer): string {
    assert.ok(headers.location, 'no Location');
    return new URL(headers.location, this.#url).href;
  }
}

function assertStatus({ status, body }: Answer, wanted: number, what: string): void {
  assert.equal(status, wanted, `${what}: ${status} ${body.subarray(0, 500)}`);
}

/** An empty upload has `0-0` too. */
function offsetIn({ headers }: Answer): number {
  const last = Number(/^0-(\d+)$/.exec(headers.range ?? '')?.[1]);
  assert.ok(Number.isSafeInteger(last), `Range: ${headers.range}`);
  return last === 0 ? 0 : last + 1;
}
