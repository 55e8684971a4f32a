// The command line: picks the command, and turns errors into one line and an exit code: 0 done, 1 failed, 2 bad usage.
// A new command is a file beside this one and a row of the table.
import { version } from '../base/version.ts';
import { ConfigError } from '../config/load.ts';
import { exit } from './exit.ts';
import { type Command, HELP_COLUMN, helpOf, UsageError } from './options.ts';
import { serve } from './serve.ts';

const COMMANDS = new Map<string, Command>([['serve', serve]]);

const HELP = `ghcr-cache: a local caching pull-through registry for ghcr.io

Usage: ghcr-cache COMMAND [OPTIONS]

Commands:
${[...COMMANDS].map(([name, { summary }]) => `  ${name.padEnd(HELP_COLUMN)} ${summary}`).join('\n')}

${[...COMMANDS].map(([name, { options }]) => `Options of ${name}:\n${helpOf(options)}`).join('\n\n')}

Other options:
  --help            this text
  --version         the version

Then pull and push ghcr.io/owner/image:tag as 127.0.0.1:5000/owner/image:tag. Every key of the configuration is in
config.example.yaml.
`;

/** Runs a command. Ends the process when it fails. */
export async function main(args: string[]): Promise<void> {
  const [name = '--help', ...rest] = args;
  if (['--help', '-h', 'help'].includes(name) || rest.includes('--help')) {
    process.stdout.write(HELP);
    return;
  }
  if (name === '--version') {
    process.stdout.write(`${version}\n`);
    return;
  }
  try {
    const command = COMMANDS.get(name);
    if (command === undefined)
      throw new UsageError(`there is no command ${JSON.stringify(name)}; see ghcr-cache --help`);
    await command.run(rest);
  } catch (error) {
    process.stderr.write(`ghcr-cache: ${error instanceof Error ? error.message : String(error)}\n`);
    await exit(error instanceof ConfigError || error instanceof UsageError ? 2 : 1);
  }
}
