// A client that pushes, step by step or as real clients do, and what its tests look at: a fake ghcr.io whose user may
// write everything, bodies that wait in the middle, and what the fake and the disk of the cache hold.
import assert from 'node:assert/strict';
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { ALGORITHMS, digestOf } from '../../src/oci/digest.ts';
import { MANIFEST_TYPES } from '../../src/oci/manifest.ts';
import { startTestCache, type TestCache, type TestCacheOptions } from './cache.ts';
import { TestClock } from './clock.ts';
import { type Asking, ask, errorOf, type Got } from './ghcr/ask.ts';
import { type Ghcr, type GhcrOptions, type Switches, startGhcr, type User } from './ghcr/ghcr.ts';
import { bytesOf, type Content, type Image, type Index, type Manifest, makeImage, randomContent } from './images.ts';

export const NAME = 'owner/app';
export const MIB = 1024 * 1024;
export const SECRET = 'ghp_0123456789pushSECRET';
/** The credential of the config, and its user at the fake ghcr.io. */
export const CI = { name: 'ci', owner: '*', username: 'octocat', token: SECRET };
export const WRITER: User = {
  username: CI.username,
  token: SECRET,
  scopes: ['write:packages', 'delete:packages'],
  packages: ['*'],
};

/** For tests in which one thing waits for another: what would wait forever fails. */
export const LIMIT = { timeout: 20_000 };
/** Nothing times out while a test holds it up. */
export const PATIENT = { connectMs: 2_000, headersMs: 15_000, stallMs: 15_000, uploadMs: 15_000 };
export const HASTY = { connectMs: 2_000, headersMs: 400, stallMs: 400, uploadMs: 400 };
export const NO_SPACE = { cache: { maxSize: '1KiB', minFree: '0' } };
export const ALL_DIGESTS: Partial<Switches> = { digests: ['sha256', 'sha512'] };
/** What an error says that the upstream denied for want of rights. */
export const RIGHTS = /Credential "ci" was denied.*write:packages/;

export const OCI = 'application/vnd.oci.image.manifest.v1+json';
export const INDEX = 'application/vnd.oci.image.index.v1+json';

export interface PushOptions extends Omit<TestCacheOptions, 'ghcr'> {
  readonly fake?: GhcrOptions;
  /** Default: a user with the right to write everything. */
  readonly user?: User;
  /** Further upstreams that are the fake too, under names of their own; they have no package interface. */
  readonly otherNames?: readonly string[];
}

export interface Pushing {
  readonly ghcr: Ghcr;
  readonly cache: TestCache;
  readonly clock: TestClock;
  /** Pushes to `owner/app`. */
  readonly client: PushClient;
  /** Another cache on the same fake, configured as the first, on a data directory of its own or the one given. */
  startCache(data?: string): Promise<TestCache>;
}

/** A fake ghcr.io, a cache in front of it that has a credential for all of it, and a client. They share one clock. */
export async function startPushing(t: TestContext, options: PushOptions = {}): Promise<Pushing> {
  const clock = options.clock ?? new TestClock();
  const ghcr = await startGhcr({ now: clock.now, ...options.fake });
  t.after(() => ghcr.close());
  ghcr.addUser(options.user ?? WRITER);
  const other = { url: ghcr.url, credentials: [CI] };
  const upstreams = Object.fromEntries((options.otherNames ?? []).map(name => [name, other]));
  const startCache = async (data?: string) => {
    const cache = await startTestCache({
      ...options,
      config: { ...options.config, upstreams: { ...upstreams, ...(options.config?.upstreams as object) } },
      ghcr,
      clock,
      upstream: { api: ghcr.apiUrl, credentials: [CI], ...options.upstream },
      ...(data !== undefined && { data }),
    });
    t.after(() => cache.stop());
    return cache;
  };
  const cache = await startCache(options.data);
  return { ghcr, cache, clock, client: new PushClient(cache.url), startCache };
}

/** So many bytes of a blob are enough for it to be sent before all are there. */
export const AHEAD_BYTES = MIB + 1000;

