// Who takes part in a comparison: the cache as users run it, the same cache without sendfile, other caches, nginx
// over the files of ours, the upstream itself.
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Bench, Contestant } from './bench.ts';
import { findNginx, findRivals } from './competitors.ts';
import { load } from './load.ts';
import { type CacheOptions, type Server, type StandIn, startCache } from './programs.ts';

/** What a client of images says it takes. */
export const ACCEPT = {
  accept: [
    'application/vnd.oci.image.index.v1+json',
    'application/vnd.oci.image.manifest.v1+json',
    'application/vnd.docker.distribution.manifest.list.v2+json',
    'application/vnd.docker.distribution.manifest.v2+json',
  ].join(', '),
};

export interface Registry extends Contestant {
  readonly program: Server | undefined;
  readonly headers: Readonly<Record<string, string>>;
  blobUrl(name: string, digest: string): string;
  manifestUrl(name: string, reference: string): string;
}

/** Any server that speaks the distribution API. */
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

/** The upstream as a client sees it that asks it directly, with an anonymous token for this image. */
export async function direct(upstream: StandIn, image: string): Promise<Registry> {
  const answer = await fetch(`${upstream.url}/token?service=ghcr.io&scope=repository:${image}:pull`);
  const { token } = (await answer.json()) as { token: string };
  const { program: _, ...asked } = registry('direct', upstream, {
    headers: { authorization: `Bearer ${token}` },
  });
  return { ...asked, program: undefined };
}

export interface Wanted extends CacheOptions {
  /** Also ours with bodies read and written, as it is where there is no sendfile. */
  readonly buffers?: boolean;
  readonly rivals?: boolean;
}

/** Ours first, then those that are asked for and are there; of those that are not there the bench takes a note. */
export async function startRegistries(
  bench: Bench,
  upstream: StandIn,
  { buffers = false, rivals = true, ...options }: Wanted,
): Promise<Registries> {
  const started: Registry[] = [
    registry('ghcr-cache', await startCache(bench.folder(), upstream.url, options)),
  ];
  if (buffers) {
    const env = { GHCR_CACHE_SENDFILE: 'off' };
    const program = await startCache(bench.folder(), upstream.url, { ...options, env });
    started.push(registry('ghcr-cache, buffers', program));
  }
  for (const rival of rivals ? findRivals() : []) {
    if ('absent' in rival) {
      bench.note(`${rival.name} is absent: ${rival.absent}`);
      continue;
    }
    const { name, version } = rival;
    started.push(registry(name, await rival.start(bench.folder(), upstream.url), { version }));
  }
  return new Registries(started);
}

export class Registries implements AsyncDisposable {
  readonly all: Registry[];

  constructor(all: Registry[]) {
    this.all = all;
  }

  /** nginx over the files of ours, which have to be there by now; it serves blobs alone. */
  async addNginx(bench: Bench): Promise<void> {
    const nginx = findNginx();
    const files = this.all[0]?.program?.dataFolder;
    if ('absent' in nginx || files === undefined) {
      bench.note(`nginx is absent${'absent' in nginx ? `: ${nginx.absent}` : ''}`);
      return;
    }
    const folder = join(files, 'content/blobs/sha256');
    const program = await nginx.start(bench.folder(), folder);
    this.all.push({
      ...registry('nginx', program, { version: nginx.version }),
      blobUrl: (_, digest) => `${program.url}/${digest.slice('sha256:'.length)}`,
    });
  }

  /**
   * Pulls the image through each, checking every byte, until all of it is there to be pulled again. Who cannot is
   * left out.
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
        bench.note(`${each.name} cannot do it: ${(error as Error).message.slice(0, 300)}`);
        this.all.splice(this.all.indexOf(each), 1);
        await each.program?.stop();
      }
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const { program } of this.all) await program?.stop();
  }
}
