// The fake ghcr.io in a process of its own. It does what ghcr.io does, where a registry that follows the spec differs.
import { fileURLToPath } from 'node:url';
import { basic, bearer } from '../../support/ghcr/ask.ts';
import { type Answer, get } from './http.ts';
import { Daemon } from './processes.ts';
import type { BasicUser } from './registry.ts';
import { newDirectory } from './workspace.ts';

const PROGRAM = fileURLToPath(new URL('../../support/ghcr/main.ts', import.meta.url));

export class FakeGhcr implements AsyncDisposable {
  readonly url: string;
  readonly apiUrl: string;
  readonly #daemon: Daemon;
  readonly #user: BasicUser | undefined;

  private constructor(daemon: Daemon, user: BasicUser | undefined) {
    this.#daemon = daemon;
    this.#user = user;
    const { url, apiUrl } = JSON.parse(daemon.stdout) as { url: string; apiUrl: string };
    this.url = url;
    this.apiUrl = apiUrl;
  }

  /** The user's password is a token with all rights. Without a user, any client may do everything. */
  static async start(user: BasicUser | undefined, ...options: string[]): Promise<FakeGhcr> {
    const access = user ? ['--user', `${user.name}:${user.password}`] : ['--open'];
    const daemon = await Daemon.start(process.execPath, [PROGRAM, ...access, ...options], {
      env: { TMPDIR: newDirectory('fake-ghcr') },
      ready: ({ stdout }) => stdout.includes('\n'),
    });
    return new FakeGhcr(daemon, user);
  }

  /** `127.0.0.1:PORT` */
  get host(): string {
    return new URL(this.url).host;
  }

  /** GET of a path in a repository, as its user. */
  async get(repository: string, path: string): Promise<Answer> {
    const { name = '', password = '' } = this.#user ?? {};
    const scope = encodeURIComponent(`repository:${repository}:pull`);
    const { body } = await get(`${this.url}/token?service=ghcr.io&scope=${scope}`, basic(name, password));
    const { token } = JSON.parse(body.toString()) as { token: string };
    return get(`${this.url}/v2/${repository}/${path}`, bearer(token));
  }

  async stop(): Promise<void> {
    await this.#daemon.stop();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