export const image = makeImage({ layers: [1000] });
/** Goes up in one PUT when it is complete. */
export const small = randomContent(10_000, 'small');
/** Goes up while it comes. */
export const large = randomContent(AHEAD_BYTES + 200_000, 'large');

/** With all blobs of `image` pushed already. */
export async function startWithParts(t: TestContext, options: PushOptions = {}): Promise<Pushing> {
  const both = await startPushing(t, options);
  await both.client.parts(image);
  both.ghcr.resetCounters();
  return both;
}

/** A manifest of these bytes, under its digest. */
export function manifestOf(json: object | string, mediaType: Manifest['mediaType'] = OCI): Manifest {
  const bytes = Buffer.from(typeof json === 'string' ? json : JSON.stringify(json));
  return { bytes, digest: digestOf(bytes), mediaType };
}

/** A data directory that several caches may use, one after another. */
export function dataDirectory(t: TestContext): string {
  const directory = mkdtempSync(join(tmpdir(), 'ghcr-cache-push-'));
  t.after(() => rmSync(directory, { recursive: true, force: true }));
  return join(directory, 'data');
}

/** Waits for what nothing notifies of. */
export async function eventually(condition: () => unknown): Promise<void> {
  for (const startedMs = performance.now(); !(await condition()); ) {
    assert(performance.now() - startedMs < 10_000, `in vain: ${condition}`);
    await new Promise(resolve => setImmediate(resolve));
  }
}

/** How many clients have disconnected, as far as the cache has noticed. */
export function disconnectsOf(cache: TestCache): number {
  return cache.log().match(/client (left|disconnected)/g)?.length ?? 0;
}

/** A body: its bytes, at once or as they come. */
export type Body = NonNullable<Asking['body']>;

export class PushClient {
  /** Where the cache is, without a slash at the end. */
  readonly origin: string;
  /** As in the path of a request: it may begin with the host of an upstream. */
  readonly name: string;
  readonly #namespace: string | undefined;

  /** With a namespace every request says `?ns=` with it. */
  constructor(origin: string, name = NAME, namespace?: string) {
    this.origin = origin;
    this.name = name;
    this.#namespace = namespace;
  }

