// What every client can do in a test. Each has storage of its own below the run's folder, so that
// nothing of the machine is used or changed, and checks for itself that what it pulled is the image.
import { existsSync, writeFileSync } from 'node:fs';
import type { Image } from '../images.ts';
import { workPath } from '../workspace.ts';

export interface Client extends AsyncDisposable {
  readonly name: string;
  /**
   * Pulls an image by its tag through the registry at `host` (`127.0.0.1:PORT`), for all architectures
   * that it can, and throws when what it then holds is anything but the image.
   */
  pull(host: string, image: Image): Promise<void>;
  /** Forgets every image and layer, so that the next pull needs all bytes again. */
  wipe(): Promise<void>;
}

/** A client that can push what it holds. */
export interface PushingClient extends Client {
  /**
   * Gets an image from the registry at `source` and pushes it to `host`, as a repository of that name with the
   * image's tag: all architectures if it can, else the machine's own. Resolves to the digest that it says it pushed.
   */
  push(source: string, image: Image, host: string, repository: string): Promise<string>;
}

/** For skopeo, Podman and Buildah: not the log-ins of the person at this machine. */
export function withoutLogIns(): NodeJS.ProcessEnv {
  const path = workPath('no-log-ins.json');
  // Once only: another client may be reading it.
  if (!existsSync(path)) writeFileSync(path, '{}');
  return { REGISTRY_AUTH_FILE: path };
}
