// What all commands share: what one is, and its options.
import { parseArgs } from 'node:util';

export interface Command {
  /** One line of the help. */
  readonly summary: string;
  /** Throws UsageError or ConfigError for what the person got wrong; any other error is a failure of its work. */
  run(args: string[]): Promise<void>;
}

/** A command line that we do not understand. */
export class UsageError extends Error {}

/** The options of every command. Throws UsageError for anything else. */
export function parseOptions(args: string[]): { file?: string } {
  try {
    const { values } = parseArgs({ args, options: { config: { type: 'string' } }, strict: true });
    return values.config === undefined ? {} : { file: values.config };
  } catch (error) {
    throw new UsageError(`${(error as Error).message}; see ghcr-cache --help`);
  }
}
