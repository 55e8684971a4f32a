// The program under test, started as a user starts it: `ghcr-cache serve --config FILE`, in a process of its own. It
// can be stopped, killed, and restarted with the same data and port, also with another config.
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { stringify } from 'yaml';
import { Daemon } from './processes.ts';
import { newDirectory } from './workspace.ts';

export const PROGRAM = fileURLToPath(new URL('../../../bin/ghcr-cache.js', import.meta.url));

/** Where run.ts finds the logs, to print them when a test fails. */
export const CACHE_DIRECTORY = 'cache';
export const CACHE_LOG = 'log';

export interface CacheSettings {
  /** The URL of the upstream `ghcr.io`. */
  readonly upstream: string;
  /** The URL of its package API, if it has one. */
  readonly api?: string;
  /** How long a tag is served without asking the upstream, as in the config. */
  readonly fresh: string;
  readonly credentials?: readonly Record<string, string>[];
  readonly env?: NodeJS.ProcessEnv;
}

export class Cache implements AsyncDisposable {
  readonly #directory = newDirectory(CACHE_DIRECTORY);
  readonly data = join(this.#directory, 'data');
  /** How long the last start took until the program printed its address. */
  startMs = 0;
  #settings: CacheSettings;
  #daemon: Daemon | undefined;
  #port = 0;
  #earlierOutput = '';

  private constructor(settings: CacheSettings) {
    this.#settings = settings;
  }

  static async start(settings: CacheSettings): Promise<Cache> {
    const cache = new Cache(settings);
    await cache.restart();
    return cache;
  }

  /** `127.0.0.1:PORT`, the same after every restart. */
  get host(): string {
    return `127.0.0.1:${this.#port}`;
  }

  get url(): string {
    return `http://${this.host}`;
  }

  /** Everything it has printed since the first start. */
  get output(): string {
    return this.#earlierOutput + (this.#daemon?.output ?? '');
  }

  async restart(changes: Partial<CacheSettings> = {}): Promise<void> {
    await this.stop();
    this.#settings = { ...this.#settings, ...changes };
    const started = performance.now();
    this.#daemon = await Daemon.start(process.execPath, [PROGRAM, 'serve', '--config', this.#writeConfig()], {
      env: this.#settings.env,
      logFile: join(this.#directory, CACHE_LOG),
      ready: ({ stdout }) => portIn(stdout) !== undefined,
    });
    this.startMs = Math.round(performance.now() - started);
    this.#port = portIn(this.#daemon.stdout) ?? 0;
  }

  async stop(): Promise<void> {
    await this.#daemon?.stop();
    this.#keepOutput();
  }

  async kill(): Promise<void> {
    await this.#daemon?.kill();
    this.#keepOutput();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }

  #keepOutput(): void {
    this.#earlierOutput = this.output;
    this.#daemon = undefined;
  }

  #writeConfig(): string {
    const { upstream, api, fresh, credentials } = this.#settings;
    const path = join(this.#directory, 'config.yaml');
    writeFileSync(
      path,
      stringify({
        listen: { host: '127.0.0.1', port: this.#port },
        data: this.data,
        upstreams: { 'ghcr.io': { url: upstream, ...(api && { api }), ...(credentials && { credentials }) } },
        tags: [{ match: '*', fresh }],
      }),
    );
    return path;
  }
}

/** From the line with its address. Logs, which may name the upstream's port, go to stderr. */
function portIn(stdout: string): number | undefined {
  const port = /http:\/\/127\.0\.0\.1:(\d+)/.exec(stdout)?.[1];
  return port === undefined ? undefined : Number(port);
}
