// From a config file, or none, to a Config that holds together: read (source.ts), parse (each key on its own, with its
// default), check (what keys mean to each other and to the disk). Everything that can be known to be wrong is rejected
// here, at start, with one ConfigError: the first from the top of the file. Each section has a file of its own with its keys,
// and every key is read by compose/ or cli/, or decided here.
import type { z } from 'zod';
import { access, checkAccess } from './sections/access.ts';
import { cache, data } from './sections/cache.ts';
import { listen } from './sections/listen.ts';
import { log } from './sections/log.ts';
import { checkPins, pins } from './sections/pins.ts';
import { push, writeGrace } from './sections/push.ts';
import { readAhead } from './sections/read-ahead.ts';
import { checkTags, staleIfError, tags } from './sections/tags.ts';
import { checkUpstreams, defaultUpstream, upstreams } from './sections/upstreams.ts';
import { type ConfigError, type KeyPath, Source, type SourceOptions } from './source.ts';
import { plannedKey } from './suggest.ts';
import * as value from './values.ts';

export { ConfigError } from './source.ts';

/** Every default filled in, every unit in the name, every path absolute. */
export type Config = Readonly<ReturnType<typeof check>>;

/** A whole config file, in the order of config.example.yaml. */
export const schema = value.section({
  listen,
  data,
  cache,
  upstreams,
  default: defaultUpstream,
  tags,
  staleIfError,
  readAhead,
  writeGrace,
  push,
  access,
  pins,
  log,
});

/** Reads, parses and checks. Relative paths are relative to the file's directory, or else to `cwd`. Throws ConfigError. */
export function loadConfig(options: SourceOptions): Config {
  const source = new Source(options);
  return check(parse(source), source);
}

function parse(source: Source): z.output<typeof schema> {
  const result = schema.safeParse(source.value ?? {});
  if (result.success) return result.data;
  const [first] = result.error.issues
    .flatMap(innermost)
    .map(issue => issueError(issue, source))
    .sort((a, b) => (a.line ?? 0) - (b.line ?? 0));
  throw first;
}

function check(written: z.output<typeof schema>, source: Source) {
  const { access, staleIfError, writeGrace, ...rest } = written;
  checkAccess(access, rest.listen.host, source);
  const upstreams = checkUpstreams(rest.upstreams, rest.default, source);
  return {
    ...rest,
    upstreams,
    data: source.resolve(rest.data),
    tags: checkTags(rest.tags, source),
    staleIfErrorMs: staleIfError,
    writeGraceMs: writeGrace,
    pins: checkPins(rest.pins, { has: host => upstreams.has(host), default: rest.default }, source),
  };
}

/** Of a union, what its last alternative says. */
function innermost(issue: z.core.$ZodIssue): z.core.$ZodIssue[] {
  if (issue.code !== 'invalid_union') return [issue];
  const inner = issue.errors.at(-1) ?? [];
  return inner.map(each => ({ ...each, path: [...issue.path, ...each.path] }));
}

function issueError(issue: z.core.$ZodIssue, source: Source): ConfigError {
  const { path, message } = issue;
  if (issue.code === 'unrecognized_keys') {
    const keys = [...path, ...issue.keys.slice(0, 1)];
    return source.error(keys, plannedKey(keys) ?? message);
  }
  const written = mayBeSecret(path) ? 'the value' : source.quote(path);
  return source.error(path, written === undefined ? 'missing' : `${written} ${message}`);
}

/** A token, or where one may have been written by mistake. */
function mayBeSecret(path: KeyPath): boolean {
  return path.at(-1) === 'token' || path.slice(-2).includes('credentials');
}
