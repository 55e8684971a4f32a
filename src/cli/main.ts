// The command line: which command, and what of it all commands share. One file a command; exit codes are 0
// done, 1 failed, 2 bad usage.

import { version } from '../base/version.ts';
import { ConfigError } from '../config/load.ts';
import { UsageError } from './options.ts';
import { serve } from './serve.ts';

const COMMANDS: Record<string, (args: string[]) => Promise<void>> = { serve };

const HELP = `ghcr-cache: a local caching pull-through registry for ghcr.io

Usage: ghcr-cache COMMAND [OPTIONS]

Commands:
  serve             serve the registry API to clients until stopped

Options:
  --config FILE     the configuration (YAML); without it the defaults hold, and CR_PAT or GITHUB_TOKEN
                    of the environment, with GHCR_USERNAME, is the credential for ghcr.io
  --help            this text
  --version         the version

Then pull and push ghcr.io/owner/image:tag as 127.0.0.1:5000/owner/image:tag. Every key of the configuration is in
config.example.yaml.
`;

/** Runs a command and ends the process when it fails. */
export async function main(args: string[]): Promise<void> {
  const [name = '--help', ...rest] = args;
  if (name === '--help' || name === 'help' || name === '-h' || rest.includes('--help')) {
    process.stdout.write(HELP);
    return;
  }
  if (name === '--version') {
    process.stdout.write(`${version}\n`);
    return;
  }
  try {
    const command = COMMANDS[name];
    if (command === undefined)
      throw new UsageError(`there is no command ${JSON.stringify(name)}; see ghcr-cache --help`);
    await command(rest);
  } catch (error) {
    const known = error instanceof ConfigError || error instanceof UsageError;
    process.stderr.write(
      `ghcr-cache: ${known || error instanceof Error ? (error as Error).message : String(error)}\n`,
    );
    process.exit(known ? 2 : 1);
  }
}
