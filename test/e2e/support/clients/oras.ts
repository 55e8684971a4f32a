// A client made of oras-go (oras/main.go), which is what the oras command line and helm push with: images, and
// artifacts that refer to them.
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { goProgram } from '../go-programs.ts';
import type { Descriptor, Image } from '../images.ts';
import { run } from '../processes.ts';
import type { BasicUser } from '../registry.ts';
import { newFolder } from '../workspace.ts';
import type { PushingClient } from './client.ts';
import { assertLayoutHolds } from './layout.ts';

export interface Artifact extends Descriptor {
  readonly artifactType: string;
  readonly annotations: Readonly<Record<string, string>>;
}

export class Oras implements PushingClient {
  readonly name = 'oras-go';
  readonly #folder = newFolder('oras');
  readonly #env: NodeJS.ProcessEnv;

  /** With a user, it has a credential of its own for every registry. */
  constructor(user?: BasicUser) {
    this.#env = user ? { ORAS_USERNAME: user.name, ORAS_PASSWORD: user.password } : {};
  }

  async pull(host: string, image: Image): Promise<void> {
    await this.#oras('copy', nameOf(host, image.repository, image.tag), this.#layoutOf(image));
    await assertLayoutHolds(this.#folderOf(image), image);
  }

  async push(source: string, image: Image, host: string, repository: string): Promise<string> {
    await this.pull(source, image);
    return (await this.#oras('copy', this.#layoutOf(image), nameOf(host, repository, image.tag))).trim();
  }

  /** Pushes an artifact with a text in it, which refers to the image. */
  async attach(host: string, subject: Image, artifactType: string, text: string): Promise<Artifact> {
    const name = nameOf(host, subject.repository, subject.tag);
    return JSON.parse(await this.#oras('attach', name, artifactType, text)) as Artifact;
  }

  /** What refers to the image, of one type or of all. */
  async discover(host: string, subject: Image, artifactType?: string): Promise<Artifact[]> {
    const name = nameOf(host, subject.repository, subject.tag);
    const found = await this.#oras('discover', name, ...(artifactType ? [artifactType] : []));
    return JSON.parse(found) as Artifact[];
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

  #layoutOf(image: Image): string {
    return `layout:${this.#folderOf(image)}:${image.tag}`;
  }

  #oras(...args: string[]): Promise<string> {
    return run(goProgram('oras'), args, this.#env);
  }
}

function nameOf(host: string, repository: string, tag: string): string {
  return `${host}/${repository}:${tag}`;
}
