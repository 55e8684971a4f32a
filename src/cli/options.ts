// What all commands share: what one is, and its options.
import { parseArgs } from 'node:util';

export interface Command {
  /** One line of the help. */
  readonly summary: string;
  readonly options: Options;
  /** Throws UsageError or ConfigError for what the person got wrong; any other error is a failure of its work. */
  run(args: string[]): Promise<void>;
}

/** A command line that we do not understand. */
export class UsageError extends Error {}

/** By name, without the dashes. */
export type Options = Readonly<Record<string, Option>>;

export interface Option {
  readonly type: 'string' | 'boolean';
  /** What the help calls the value, if it takes one. */
  readonly value?: string;
  /** Lines of the help. */
  readonly help: readonly string[];
}

export type Values<O extends Options> = {
  readonly [Name in keyof O]?: (O[Name]['type'] extends 'string' ? string : boolean) | undefined;
};

/** The options that were given. Throws UsageError for anything else. */
export function parseOptions<const O extends Options>(args: string[], options: O): Values<O> {
  try {
    const types = Object.fromEntries(Object.entries(options).map(([name, { type }]) => [name, { type }]));
    return parseArgs({ args, options: types, strict: true }).values as Values<O>;
  } catch (error) {
    throw new UsageError(`${(error as Error).message}; see ghcr-cache --help`);
  }
}

/** The lines of the help for these options. */
export function helpOf(options: Options): string {
  return Object.entries(options)
    .flatMap(([name, { value, help }]) => {
      const [first = '', ...others] = help;
      const usage = `--${name}${value === undefined ? '' : ` ${value}`}`;
      return [
        `  ${usage.padEnd(HELP_COLUMN)} ${first}`,
        ...others.map(line => `${' '.repeat(HELP_COLUMN + 3)}${line}`),
      ];
    })
    .join('\n');
}

/** How wide the names of commands and options are in the help. */
export const HELP_COLUMN = 17;
