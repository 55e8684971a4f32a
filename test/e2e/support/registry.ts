// A real registry: CNCF Distribution, the program `docker-registry` of Debian, on a free loopback port. By default all
// registries of a run share one storage directory, which only images.ts writes to.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { Daemon, run } from './processes.ts';
import { newDirectory, workPath } from './workspace.ts';

export interface BasicUser {
  readonly name: string;
  readonly password: string;
}

export interface RegistryOptions {
  /** Requires Basic credentials, and accepts only this user's. */
  readonly user?: BasicUser | undefined;
  /** A directory of its own, for a registry that is pushed to. */
  readonly storage?: string;
  /** Further sections of its config file; `storage` is merged. */
  readonly config?: { readonly storage?: object; readonly validation?: object };
}

export class Registry implements AsyncDisposable {
  readonly url: string;
  readonly #daemon: Daemon;

  private constructor(daemon: Daemon, url: string) {
    this.#daemon = daemon;
    this.url = url;
  }

  static async start({ user, storage, config = {} }: RegistryOptions = {}): Promise<Registry> {
    const directory = newDirectory('registry');
    const file = join(directory, 'config.yaml');
    const rootdirectory = storage ?? workPath('registry-storage');
    writeFileSync(
      file,
      stringify({
        version: 0.1,
        log: { level: 'info', accesslog: { disabled: true } },
        ...config,
        storage: { filesystem: { rootdirectory }, ...config.storage },
        http: { addr: '127.0.0.1:0', secret: 'one for all' },
        ...(user && { auth: { htpasswd: { realm: 'e2e', path: await writeHtpasswd(directory, user) } } }),
      }),
    );
    const daemon = await Daemon.start('docker-registry', ['serve', file], {
      ready: ({ output }) => listeningAddress(output) !== undefined,
    });
    return new Registry(daemon, `http://${listeningAddress(daemon.output)}`);
  }

  /** `127.0.0.1:PORT` */
  get host(): string {
    return new URL(this.url).host;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#daemon.stop();
  }
}

function listeningAddress(output: string): string | undefined {
  return /listening on (127\.0\.0\.1:\d+)/.exec(output)?.[1];
}

async function writeHtpasswd(directory: string, user: BasicUser): Promise<string> {
  const path = join(directory, 'htpasswd');
  // -B: bcrypt, the only hash that Distribution accepts.
  writeFileSync(path, await run('htpasswd', ['-nbB', user.name, user.password]));
  return path;
}
