// The stand-in for ghcr.io as a program: it does what ghcr.io does and a registry as the spec wants it does not.
import { fileURLToPath } from 'node:url';
import { type Answer, get } from './http.ts';
import { Daemon } from './processes.ts';
import type { BasicUser } from './registry.ts';
import { newFolder } from './workspace.ts';

const PROGRAM = fileURLToPath(new URL('../../support/ghcr/main.ts', import.meta.url));

export class StandIn implements AsyncDisposable {
  readonly url: string;
  readonly apiUrl: string;
  readonly #daemon: Daemon;
  readonly #user: BasicUser;

  private constructor(daemon: Daemon, user: BasicUser) {
    this.#daemon = daemon;
    this.#user = user;
    const { url, apiUrl } = JSON.parse(daemon.stdout) as { url: string; apiUrl: string };
    this.url = url;
    this.apiUrl = apiUrl;
  }

  /** The user's password is a token that may do everything. */
  static async start(user: BasicUser): Promise<StandIn> {
    const daemon = await Daemon.start(
      process.execPath,
      [PROGRAM, '--user', `${user.name}:${user.password}`],
      {
        env: { TMPDIR: newFolder('stand-in') },
        ready: ({ stdout }) => stdout.includes('\n'),
      },
    );
    return new StandIn(daemon, user);
  }

  get host(): string {
    return new URL(this.url).host;
  }

  /** What it answers its user about a repository. */
  async get(repository: string, path: string): Promise<Answer> {
    const basic = Buffer.from(`${this.#user.name}:${this.#user.password}`).toString('base64');
    const scope = `repository:${repository}:pull`;
    const asked = `${this.url}/token?service=ghcr.io&scope=${encodeURIComponent(scope)}`;
    const { body } = await get(asked, { authorization: `Basic ${basic}` });
    const { token } = JSON.parse(body.toString()) as { token: string };
    return get(`${this.url}/v2/${repository}/${path}`, { authorization: `Bearer ${token}` });
  }

  async stop(): Promise<void> {
    await this.#daemon.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
