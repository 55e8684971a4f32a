// What all commands share: what one is, and its options.
import { parseArgs } from 'node:util';

export interface Command {
  /** One line of the help. */
  readonly summary: string;
  readonly options: Options;
  /** Throws UsageError or ConfigError for what the person got wrong; any other error is a failure of its work. */
  run(args: string[], terminal: Terminal): Promise<void>;
}

/** Where a command reads from and prints to. */
export interface Terminal {
  readonly input: AsyncIterable<string | Buffer>;
  /** On stdout, as a line or several. */
  print(text: string): void;
}

/** A command line that we do not understand. */
export class UsageError extends Error {}

/** By name, without the dashes. */
export type Options = Readonly<Record<string, Option>>;

export interface Option {
  readonly type: 'string' | 'boolean';
  /** One letter that is written with one dash. */
  readonly short?: string;
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
  return parseArguments(args, options, 0).values;
}

/** The same, with what is no option: at most so many words. */
export function parseArguments<const O extends Options>(
  args: string[],
  options: O,
  most: number,
): { values: Values<O>; words: string[] } {
  try {
    const types = Object.fromEntries(
      Object.entries(options).map(([name, { type, short }]) => [name, { type, ...(short && { short }) }]),
    );
    const { values, positionals } = parseArgs({ args, options: types, strict: true, allowPositionals: most > 0 });
    if (positionals.length > most) throw new Error(`${JSON.stringify(positionals[most])} is one word too many`);
    return { values: values as Values<O>, words: positionals };
  } catch (error) {
    throw new UsageError(`${(error as Error).message}; see ghcr-cache --help`);
  }
}

/** The lines of the help for these options. */
export function helpOf(options: Options): string {
  return Object.entries(options)
    .flatMap(([name, { value, help, short }]) => {
      const [first = '', ...others] = help;
      const letter = short === undefined ? '' : `-${short}, `;
      const usage = `${letter}--${name}${value === undefined ? '' : ` ${value}`}`;
      return [
        `  ${usage.padEnd(HELP_COLUMN)} ${first}`,
        ...others.map(line => `${' '.repeat(HELP_COLUMN + 3)}${line}`),
      ];
    })
    .join('\n');
}

/** How wide the names of commands and options are in the help. */
export const HELP_COLUMN = 20;
