// The oras command line: images, and artifacts that refer to them. Its library is what helm and notation push with.
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { goProgram } from '../../../support/go-programs.ts';
import type { Descriptor, Image } from '../images.ts';
import { run } from '../processes.ts';
import type { BasicUser } from '../registry.ts';
import { newFolder } from '../workspace.ts';
import type { PushingClient } from './client.ts';
import { assertLayoutHolds } from './layout.ts';

export const ORAS = { name: 'oras' };

export interface Artifact extends Descriptor {
  readonly artifactType: string;
  readonly annotations: Readonly<Record<string, string>>;
}

export class Oras implements PushingClient {
  readonly name = 'oras';
  readonly #folder = newFolder('oras');
  readonly #user: readonly string[];

  /** With a user, it has a credential of its own for every registry. */
  constructor(user?: BasicUser) {
    this.#user = user ? [`--username=${user.name}`, `--password=${user.password}`] : [];
  }

  async pull(host: string, image: Image): Promise<void> {
    const from = nameOf(host, image.repository, image.tag);
    await this.#oras('cp', '--from-plain-http', from, '--to-oci-layout', this.#layoutOf(image));
    await assertLayoutHolds(this.#folderOf(image), image);
  }

  async push(source: string, image: Image, host: string, repository: string): Promise<string> {
    await this.pull(source, image);
    const to = nameOf(host, repository, image.tag);
    const said = await this.#oras('cp', '--from-oci-layout', this.#layoutOf(image), '--to-plain-http', to);
    return /^Digest: (\S+)$/m.exec(said)?.[1] ?? '';
  }

  /** Pushes an artifact with a text in it, which refers to the image. */
  async attach(host: string, subject: Image, artifactType: string, text: string): Promise<Artifact> {
    const file = join(this.#folder, `${text}.txt`);
    writeFileSync(file, text);
    const said = await this.#oras(
      'attach',
      ...this.#options(artifactType),
      // A path outside of the folder that it is started in.
      '--disable-path-validation',
      nameOf(host, subject.repository, subject.tag),
      `${file}:text/plain`,
    );
    return artifactIn(JSON.parse(said));
  }

  /** What refers to the image, of one type or of all. */
  async discover(host: string, subject: Image, artifactType?: string): Promise<Artifact[]> {
    const said = await this.#oras(
      'discover',
      ...this.#options(artifactType),
      '--depth=1',
      nameOf(host, subject.repository, subject.tag),
    );
    const { referrers } = JSON.parse(said) as { referrers: Artifact[] };
    return referrers.map(artifactIn);
  }

  async wipe(): Promise<void> {
    rmSync(this.#folder, { recursive: true, force: true });
    mkdirSync(this.#folder);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.wipe();
  }

  #options(artifactType: string | undefined): string[] {
    const ofType = artifactType ? [`--artifact-type=${artifactType}`] : [];
    return ['--plain-http', '--format=json', ...this.#user, ...ofType];
  }

  #folderOf({ repository }: Image): string {
    return join(this.#folder, repository.replaceAll('/', '-'));
  }

  #layoutOf(image: Image): string {
    return `${this.#folderOf(image)}:${image.tag}`;
  }

  #oras(...args: string[]): Promise<string> {
    return run(goProgram(ORAS), args);
  }
}

/** Without where it is, which it says as well. */
function artifactIn({ mediaType, digest, size, annotations, artifactType }: Artifact): Artifact {
  return { mediaType, digest, size, annotations, artifactType };
}

function nameOf(host: string, repository: string, tag: string): string {
  return `${host}/${repository}:${tag}`;
}
