// crane, the command line of go-containerregistry, the library that cosign and ko use too.
import { rmSync } from 'node:fs';
import { goProgram } from '../../../support/go-programs.ts';
import type { Image } from '../images.ts';
import { run } from '../processes.ts';
import { nameOf, type PushingClient } from './client.ts';
import { assertLayoutHolds, DirectoryClient } from './layout.ts';

export const CRANE = { name: 'crane' };

export class Crane extends DirectoryClient implements PushingClient {
  readonly name = 'crane';

  async pull(host: string, image: Image): Promise<void> {
    const layout = this.directoryOf(image);
    rmSync(layout, { recursive: true, force: true });
    await run(goProgram(CRANE), ['pull', '--format=oci', nameOf(host, image), layout]);
    await assertLayoutHolds(layout, image);
  }

  async push(source: string, image: Image, host: string, repository: string): Promise<string> {
    await this.pull(source, image);
    const target = nameOf(host, { ...image, repository });
    return digestIn(await run(goProgram(CRANE), ['push', this.directoryOf(image), target]));
  }

  /** Copies an image to another repository of the registry, which it does by mounting. */
  async copy(host: string, image: Image, repository: string): Promise<void> {
    const copy = nameOf(host, { ...image, repository });
    await run(goProgram(CRANE), ['copy', nameOf(host, image), copy]);
  }
}

/** It prints the name with the digest. */
function digestIn(output: string): string {
  return output.trim().split('@')[1] ?? '';
}
