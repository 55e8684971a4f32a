// For tests of configurations: loads texts as files of a directory that is gone when the test file is over, and lists
// the keys that a schema has.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after } from 'node:test';
import type { z } from 'zod';
import { type Config, ConfigError, loadConfig } from '../../src/config/load.ts';
import type { UpstreamConfig } from '../../src/config/sections/upstreams.ts';

/** Where the config file is. */
export const directory = mkdtempSync(join(tmpdir(), 'ghcr-cache-config-'));
after(() => rmSync(directory, { recursive: true }));

/** The config that `text` makes as `config.yaml`. */
export function load(text: string, env: NodeJS.ProcessEnv = {}): Config {
  writeFileSync(join(directory, 'config.yaml'), text);
  return loadConfig({ file: 'config.yaml', env, cwd: directory });
}

export function upstreamOf(config: Config, host: string): UpstreamConfig {
  const found = config.upstreams.get(host);
  assert.ok(found, host);
  return found;
}

/** The message, of one line, of the ConfigError that `run` throws, with the test's directory written as DIRECTORY. */
export function messageOf(run: () => unknown): string {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof ConfigError, String(error));
    assert.doesNotMatch(error.message, /\n/);
    return error.message.replaceAll(directory, 'DIRECTORY');
  }
  assert.fail('it was accepted');
}

/** Each text is rejected with exactly that message, after `config.yaml:`. What contains `s3cret` is never quoted. */
export function assertRejected(cases: readonly [text: string, message: string][], env: NodeJS.ProcessEnv = {}) {
  for (const [text, message] of cases) {
    const actual = messageOf(() => load(text, env));
    assert.equal(actual, `config.yaml:${message}`, text);
    assert.doesNotMatch(actual, /s3cret/);
  }
}

/** The paths of all keys with a value of their own: `*` is any key of a map, `[]` any item of a list of maps. */
export function schemaKeys(schema: z.core.$ZodType, path = ''): string[] {
  const { def } = (schema as z.core.$ZodTypes)._zod;
  if (def.type === 'object') {
    const below = path === '' ? '' : `${path}.`;
    return Object.entries(def.shape).flatMap(([key, inner]) => schemaKeys(inner, below + key));
  }
  if (def.type === 'array') return schemaKeys(def.element, `${path}[]`);
  if (def.type === 'record') return schemaKeys(def.valueType, `${path}.*`);
  if (def.type === 'union') return [...new Set(def.options.flatMap(option => schemaKeys(option, path)))];
  if (def.type === 'prefault' || def.type === 'optional') return schemaKeys(def.innerType, path);
  if (def.type === 'pipe' && def.out._zod.def.type !== 'transform') return schemaKeys(def.out, path);
  if (def.type === 'pipe' && def.in._zod.def.type !== 'unknown') return schemaKeys(def.in, path);
  return [path.replace(/\[\]$/, '')];
}

/** The same of what a file holds. */
export function valueKeys(value: unknown, path = ''): string[] {
  if (Array.isArray(value) && value.length > 0) return unique(value.flatMap(item => valueKeys(item, `${path}[]`)));
  if (typeof value !== 'object' || value === null || Array.isArray(value)) return [path.replace(/\[\]$/, '')];
  const entries = Object.entries(value);
  if (path === 'upstreams') return unique(entries.flatMap(([, inner]) => valueKeys(inner, 'upstreams.*')));
  return entries.flatMap(([key, inner]) => valueKeys(inner, path === '' ? key : `${path}.${key}`));
}

function unique(texts: readonly string[]): string[] {
  return [...new Set(texts)];
}
