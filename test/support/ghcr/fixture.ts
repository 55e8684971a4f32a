// What the fake's own tests share: one image, a fake that holds it, and a client that pushes. They test over raw HTTP,
// so that all other tests can rely on the fake.
import assert from 'node:assert/strict';
import { MANIFEST_TYPES } from '../../../src/oci/manifest.ts';
import { bytesOf, type Content, type Image, makeImage } from '../images.ts';
import { type Asking, ask, type Got } from './ask.ts';
import { type Ghcr, type GhcrOptions, type Switches, startGhcr } from './ghcr.ts';

export const NAME = 'owner/app';
export const MIB = 1024 * 1024;
export const ACCEPT = { accept: MANIFEST_TYPES.join(', ') };

export const image = makeImage({ layers: [100_000] });
export const layer = image.layers[0] ?? assert.fail();
export const layerBytes = bytesOf(layer);
/** The paths of the layer and of the image. */
export const BLOB = `/v2/${NAME}/blobs/${layer.digest}`;
export const MANIFEST = `/v2/${NAME}/manifests/latest`;

/** An empty fake that asks no one for credentials unless a switch says so. */
export const startOpen = (switches: Partial<Switches> = {}, options: GhcrOptions = {}): Promise<Ghcr> =>
  startGhcr({ ...options, switches: { auth: 'none', ...switches } });

/** As `startOpen`, with the image in a public package. */
export async function startFilled(switches: Partial<Switches> = {}, options: GhcrOptions = {}): Promise<Ghcr> {
  const ghcr = await startOpen(switches, options);
  ghcr.push(NAME, image, 'latest');
  return ghcr;
}

/** Pulls the layer and follows redirects, as a client does, without credentials. */
export async function pullLayer(ghcr: Ghcr, asking: Asking = {}): Promise<Got> {
  let url = ghcr.url + BLOB;
  for (;;) {
    const got = await ask(url, asking);
    if (got.headers.location === undefined) return got;
    url = new URL(got.headers.location, url).href;
  }
}

/** A client of one repository, with any credentials. */
export class Pusher {
  readonly #ghcr: Pick<Ghcr, 'url'>;
  readonly #name: string;
  readonly #headers: Record<string, string>;

  constructor(ghcr: Pick<Ghcr, 'url'>, name = NAME, headers: Record<string, string> = {}) {
    this.#ghcr = ghcr;
    this.#name = name;
    this.#headers = headers;
  }

  ask(method: string, path: string, asking: Asking = {}): Promise<Got> {
    const url = new URL(path, `${this.#ghcr.url}/v2/${this.#name}/`).href;
    return ask(url, { ...asking, method, headers: { ...this.#headers, ...asking.headers } });
  }

  start(query = ''): Promise<Got> {
    return this.ask('POST', `blobs/uploads/${query}`);
  }

  /** Opens an upload; its location. */
  async location(): Promise<string> {
    return (await this.start()).headers.location ?? assert.fail('no Location');
  }

  patch(location: string, body: Asking['body'], contentRange?: string): Promise<Got> {
    const headers = contentRange === undefined ? {} : { 'content-range': contentRange };
    return this.ask('PATCH', location, { body: body ?? '', headers });
  }

  finish(location: string, digest: string, body?: Asking['body']): Promise<Got> {
    const target = `${location}${location.includes('?') ? '&' : '?'}digest=${digest}`;
    return this.ask('PUT', target, body === undefined ? {} : { body });
  }

  async blob(content: Content): Promise<Got> {
    return this.finish(await this.location(), content.digest, bytesOf(content));
  }

  manifest(reference: string, bytes: Uint8Array | string, type: string | undefined): Promise<Got> {
    const headers = type === undefined ? {} : { 'content-type': type };
    return this.ask('PUT', `manifests/${reference}`, { body: bytes, headers });
  }

  async image({ config, layers, manifest }: Image, reference: string): Promise<Got> {
    for (const content of [config, ...layers]) assert.equal((await this.blob(content)).status, 201);
    return this.manifest(reference, manifest.bytes, manifest.mediaType);
  }

  /** The blob, from where the registry redirects to. */
  async pull(digest: string): Promise<Buffer> {
    const { headers } = await this.ask('GET', `blobs/${digest}`);
    return (await ask(headers.location ?? '')).body;
  }
}

export async function* slowly(bytes: Uint8Array, pieceBytes: number): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes);
}
