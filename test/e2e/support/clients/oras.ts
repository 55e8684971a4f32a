// oras: images, and artifacts that refer to them. Helm and notation push with its library.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { goProgram } from '../../../support/go-programs.ts';
import type { Descriptor, Image } from '../images.ts';
import { run } from '../processes.ts';
import type { BasicUser } from '../registry.ts';
import { nameOf, type PushingClient } from './client.ts';
import { assertLayoutHolds, DirectoryClient } from './layout.ts';

export const ORAS = { name: 'oras' };

export interface Artifact extends Descriptor {
  readonly artifactType: string;
  readonly annotations: Readonly<Record<string, string>>;
}

export class Oras extends DirectoryClient implements PushingClient {
  readonly name = 'oras';
  readonly #user: readonly string[];

  /** With a user, it sends these credentials to every registry. */
  constructor(user?: BasicUser) {
    super();
    this.#user = user ? [`--username=${user.name}`, `--password=${user.password}`] : [];
  }

  async pull(host: string, image: Image): Promise<void> {
    const from = nameOf(host, image);
    await this.#oras('cp', '--from-plain-http', from, '--to-oci-layout', this.#layoutOf(image));
    await assertLayoutHolds(this.directoryOf(image), image);
  }

  async push(source: string, image: Image, host: string, repository: string): Promise<string> {
    await this.pull(source, image);
    const to = nameOf(host, { ...image, repository });
    const output = await this.#oras('cp', '--from-oci-layout', this.#layoutOf(image), '--to-plain-http', to);
    return /^Digest: (\S+)$/m.exec(output)?.[1] ?? '';
  }

  /** Pushes an artifact with this text that refers to the image. */
  async attach(host: string, subject: Image, artifactType: string, text: string): Promise<Artifact> {
    const file = join(this.directory, `${text}.txt`);
    writeFileSync(file, text);
    const output = await this.#oras(
      'attach',
      ...this.#options(artifactType),
      // The path is outside of the working directory.
      '--disable-path-validation',
      nameOf(host, subject),
      `${file}:text/plain`,
    );
    return artifactIn(JSON.parse(output));
  }

  /** The referrers of the image, of one type or all. */
  async discover(host: string, subject: Image, artifactType?: string): Promise<Artifact[]> {
    const output = await this.#oras('discover', ...this.#options(artifactType), '--depth=1', nameOf(host, subject));
    const { referrers } = JSON.parse(output) as { referrers: Artifact[] };
    return referrers.map(artifactIn);
  }

  #options(artifactType: string | undefined): string[] {
    const ofType = artifactType ? [`--artifact-type=${artifactType}`] : [];
    return ['--plain-http', '--format=json', ...this.#user, ...ofType];
  }

  #layoutOf(image: Image): string {
    return `${this.directoryOf(image)}:${image.tag}`;
  }

  #oras(...args: string[]): Promise<string> {
    return run(goProgram(ORAS), args);
  }
}

/** Without the name of the repository, which oras prints as well. */
function artifactIn({ mediaType, digest, size, annotations, artifactType }: Artifact): Artifact {
  return { mediaType, digest, size, annotations, artifactType };
}
