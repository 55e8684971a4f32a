// Programs that the tests start: commands that run to completion, and daemons that run until they are stopped. Their
// output is kept for error messages and not printed otherwise. None outlives a run: run.ts ends what a crashed test
// leaves behind.
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { appendFileSync } from 'node:fs';
import { delimiter } from 'node:path';
import { until } from './until.ts';
import { workPath } from './workspace.ts';

const COMMAND_LIMIT_MS = 5 * 60_000;
const READY_LIMIT_MS = 30_000;
const STOP_LIMIT_MS = 15_000;
const OUTPUT_LIMIT_BYTES = 64 * 1024 * 1024;

/** The environment of all programs: this machine's, without proxies and without anyone's registry logins. */
export function environment(extra: NodeJS.ProcessEnv = {}): NodeJS.ProcessEnv {
  const own = Object.entries(process.env).filter(
    ([name]) => !/_proxy$/i.test(name) && !/^(REGISTRY_|CR_PAT$|GITHUB_TOKEN$|GHCR_USERNAME$|DOCKER_HOST$)/.test(name),
  );
  return {
    ...Object.fromEntries(own),
    // Daemons are in sbin, which is not on every PATH.
    PATH: [process.env.PATH, '/usr/sbin', '/sbin'].join(delimiter),
    DOCKER_CONFIG: workPath('no-docker-config'),
    ...extra,
  };
}

export class CommandFailed extends Error {
  /** The program's stdout and stderr. */
  readonly output: string;

  constructor(command: readonly string[], reason: string, output: string) {
    super(`${command.join(' ')}\n${reason}\n${output}`);
    this.name = 'CommandFailed';
    this.output = output;
  }
}

/** Runs a program to completion; its stdout. Throws CommandFailed unless it exits with 0. */
export function run(command: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<string> {
  return new Promise((resolve, reject) => {
    const options = { env: environment(env), timeout: COMMAND_LIMIT_MS, maxBuffer: OUTPUT_LIMIT_BYTES };
    execFile(command, args, options, (error, stdout, stderr) => {
      if (!error) return resolve(stdout);
      reject(new CommandFailed([command, ...args], error.message, `${stdout}\n${stderr}`));
    });
  });
}

/** The output of a program that is expected to fail. Throws if it succeeds. */
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
  throw new Error(`${command} ${args.join(' ')} succeeded, but should have failed`);
}

export interface DaemonOptions {
  readonly env?: NodeJS.ProcessEnv | undefined;
  /** A file that its output is also written to. */
  readonly logFile?: string;
  /** Whether it is ready; called repeatedly until it is. */
  readonly ready: (daemon: Daemon) => boolean | Promise<boolean>;
}

/** A program that runs until it is stopped. `await using` stops it at the end of the block. */
export class Daemon implements AsyncDisposable {
  readonly #command: string;
  readonly #child: ChildProcess;
  readonly #ended: Promise<void>;
  #stdout = '';
  #output = '';

  private constructor(command: string, args: readonly string[], { env, logFile }: DaemonOptions) {
    this.#command = [command, ...args].join(' ');
    this.#child = spawn(command, args, { env: environment(env), stdio: ['ignore', 'pipe', 'pipe'] });
    const record = (text: string) => {
      this.#output += text;
      if (logFile) appendFileSync(logFile, text);
    };
    this.#child.stderr?.setEncoding('utf8').on('data', record);
    this.#child.stdout?.setEncoding('utf8').on('data', (text: string) => {
      this.#stdout += text;
      record(text);
    });
    this.#ended = new Promise(resolve => {
      this.#child.once('close', () => resolve());
      this.#child.once('error', error => {
        this.#output += `${error.message}\n`;
        resolve();
      });
    });
  }

  /** Starts it and waits until it is ready. Throws, with its output, if it exits or does not become ready. */
  static async start(command: string, args: readonly string[], options: DaemonOptions): Promise<Daemon> {
    const daemon = new Daemon(command, args, options);
    try {
      await until(`${command} is ready`, READY_LIMIT_MS, () => {
        if (!daemon.running) throw new Error('it exited');
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

  /** Its output so far, stdout and stderr together. */
  get output(): string {
    return this.#output;
  }

  /** Terminates it, and kills it if that takes too long. */
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
