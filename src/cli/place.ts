// What all commands that need the configuration share: where it is, and where its data is.
import { resolve } from 'node:path';
import { type Config, loadConfig } from '../config/load.ts';
import { type Options, UsageError, type Values } from './options.ts';

export const PLACE = {
  config: {
    type: 'string',
    value: 'FILE',
    help: ['the configuration (YAML); without it the defaults hold'],
  },
  data: { type: 'string', value: 'DIR', help: ['in place of the data directory of the configuration'] },
} as const satisfies Options;

/** The configuration that these options lead to. Throws ConfigError and UsageError. */
export function configAt({ config: file, data }: Values<typeof PLACE>): Config {
  const written = loadConfig({ file, env: process.env, cwd: process.cwd() });
  if (data === undefined) return written;
  if (data === '') throw new UsageError('--data needs a directory');
  return { ...written, data: resolve(data) };
}
