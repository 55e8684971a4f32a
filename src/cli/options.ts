// Options of commands.
import { parseArgs } from 'node:util';

/** The command line is not one that we know. */
export class UsageError extends Error {}

/** The options every command takes. Throws UsageError for anything else. */
export function parseOptions(args: string[]): { file?: string } {
  try {
    const { values } = parseArgs({ args, options: { config: { type: 'string' } }, strict: true });
    return values.config === undefined ? {} : { file: values.config };
  } catch (error) {
    throw new UsageError(`${(error as Error).message}; see ghcr-cache --help`);
  }
}
