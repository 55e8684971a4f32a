// The command line: picks the command, and turns errors into one line and an exit code: 0 done, 1 failed, 2 bad usage.
// A new command is a file beside this one and a row of the table.
import { version } from '../base/version.ts';
import { ConfigError } from '../config/load.ts';
import { exit } from './exit.ts';
import { login } from './login.ts';
import { logout } from './logout.ts';
import { type Command, HELP_COLUMN, helpOf, type Terminal, UsageError } from './options.ts';
import { serve } from './serve.ts';

const COMMANDS = new Map<string, Command>([
  ['serve', serve],
  ['login', login],
  ['logout', logout],
]);

const HELP = `ghcr-cache: a local caching pull-through registry for ghcr.io

Usage: ghcr-cache COMMAND [OPTIONS]

Commands:
${[...COMMANDS].map(([name, { summary }]) => `  ${name.padEnd(HELP_COLUMN)} ${summary}`).join('\n')}

Options:
  ${'--help'.padEnd(HELP_COLUMN)} this text; behind a command, its options
  ${'--version'.padEnd(HELP_COLUMN)} the version

Without a configuration CR_PAT or GITHUB_TOKEN of the environment, with GHCR_USERNAME, is the credential for ghcr.io.
Then pull and push ghcr.io/owner/image:tag as 127.0.0.1:5000/owner/image:tag. Every key of the configuration is in
config.example.yaml.`;

/** Runs a command. Ends the process when it fails. */
export async function main(args: string[]): Promise<void> {
  const failure = await run(args, {
    // Touched by those alone that read it.
    get input() {
      return process.stdin;
    },
    print: text => process.stdout.write(`${text}\n`),
  });
  if (failure === undefined) return;
  process.stderr.write(`ghcr-cache: ${failure.message}\n`);
  await exit(failure.code);
}

/** Runs a command. Resolves to why it failed, in a line, and the exit code for that; undefined when it did not. */
export async function run(
  args: string[],
  terminal: Terminal,
): Promise<{ readonly code: number; readonly message: string } | undefined> {
  const [name = '--help', ...rest] = args;
  try {
    if (['--help', '-h', 'help'].includes(name)) terminal.print(HELP);
    else if (name === '--version') terminal.print(version);
    else if (rest.includes('--help')) terminal.print(helpFor(name));
    else await commandOf(name).run(rest, terminal);
    return undefined;
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    return { code: error instanceof ConfigError || error instanceof UsageError ? 2 : 1, message };
  }
}

/** Throws UsageError. */
function helpFor(name: string): string {
  const { summary, options } = commandOf(name);
  return `ghcr-cache ${name}: ${summary}\n\nOptions:\n${helpOf(options)}`;
}

/** Throws UsageError. */
function commandOf(name: string): Command {
  const command = COMMANDS.get(name);
  if (command !== undefined) return command;
  throw new UsageError(`there is no command ${JSON.stringify(name)}; see ghcr-cache --help`);
}
