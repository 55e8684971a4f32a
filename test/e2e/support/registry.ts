// A real registry: CNCF Distribution, the program `docker-registry` of Debian, on a free loopback port.
// A run's registries share one storage folder, which only images.ts writes to; those that are pushed to have
// one of their own.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { stringify } from 'yaml';
import { Daemon, run } from './processes.ts';
import { newFolder, workPath } from './workspace.ts';

export interface BasicUser {
  readonly name: string;
  readonly password: string;
}

export class Registry implements AsyncDisposable {
  readonly url: string;
  readonly #daemon: Daemon;

  private constructor(daemon: Daemon, url: string) {
    this.#daemon = daemon;
    this.url = url;
  }

  /** Starts one. With a user, it challenges for Basic credentials and lets nobody else in. */
  static async start(user?: BasicUser, storage = workPath('registry-storage')): Promise<Registry> {
    const folder = newFolder('registry');
    const config = join(folder, 'config.yaml');
    writeFileSync(
      config,
      stringify({
        version: 0.1,
        log: { level: 'info', accesslog: { disabled: true } },
        storage: { filesystem: { rootdirectory: storage } },
        http: { addr: '127.0.0.1:0', secret: 'one for all' },
        ...(user && { auth: { htpasswd: { realm: 'e2e', path: await writeHtpasswd(folder, user) } } }),
      }),
    );
    const daemon = await Daemon.start('docker-registry', ['serve', config], {
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

async function writeHtpasswd(folder: string, user: BasicUser): Promise<string> {
  const path = join(folder, 'htpasswd');
  // -B: bcrypt, the only hash that Distribution takes.
  writeFileSync(path, await run('htpasswd', ['-nbB', user.name, user.password]));
  return path;
}
