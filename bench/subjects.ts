// The subjects of a comparison: the cache as users run it, the same cache without sendfile, other caches, nginx serving
// the files of ours, the upstream itself.
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Bench, Subject } from './bench.ts';
import { findCompetitors, findNginx } from './competitors.ts';
import { load } from './load.ts';
import { type CacheOptions, type FakeGhcr, type Server, startCache } from './programs.ts';

/** The Accept header of a client that pulls images. */
export const ACCEPT = {
  accept: [
    'application/vnd.oci.image.index.v1+json',
    'application/vnd.oci.image.manifest.v1+json',
    'application/vnd.docker.distribution.manifest.list.v2+json',
    'application/vnd.docker.distribution.manifest.v2+json',
  ].join(', '),
};

export interface Registry extends Subject {
  readonly program: Server | undefined;
  readonly headers: Readonly<Record<string, string>>;
  blobUrl(name: string, digest: string): string;
  manifestUrl(name: string, reference: string): string;
}

/** Any server with the distribution API. */
export function registry(
  name: string,
  program: Server,
  others: { version?: string; headers?: Readonly<Record<string, string>> } = {},
): Registry {
  return {
    name,
    program,
    headers: others.headers ?? {},
    ...(others.version !== undefined && { version: others.version }),
    blobUrl: (image, digest) => `${program.url}/v2/${image}/blobs/${digest}`,
    manifestUrl: (image, reference) => `${program.url}/v2/${image}/manifests/${reference}`,
  };
}

/** The upstream without a cache, with an anonymous token for this image. */
export async function direct(upstream: FakeGhcr, image: string): Promise<Registry> {
  const answer = await fetch(`${upstream.url}/token?service=ghcr.io&scope=repository:${image}:pull`);
  const { token } = (await answer.json()) as { token: string };
  const { program: _, ...others } = registry('direct', upstream, {
    headers: { authorization: `Bearer ${token}` },
  });
  return { ...others, program: undefined };
}

export interface Selection extends CacheOptions {
  /** Also ours with bodies read and written, as on machines without sendfile. */
  readonly buffers?: boolean;
  readonly competitors?: boolean;
}

/** Our cache, and the one of the other checkout if there is one. */
export async function startCaches(bench: Bench, upstreamUrl: string, options: CacheOptions = {}): Promise<Registry[]> {
  const started = [registry('ghcr-cache', await startCache(bench.directory(), upstreamUrl, options))];
  if (bench.before !== undefined) {
    const program = await startCache(bench.directory(), upstreamUrl, { ...options, checkout: bench.before });
    started.push(registry('before', program));
  }
  return started;
}

/** Ours first, then the selected others that are available; the bench notes those that are not. */
export async function startRegistries(
  bench: Bench,
  upstream: { readonly url: string },
  { buffers = false, competitors = true, ...options }: Selection,
): Promise<Registries> {
  const started = await startCaches(bench, upstream.url, options);
  if (buffers) {
    const env = { GHCR_CACHE_SENDFILE: 'off' };
    const program = await startCache(bench.directory(), upstream.url, { ...options, env });
    started.push(registry('ghcr-cache, buffers', program));
  }
  for (const competitor of competitors && bench.before === undefined ? findCompetitors() : []) {
    if ('absent' in competitor) {
      bench.note(`${competitor.name} is absent: ${competitor.absent}`);
      continue;
    }
    const { name, version } = competitor;
    started.push(registry(name, await competitor.start(bench.directory(), upstream.url), { version }));
  }
  return new Registries(started);
}

export class Registries implements AsyncDisposable {
  readonly all: Registry[];

  constructor(all: Registry[]) {
    this.all = all;
  }

  /** Adds nginx serving the files of ours, which must exist by now; it serves only blobs. */
  async addNginx(bench: Bench): Promise<void> {
    const nginx = findNginx();
    const files = this.all[0]?.program?.dataDirectory;
    if ('absent' in nginx || files === undefined) {
      bench.note(`nginx is absent${'absent' in nginx ? `: ${nginx.absent}` : ''}`);
      return;
    }
    const directory = join(files, 'content/blobs/sha256');
    const program = await nginx.start(bench.directory(), directory);
    this.all.push({
      ...registry('nginx', program, { version: nginx.version }),
      blobUrl: (_, digest) => `${program.url}/${digest.slice('sha256:'.length)}`,
    });
  }

  /**
   * Pulls the image through each, verifying every byte, until all of it is cached. A subject that fails is left out,
   * with a note.
   */
  async warm(bench: Bench, image: string, tag: string, digests: readonly string[]): Promise<void> {
    for (const each of [...this.all]) {
      try {
        await load([each.manifestUrl(image, tag)], { headers: { ...ACCEPT, ...each.headers } });
        const urls = digests.map(digest => each.blobUrl(image, digest));
        await load(urls, { verify: true, headers: each.headers });
        await sleep(500);
        await load(urls, { headers: each.headers });
      } catch (error) {
        if (each === this.all[0]) throw error;
        bench.note(`${each.name} failed: ${(error as Error).message.slice(0, 300)}`);
        this.all.splice(this.all.indexOf(each), 1);
        await each.program?.stop();
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { program } of this.all) await program?.stop();
  }
}
