// Programs that the tests start: ones that run to their end, and ones that stay until they are stopped.
// Everything that they print is kept, so that a failure can show it, and is never on the terminal
// otherwise. Nothing here outlives a run: run.ts ends whatever a crashed test leaves behind.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { appendFileSync } from 'node:fs';
import { delimiter } from 'node:path';
import { until } from './until.ts';
import { workPath } from './workspace.ts';

const COMMAND_LIMIT_MS = 5 * 60_000;
const READY_LIMIT_MS = 30_000;
const STOP_LIMIT_MS = 15_000;
const OUTPUT_LIMIT_BYTES = 64 * 1024 * 1024;

/** What a program sees of this machine's settings: no proxies, and no person's registry log-ins. */
export function environment(extra: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  const own = Object.entries(process.env).filter(
    ([name]) =>
      !/_proxy$/i.test(name) && !/^(REGISTRY_|CR_PAT$|GITHUB_TOKEN$|GHCR_USERNAME$|DOCKER_HOST$)/.test(name),
  );
  return {
    ...Object.fromEntries(own),
    // Daemons are in sbin, which not every shell has on its path.
    PATH: [process.env.PATH, '/usr/sbin', '/sbin'].join(delimiter),
    DOCKER_CONFIG: workPath('no-docker-config'),
    ...extra,
  };
}

export class CommandFailed extends Error {
  /** Both of the program's outputs. */
  readonly output: string;

  constructor(command: readonly string[], reason: string, output: string) {
    super(`${command.join(' ')}\n${reason}\n${output}`);
    this.name = 'CommandFailed';
    this.output = output;
  }
}

/** Runs a program to its end; what it wrote to stdout. Throws CommandFailed when it exits with anything but 0. */
export function run(command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { env: environment(env), timeout: COMMAND_LIMIT_MS, maxBuffer: OUTPUT_LIMIT_BYTES };
    execFile(command, args, options, (error, stdout, stderr) => {
      if (!error) return resolve(stdout);
      reject(new CommandFailed([command, ...args], error.message, `${stdout}\n${stderr}`));
    });
  });
}

/** The output of a program that is expected to fail. Throws when it does not. */
export async function runFailing(
  command: string,
  args: readonly string[],
  env: NodeJS.ProcessEnv = {},
): Promise<string> {
  try {
    await run(command, args, env);
  } catch (error) {
    if (error instanceof CommandFailed) return error.output;
    throw error;
  }
  throw new Error(`${command} ${args.join(' ')} succeeded, and should not have`);
}

export interface DaemonOptions {
  readonly env?: NodeJS.ProcessEnv | undefined;
  /** Where all that it prints is written to as well. */
  readonly logFile?: string;
  /** Whether it serves; asked again and again until it says yes. */
  readonly ready: (daemon: Daemon) => boolean | Promise<boolean>;
}

/** A program that stays. `await using` stops it at the end of the block. */
export class Daemon implements AsyncDisposable {
  readonly #command: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  #stdout = '';
  #output = '';

  private constructor(command: string, args: readonly string[], { env, logFile }: DaemonOptions) {
    this.#command = [command, ...args].join(' ');
    this.#child = spawn(command, args, { env: environment(env), stdio: ['ignore', 'pipe', 'pipe'] });
    const keep = (text: string) => {
      this.#output += text;
      if (logFile) appendFileSync(logFile, text);
    };
    this.#child.stderr?.setEncoding('utf8').on('data', keep);
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#stdout += text;
      keep(text);
    });
    this.#ended = new Promise(resolve => {
      this.#child.once('close', () => resolve());
      this.#child.once('error', error => {
        this.#output += `${error.message}\n`;
        resolve();
      });
    });
  }

  /** Starts it and waits until it is ready. Throws, with what it printed, when it ends or stays silent. */
  static async start(command: string, args: readonly string[], options: DaemonOptions): Promise<Daemon> {
    const daemon = new Daemon(command, args, options);
    try {
      await until(`${command} is ready`, READY_LIMIT_MS, () => {
        if (!daemon.running) throw new Error('it ended');
        return options.ready(daemon);
      });
    } catch (error) {
      await daemon.kill();
      throw new Error(`cannot start ${daemon.#command}\n${daemon.output}`, { cause: error });
    }
    return daemon;
  }

  get running(): boolean {
    return this.#child.pid !== undefined && this.#child.exitCode === null && this.#child.signalCode === null;
  }

  get stdout(): string {
    return this.#stdout;
  }

  /** All that it has printed so far, stdout and stderr together. */
  get output(): string {
    return this.#output;
  }

  /** Asks it to end, and makes it end if it takes too long. */
  async stop(): Promise<void> {
    if (this.running) this.#child.kill('SIGTERM');
    const timer = setTimeout(() => this.#child.kill('SIGKILL'), STOP_LIMIT_MS);
    await this.#ended;
    clearTimeout(timer);
  }

  async kill(): Promise<void> {
    if (this.running) this.#child.kill('SIGKILL');
    await this.#ended;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.stop();
  }
}