  /** A request for a path in the repository, or for the address that an answer gave. */
  ask(method: string, path: string, asking: Asking = {}): Promise<Got> {
    return ask(this.#url(path), { ...asking, method });
  }

  get(path: string, headers: Record<string, string> = {}): Promise<Got> {
    return this.ask('GET', path, { headers: { ...ACCEPT, ...headers } });
  }

  head(path: string): Promise<Got> {
    return this.ask('HEAD', path, { headers: ACCEPT });
  }

  delete(path: string): Promise<Got> {
    return this.ask('DELETE', path);
  }

  start(query: Record<string, string> = {}, body?: Body): Promise<Got> {
    const search = new URLSearchParams(query).toString();
    return this.ask('POST', `blobs/uploads/${search && '?'}${search}`, body === undefined ? {} : { body });
  }

  /** Opens an upload; resolves to its address. */
  async open(query: Record<string, string> = {}): Promise<string> {
    const got = await this.start(query);
    assert.equal(got.status, 202, sentenceOf(got));
    return locationOf(got);
  }

  /** With a place the chunk has a Content-Range, which ends where the body does. */
  patch(location: string, body: Body, first?: number): Promise<Got> {
    const length = (body as Uint8Array).length;
    const headers = first === undefined ? {} : { 'content-range': `${first}-${first + length - 1}` };
    return this.ask('PATCH', location, { body, headers });
  }

  /** PUT: the end of an upload, with its last bytes if there are any. */
  finish(location: string, digest: string, body?: Body, headers: Record<string, string> = {}): Promise<Got> {
    const url = new URL(this.#url(location));
    url.searchParams.set('digest', digest);
    return this.ask('PUT', url.href, { headers, ...(body !== undefined && { body }) });
  }

  cancel(location: string): Promise<Got> {
    return this.delete(location);
  }

  /** Where an upload stands: the number of its bytes, as `Range` tells it. */
  async offset(location: string): Promise<number> {
    const got = await this.get(location);
    assert.equal(got.status, 204, sentenceOf(got));
    const [, last] = /^0-(\d+)$/.exec(String(got.headers.range)) ?? assert.fail(`Range: ${got.headers.range}`);
    return last === '0' ? 0 : Number(last) + 1;
  }

  /** A blob as docker and podman push it: POST, one PATCH without a range, PUT. */
  async stream(blob: Content, body: Body = bytesOf(blob)): Promise<Got> {
    const location = await this.open();
    const patched = await this.patch(location, body);
    return patched.status === 202 ? this.finish(locationOf(patched), blob.digest) : patched;
  }

  /** A blob as containerd and BuildKit push it: POST, PUT with everything. */
  async put(blob: Content, body: Body = bytesOf(blob)): Promise<Got> {
    const opened = await this.start();
    return opened.status === 202 ? this.finish(locationOf(opened), blob.digest, body) : opened;
  }

  /**
   * A blob that is on its way to the upstream, in a PATCH, while its last bytes are still to come: those wait until
   * the fake has seen it. Resolves to the first response that is no success, or else to the last one.
   */
  async streamAhead(ghcr: Ghcr, blob: Content): Promise<Got> {
    const onItsWay = { endpoint: 'upload', method: 'PATCH', repository: this.name } as const;
    const before = ghcr.count(onItsWay);
    const location = await this.open();
    const first = await this.patch(location, bytesOf(blob, 0, AHEAD_BYTES));
    if (first.status !== 202) return first;
    await ghcr.until(onItsWay, before + 1);
    const rest = await this.patch(location, bytesOf(blob, AHEAD_BYTES));
    return rest.status === 202 ? this.finish(location, blob.digest) : rest;
  }

  /** A manifest under a tag or a digest, by default its own, which may have a query. */
  manifest({ bytes, mediaType, digest }: Manifest, reference: string = digest): Promise<Got> {
    return this.ask('PUT', `manifests/${reference}`, { body: bytes, headers: { 'content-type': mediaType } });
  }

  /** All blobs of an image, or of all images of an index; and their manifests, its own first by digest. */
  async parts(image: Image | Index): Promise<void> {
    if ('images' in image) {
      for (const each of image.images) {
        await this.parts(each);
        assertCreated(await this.manifest(each.manifest));
      }
      return;
    }
    const blobs = [image.config, ...image.layers];
    for (const got of await Promise.all(blobs.map(blob => this.stream(blob)))) assertCreated(got);
  }

  /** An image or index with all that it needs, under these references; the answer to the last. */
  async image(image: Image | Index, ...references: string[]): Promise<Got> {
    await this.parts(image);
    let last: Got | undefined;
    for (const reference of references.length === 0 ? [image.manifest.digest] : references) {
      last = await this.manifest(image.manifest, reference);
      assertCreated(last);
    }
    return last ?? assert.fail('no reference');
  }

  async tags(): Promise<string[]> {
    const got = await this.get('tags/list');
    assert.equal(got.status, 200, sentenceOf(got));
    return JSON.parse(got.body.toString()).tags;
  }

  #url(path: string): string {
    if (/^(https?:)?\//.test(path)) return new URL(path, this.origin).href;
    const url = new URL(`${this.origin}/v2/${this.name}/${path}`);
    if (this.#namespace !== undefined) url.searchParams.set('ns', this.#namespace);
    return url.href;
  }
}

const ACCEPT = { accept: MANIFEST_TYPES.join(', ') };

export function locationOf({ headers }: Got): string {
  return headers.location ?? assert.fail('no Location');
}

/** The id in the address of an upload. */
export function idOf(location: string): string {
  return location.split('/').at(-1) ?? '';
}

export function assertCreated(got: Got): void {
  assert.equal(got.status, 201, sentenceOf(got));
}

/** The response is this OCI error, and its message matches all of these. */
export function assertError(got: Got, status: number, code: string, ...says: RegExp[]): void {
  assert.equal(got.status, status, sentenceOf(got));
  const error = errorOf(got);
  assert.equal(error.code, code, error.message);
  for (const each of says) assert.match(error.message, each);
}

/** What a response says, for the message of a failed assertion. */
export function sentenceOf(got: Got): string {
  return `${got.status ?? got.code} ${got.body.subarray(0, 500)}`;
}

/**
 * The bytes in pieces of `pieceBytes`. At each of these places a function is called, and what it gives waited for; one
 * that throws hangs up.
 */
export async function* inPieces(
  bytes: Uint8Array,
  waits: readonly (readonly [at: number, wait: () => unknown])[] = [],
  pieceBytes = 64 * 1024,
): AsyncGenerator<Uint8Array> {
  let at = 0;
  const ends = [...waits, [bytes.length, () => {}] as const];
  for (const [end, wait] of ends) {
    while (at < end) {
      const piece = bytes.subarray(at, Math.min(end, at + pieceBytes));
      yield piece;
      at += piece.length;
    }
    await wait();
  }
}

/** Hangs up in the middle of a body. */
export function hangUp(): never {
  throw new Error('the client hangs up');
}

/** The blob at the fake, or undefined. */
export function upstreamBlob(ghcr: Ghcr, { digest }: Content, name = NAME): Buffer | undefined {
  const blob = packageOf(ghcr, name)?.blobs.get(digest);
  return blob && bytesOf(blob);
}

export function upstreamTag(ghcr: Ghcr, tag: string, name = NAME): string | undefined {
  return packageOf(ghcr, name)?.tags.get(tag);
}

export function packageOf(ghcr: Ghcr, name = NAME) {
  return ghcr.packages().find(each => each.name === name);
}

/** The names of the files in a subdirectory of the data directory. */
export function filesIn(cache: TestCache, directory: string): string[] {
  return readdirSync(join(cache.data, directory)).sort();
}

/** The digests of all content on disk, which is checked. No ingest may be left, once its client is known to be gone. */
export async function contentOnDisk(cache: TestCache): Promise<string[]> {
  await cache.settled();
  await eventually(() => filesIn(cache, 'ingest').length === 0);
  return ALGORITHMS.flatMap(algorithm =>
    filesIn(cache, `content/blobs/${algorithm}`).map(hex => {
      const bytes = readFileSync(join(cache.data, 'content/blobs', algorithm, hex));
      assert.equal(digestOf(bytes, algorithm), `${algorithm}:${hex}`);
      return `${algorithm}:${hex}`;
    }),
  );
}

/** The fake holds the blob, the cache serves it from disk, and asks the fake for no content to do so. */
export async function assertPushed(
  { ghcr, cache }: Pick<Pushing, 'ghcr' | 'cache'>,
  blob: Content,
  name = NAME,
): Promise<void> {
  assert(upstreamBlob(ghcr, blob, name)?.equals(bytesOf(blob)), 'the upstream holds it');
  const before = contentAsked(ghcr);
  const got = await new PushClient(cache.url, name).get(`blobs/${blob.digest}`);
  assert.equal(got.status, 200, sentenceOf(got));
  assert(got.body.equals(bytesOf(blob)), 'the cache serves it');
  assert.equal(got.headers['x-cache'], 'hit');
  assert.equal(contentAsked(ghcr), before);
}

/** How many requests for blobs and manifests the fake has had. */
export function contentAsked({ requests }: Ghcr): number {
  const isContent = /^(blob|blobhost|manifest)$/;
  return requests.filter(({ endpoint, method }) => isContent.test(endpoint) && /GET|HEAD/.test(method)).length;
}

/** Neither the fake nor the cache has anything of it. */
export async function assertNowhere(
  { ghcr, cache }: Pick<Pushing, 'ghcr' | 'cache'>,
  { digest }: Content,
  name = NAME,
): Promise<void> {
  assert.equal(packageOf(ghcr, name)?.blobs.has(digest) ?? false, false, 'not at the upstream');
  assert(!(await contentOnDisk(cache)).includes(digest), 'not on disk');
  assert.equal((await new PushClient(cache.url, name).get(`blobs/${digest}`)).status, 404);
}
