// skopeo, copying an image into a folder just as it is, and from there: every manifest and blob as a file.
import assert from 'node:assert/strict';
import { mkdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { blobsOf, digestOf, type Image, manifestsOf } from '../images.ts';
import { run, runFailing } from '../processes.ts';
import { newFolder } from '../workspace.ts';
import { type PushingClient, withoutLogIns } from './client.ts';

const COPY = ['--insecure-policy', 'copy', '--all', '--src-tls-verify=false', '--dest-tls-verify=false'];

export class Skopeo implements PushingClient {
  readonly name = 'skopeo';
  readonly #folder = newFolder('skopeo');

  async pull(host: string, image: Image): Promise<void> {
    const target = this.#folderOf(image);
    await run(
      'skopeo',
      [...COPY, nameOf(host, image.repository, image.tag), `dir:${target}`],
      withoutLogIns(),
    );
    assertHolds(target, image);
  }

  async push(source: string, image: Image, host: string, repository: string): Promise<string> {
    await this.pull(source, image);
    return this.pushAgain(image, host, repository);
  }

  /** Pushes an image that it has pulled before. */
  async pushAgain(image: Image, host: string, repository: string): Promise<string> {
    const digestFile = join(this.#folder, 'digest');
    const target = nameOf(host, repository, image.tag);
    const from = `dir:${this.#folderOf(image)}`;
    await run('skopeo', [...COPY, '--digestfile', digestFile, from, target], withoutLogIns());
    return readFileSync(digestFile, 'utf8');
  }

  /** A pull that is to fail: what skopeo says about it. */
  pullFailing(host: string, repository: string, tag: string): Promise<string> {
    const target = newFolder('skopeo-failing');
    return runFailing('skopeo', [...COPY, nameOf(host, repository, tag), `dir:${target}`], withoutLogIns());
  }

  async wipe(): Promise<void> {
    rmSync(this.#folder, { recursive: true, force: true });
    mkdirSync(this.#folder);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.wipe();
  }

  #folderOf({ repository }: Image): string {
    return join(this.#folder, repository.replaceAll('/', '-'));
  }
}

function nameOf(host: string, repository: string, tag: string): string {
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
