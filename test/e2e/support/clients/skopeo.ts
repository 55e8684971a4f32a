// skopeo, copying an image into a folder just as it is: every manifest and blob as a file.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { blobsOf, digestOf, type Image, manifestsOf } from '../images.ts';
import { run, runFailing } from '../processes.ts';
import { newFolder } from '../workspace.ts';
import { type Client, withoutLogIns } from './client.ts';

const COPY = ['--insecure-policy', 'copy', '--all', '--src-tls-verify=false'];

export class Skopeo implements Client {
  readonly name = 'skopeo';
  readonly #folder = newFolder('skopeo');

  async pull(host: string, image: Image): Promise<void> {
    const target = join(this.#folder, image.repository.replaceAll('/', '-'));
    await run(
      'skopeo',
      [...COPY, source(host, image.repository, image.tag), `dir:${target}`],
      withoutLogIns(),
    );
    assertHolds(target, image);
  }

  /** A pull that is to fail: what skopeo says about it. */
  pullFailing(host: string, repository: string, tag: string): Promise<string> {
    const target = newFolder('skopeo-failing');
    return runFailing('skopeo', [...COPY, source(host, repository, tag), `dir:${target}`], withoutLogIns());
  }

  async wipe(): Promise<void> {
    rmSync(this.#folder, { recursive: true, force: true });
    mkdirSync(this.#folder);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.wipe();
  }
}

function source(host: string, repository: string, tag: string): string {
  return `docker://${host}/${repository}:${tag}`;
}

/** skopeo calls the manifest that was asked for `manifest.json`, the others `<hex>.manifest.json`. */
function assertHolds(folder: string, image: Image): void {
  const holds = (file: string, digest: string) =>
    assert.equal(digestOf(readFileSync(join(folder, file))), digest, `${file} of ${image.repository}`);
  for (const { digest } of manifestsOf(image)) {
    holds(digest === image.root.digest ? 'manifest.json' : `${hexOf(digest)}.manifest.json`, digest);
  }
  for (const { digest } of blobsOf(image)) holds(hexOf(digest), digest);
}

function hexOf(digest: string): string {
  return digest.slice('sha256:'.length);
}
