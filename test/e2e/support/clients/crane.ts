// crane, which is the library go-containerregistry as a program, as cosign and ko use it too.
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { goProgram } from '../../../support/go-programs.ts';
import type { Image } from '../images.ts';
import { run } from '../processes.ts';
import { newFolder } from '../workspace.ts';
import type { PushingClient } from './client.ts';
import { assertLayoutHolds } from './layout.ts';

export const CRANE = { name: 'crane' };

export class Crane implements PushingClient {
  readonly name = 'crane';
  readonly #folder = newFolder('crane');

  async pull(host: string, image: Image): Promise<void> {
    const layout = this.#layoutOf(image);
    rmSync(layout, { recursive: true, force: true });
    await run(goProgram(CRANE), ['pull', '--format=oci', nameOf(host, image.repository, image.tag), layout]);
    await assertLayoutHolds(layout, image);
  }

  async push(source: string, image: Image, host: string, repository: string): Promise<string> {
    await this.pull(source, image);
    const target = nameOf(host, repository, image.tag);
    return digestIn(await run(goProgram(CRANE), ['push', this.#layoutOf(image), target]));
  }

  /** Has an image of the registry put into another repository there, which it does by mounting. */
  async copy(host: string, image: Image, repository: string): Promise<void> {
    const [from, to] = [image.repository, repository].map(name => nameOf(host, name, image.tag));
    await run(goProgram(CRANE), ['copy', from ?? '', to ?? '']);
  }

  async wipe(): Promise<void> {
    rmSync(this.#folder, { recursive: true, force: true });
    mkdirSync(this.#folder);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.wipe();
  }

  #layoutOf({ repository }: Image): string {
    return join(this.#folder, repository.replaceAll('/', '-'));
  }
}

function nameOf(host: string, repository: string, tag: string): string {
  return `${host}/${repository}:${tag}`;
}

/** It prints the name with the digest. */
function digestIn(printed: string): string {
  return printed.trim().split('@')[1] ?? '';
}
