// The honest clients of the siege: each pulls images and pushes others, and checks every byte of what it gets.
import http from 'node:http';
import { setTimeout as sleep } from 'node:timers/promises';
import { digestOf } from '../../src/oci/digest.ts';
import { bytesOf, type Content, type Image } from '../support/images.ts';
import { honestImage, IMAGES_EACH, pulledName, pushedName } from './scene.ts';

const SMALL_BYTES = 512 * 1024;
/** Between images: as people work, and so that it is the cache that is measured, and not the machine at its limit. */
const PAUSE_MS = 250;

export interface Record {
  /** How long each small request took, in milliseconds. */
  readonly smallMs: number[];
  readonly largeMs: number[];
  readonly wrong: string[];
}

interface Reply {
  readonly status: number;
  readonly headers: http.IncomingHttpHeaders;
  readonly body: Buffer;
}

export class HonestClient {
  readonly record: Record = { smallMs: [], largeMs: [], wrong: [] };
  readonly #url: string;
  readonly #number: number;
  readonly #agent = new http.Agent({ keepAlive: true });

  constructor(url: string, number: number) {
    this.#url = url;
    this.#number = number;
  }

  /** Works until the signal is aborted. Never throws: what goes wrong is in the record. */
  async run(signal: AbortSignal): Promise<void> {
    for (let round = 0; !signal.aborted; round++) {
      await this.#try('pull', () =>
        this.#pull(pulledName(this.#number), `v${round % IMAGES_EACH}`, this.#imageOf(round)),
      );
      if (round % 2 === 0) await this.#try('push', () => this.#push(round));
      await sleep(PAUSE_MS);
    }
    this.#agent.destroy();
  }

  #imageOf(round: number): Image {
    return honestImage(this.#number, round % IMAGES_EACH);
  }

  async #try(what: string, work: () => Promise<void>): Promise<void> {
    await work().catch(error => this.record.wrong.push(`${what} of client ${this.#number}: ${error.message}`));
  }

  async #pull(name: string, tag: string, { manifest, config, layers }: Image): Promise<void> {
    const head = await this.#ask('HEAD', `${name}/manifests/${tag}`, 200);
    expectSame(head.headers['docker-content-digest'], manifest.digest, `the digest of ${name}:${tag}`);
    await this.#get(`${name}/manifests/${manifest.digest}`, manifest.digest);
    for (const blob of [config, ...layers])
      await this.#get(`${name}/blobs/${blob.digest}`, blob.digest, blob.sizeBytes);
  }

  async #push(round: number): Promise<void> {
    const name = pushedName(this.#number);
    const image = honestImage(this.#number, round, 'pushed');
    for (const blob of [image.config, ...image.layers]) await this.#pushBlob(name, blob);
    const { bytes, mediaType, digest } = image.manifest;
    await this.#ask('PUT', `${name}/manifests/v${round}`, 201, bytes, { 'content-type': mediaType });
    const head = await this.#ask('HEAD', `${name}/manifests/v${round}`, 200);
    expectSame(head.headers['docker-content-digest'], digest, `the digest of ${name}:v${round}`);
    await this.#get(`${name}/blobs/${image.config.digest}`, image.config.digest);
  }

  async #pushBlob(name: string, blob: Content): Promise<void> {
    const { headers } = await this.#ask('POST', `${name}/blobs/uploads/`, 202);
    const location = String(headers.location).replace(/^\/v2\//, '');
    await this.#ask('PUT', `${location}?digest=${blob.digest}`, 201, bytesOf(blob));
  }

  async #get(path: string, digest: string, sizeBytes = 0): Promise<void> {
    const { body } = await this.#ask('GET', path, 200, undefined, {}, sizeBytes);
    expectSame(digestOf(body), digest, `the bytes of ${path}`);
  }

  async #ask(
    method: string,
    path: string,
    status: number,
    body?: Buffer,
    headers: http.OutgoingHttpHeaders = {},
    sizeBytes = body?.length ?? 0,
  ): Promise<Reply> {
    const startMs = performance.now();
    const reply = await this.#send(method, path, body, headers);
    const { smallMs, largeMs } = this.record;
    (sizeBytes <= SMALL_BYTES ? smallMs : largeMs).push(performance.now() - startMs);
    if (reply.status !== status)
      throw new Error(`${method} ${path}: ${reply.status} ${reply.body.toString().slice(0, 300)}`);
    return reply;
  }

  #send(method: string, path: string, body: Buffer | undefined, headers: http.OutgoingHttpHeaders): Promise<Reply> {
    return new Promise((resolve, reject) => {
      const length = body === undefined ? {} : { 'content-length': body.length };
      const options = { method, agent: this.#agent, headers: { accept: '*/*', ...length, ...headers } };
      const request = http.request(`${this.#url}/v2/${path}`, options, response => {
        const chunks: Buffer[] = [];
        response.on('data', chunk => chunks.push(chunk));
        response.on('error', reject);
        response.on('end', () => {
          resolve({ status: response.statusCode ?? 0, headers: response.headers, body: Buffer.concat(chunks) });
        });
      });
      request.on('error', reject).end(body);
    });
  }
}

function expectSame(actual: unknown, expected: unknown, what: string): void {
  if (actual !== expected) throw new Error(`${what} is ${actual}, not ${expected}`);
}
