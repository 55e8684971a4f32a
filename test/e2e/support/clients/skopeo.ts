// skopeo, copying images to and from directories unchanged: every manifest and blob as a file.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { blobsOf, digestOf, type Image, manifestsOf } from '../images.ts';
import { run, runFailing } from '../processes.ts';
import { newDirectory } from '../workspace.ts';
import { nameOf, type PushingClient, withoutLogins } from './client.ts';
import { DirectoryClient } from './layout.ts';

/** As skopeo names an image at a registry. */
const at = (...image: Parameters<typeof nameOf>) => `docker://${nameOf(...image)}`;

const COPY = ['--insecure-policy', 'copy', '--all', '--src-tls-verify=false', '--dest-tls-verify=false'];

export class Skopeo extends DirectoryClient implements PushingClient {
  readonly name = 'skopeo';

  async pull(host: string, image: Image): Promise<void> {
    const target = this.directoryOf(image);
    await run('skopeo', [...COPY, at(host, image), `dir:${target}`], withoutLogins());
    assertHolds(target, image);
  }

  async push(source: string, image: Image, host: string, repository: string): Promise<string> {
    await this.pull(source, image);
    return this.pushAgain(image, host, repository);
  }

  /** Pushes an image that it has pulled before. */
  async pushAgain(image: Image, host: string, repository: string): Promise<string> {
    const digestFile = join(this.directory, 'digest');
    const target = at(host, { ...image, repository });
    const from = `dir:${this.directoryOf(image)}`;
    await run('skopeo', [...COPY, '--digestfile', digestFile, from, target], withoutLogins());
    return readFileSync(digestFile, 'utf8');
  }

  /** A pull that is expected to fail; skopeo's output. */
  pullFailing(host: string, repository: string, tag: string): Promise<string> {
    const target = newDirectory('skopeo-failing');
    return runFailing('skopeo', [...COPY, at(host, { repository, tag }), `dir:${target}`], withoutLogins());
  }
}

/** skopeo names the requested manifest `manifest.json`, others `<hex>.manifest.json`. */
function assertHolds(directory: string, image: Image): void {
  const holds = (file: string, digest: string) =>
    assert.equal(digestOf(readFileSync(join(directory, file))), digest, `${file} of ${image.repository}`);
  for (const { digest } of manifestsOf(image)) {
    holds(digest === image.root.digest ? 'manifest.json' : `${hexOf(digest)}.manifest.json`, digest);
  }
  for (const { digest } of blobsOf(image)) holds(hexOf(digest), digest);
}

function hexOf(digest: string): string {
  return digest.slice('sha256:'.length);
}
