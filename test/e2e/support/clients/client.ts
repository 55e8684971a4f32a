// What every client can do in a test. Each has storage of its own below the run's directory, so that nothing of the
// machine is used or changed, and checks for itself that what it pulled is the image.
import { existsSync, writeFileSync } from 'node:fs';
import type { Image } from '../images.ts';
import { workPath } from '../workspace.ts';

export interface Client extends AsyncDisposable {
  readonly name: string;
  /**
   * Pulls an image by its tag through the registry at `host` (`127.0.0.1:PORT`), for all architectures if the client
   * can. Throws unless it then holds exactly the image.
   */
  pull(host: string, image: Image): Promise<void>;
  /** Removes every image and layer, so that the next pull needs all bytes again. */
  wipe(): Promise<void>;
}

/** A client that can push what it holds. */
export interface PushingClient extends Client {
  /**
   * Pulls an image from the registry at `source` and pushes it to `host`, to a repository of that name under the
   * image's tag: all architectures if the client can, otherwise the machine's own. Resolves to the digest that it
   * reports.
   */
  push(source: string, image: Image, host: string, repository: string): Promise<string>;
}

/** The name of an image at a registry. */
export function nameOf(host: string, { repository, tag }: Pick<Image, 'repository' | 'tag'>): string {
  return `${host}/${repository}:${tag}`;
}

/** For skopeo, Podman and Buildah: an environment without this machine's registry logins. */
export function withoutLogins(): NodeJS.ProcessEnv {
  const path = workPath('no-logins.json');
  // Written once only: another client may be reading it.
  if (!existsSync(path)) writeFileSync(path, '{}');
  return { REGISTRY_AUTH_FILE: path };
}
