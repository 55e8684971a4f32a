// config.example.yaml has every key of the schema, set to its default or commented out, and no other key.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'node:test';
import * as yaml from 'yaml';
import { schemaKeys, valueKeys } from '../../test/support/config.ts';
import { loadConfig, schema } from './load.ts';

const cwd = join(import.meta.dirname, '../..');
const file = 'config.example.yaml';

test('the example holds the defaults', () => {
  assert.deepEqual(loadConfig({ file, env: {}, cwd }), loadConfig({ env: {}, cwd }));
});

test('the example has every key, those that it has commented out included, and all of them are usable', () => {
  const text = readFileSync(join(cwd, file), 'utf8');
  // A comment that is YAML begins with a key in lower case, or with the dash of a list.
  const whole = yaml.parse(text.replaceAll(/^( *)# ( *(?:[a-z]\w*:|- ))/gm, '$1$2'));
  assert.deepEqual(valueKeys(whole).sort(), schemaKeys(schema).sort());
  assert.equal(schema.safeParse(whole).error, undefined);
});
