// How each kind of value in a config file is read, and what is said about a wrong one. A problem is a predicate without
// its subject ("is not a size; …"), and never holds the value itself: load.ts puts the value in front as the file spells
// it, or leaves it out where it is a secret. Numbers and flags are also taken as text, since that is what an environment
// variable gives. `prefault` gives a default as a person would write it.
import { isIP } from 'node:net';
import { z } from 'zod';
import { isGlob } from '../base/glob.ts';
import { parseDuration, parseSize } from '../base/units.ts';
import { isHost } from './host.ts';
import { unknownKey } from './suggest.ts';

const DURATION_PROBLEM = 'is not a duration; write a number with a unit, such as 60s, 5m or 30d';
const LONGEST_TIMEOUT_MS = 3_600_000;
const UNQUOTED_PROBLEM = 'is not text; put it in quotes';

/** A map of known keys. An empty one, as when all its lines are comments, holds its defaults. */
export function section<T extends z.core.$ZodLooseShape>(shape: T) {
  const known = Object.keys(shape);
  return z.preprocess(
    input => input ?? {},
    z.strictObject(shape, {
      error: issue =>
        issue.code === 'unrecognized_keys'
          ? unknownKey(issue.keys[0] ?? '', known)
          : `is not a map; it may have the keys ${known.join(', ')}`,
    }),
  );
}

export const list = <T extends z.core.SomeType>(item: T, error = 'is not a list') => z.array(item, { error });

export const text = (what: string) =>
  value(readText, input => (isUnquoted(input) ? UNQUOTED_PROBLEM : `is not ${what}`));

/** For Basic authentication, where a colon ends it (RFC 7617, section 2). */
export const username = value(
  input => (String(input).includes(':') ? undefined : readText(input)),
  input => (isUnquoted(input) ? UNQUOTED_PROBLEM : 'is not a user name'),
);

/** Any text: secretIn says what is wrong with it. */
export const secret = value(
  input => (typeof input === 'string' ? input : undefined),
  input => (isUnquoted(input) ? UNQUOTED_PROBLEM : 'is not text'),
);

export const path = value(
  input => (startsAtHome(input) ? undefined : readText(input)),
  // biome-ignore lint/suspicious/noTemplateCurlyInString: it is to be written like that
  input => (startsAtHome(input) ? 'is not a path: write ${HOME} instead of ~' : 'is not a path'),
);

export const flag = value(
  input => (input === true || input === 'true' ? true : input === false || input === 'false' ? false : undefined),
  'is not true or false',
);

export const wholeNumber = (least: number, most: number) =>
  value(input => readWhole(input, least, most), `is not a whole number from ${least} to ${most}`);

export const oneOf = <const T extends string>(...words: readonly T[]) =>
  value(input => words.find(word => word === input), `is not one of ${words.join(', ')}`);

/** The one word that a key can have until a later version brings others. */
export const supported = <const T extends string>(word: T) =>
  value(input => (input === word ? word : undefined), `is not supported by this version, which has only ${word}`);

/** Bytes. */
export const size = value(readSize, 'is not a size; write a number with a unit, such as 2GiB');

/** Bytes; Infinity for `none`. */
export const cap = value(
  input => (input === 'none' ? Number.POSITIVE_INFINITY : readSize(input) || undefined),
  input =>
    readSize(input) === 0
      ? 'would keep nothing; write none for no cap'
      : 'is not a size; write a number with a unit, such as 50GiB',
);

/** Milliseconds. */
export const duration = value(readDuration, DURATION_PROBLEM);

/** Milliseconds, of a wait that has an end. */
export const timeout = value(input => {
  const ms = readDuration(input);
  return ms !== undefined && ms > 0 && ms <= LONGEST_TIMEOUT_MS ? ms : undefined;
}, 'is not a time to wait; write a number with a unit, up to 1h, such as 500ms or 60s');

/** Milliseconds; Infinity for `immutable`. */
export const freshness = value(
  input => (input === 'immutable' ? Number.POSITIVE_INFINITY : readDuration(input)),
  `${DURATION_PROBLEM}, or immutable`,
);

export const listenHost = value(input => {
  const host = readText(input)
    ?.toLowerCase()
    .replace(/^\[(.*)\]$/, '$1');
  return host !== undefined && (isIP(host) || (isHost(host) && !host.includes(':'))) ? host : undefined;
}, 'is not a host name or an IP address; the port has a key of its own');

/** As in a Host header, without its port. */
export const hostName = value(input => {
  const host = readText(input)?.toLowerCase().replace(/\.$/, '');
  return host !== undefined && isHost(host) && !host.includes(':') ? host : undefined;
}, 'is not a host name; write it without https:// and without a port, as in cache.lab.example');

export const realm = value(
  input => (typeof input === 'string' && isHost(input) ? input : undefined),
  'is not a host; write host or host:port in lower case, without https://',
);

export const blobHost = value(
  input => (typeof input === 'string' && isHost(input.replace(/^\*\./, '')) ? input : undefined),
  'is not a host; write host, host:port or *.suffix in lower case, without https://',
);

/** Requests go to /v2/ at the root, as the distribution spec says, so a path would be lost. */
export const registryUrl = value(
  input => readUrl(input, url => url.pathname === '/'),
  'is not the address of a registry; write it without a path or a user, such as https://ghcr.io',
);

export const apiUrl = value(
  input => readUrl(input, () => true),
  'is not the address of an API; write it without a user, such as https://api.github.com',
);

export const tagGlob = value(readGlob, 'is not a glob over tags; its only wildcard is *, which matches anything');

/** In lower case, as names and owners are on the wire, whatever GitHub displays. */
export const nameGlob = value(
  input => (typeof input === 'string' && isGlob(input) ? input.toLowerCase() : undefined),
  'is not a glob over repository names; its only wildcard is *, which matches anything, also across /',
);

export const ownerGlob = value(
  input => readGlob(input)?.toLowerCase(),
  'is not a glob over owners; its only wildcard is *, which matches anything',
);

/** A schema of what `read` returns; an input for which that is undefined has the problem. */
function value<T>(read: (input: unknown) => T | undefined, problem: string | ((input: unknown) => string)) {
  return z.unknown().transform((input, context): T => {
    const result = read(input);
    if (result !== undefined) return result;
    const message = typeof problem === 'string' ? problem : problem(input);
    context.issues.push({ code: 'custom', message, input });
    return z.NEVER;
  });
}

/** Text of one line that is not blank. */
function readText(input: unknown): string | undefined {
  return typeof input === 'string' && input.trim() !== '' && !/\p{Cc}/u.test(input) ? input : undefined;
}

/** Whether YAML took it for something other than text. */
function isUnquoted(input: unknown): boolean {
  return typeof input === 'number' || typeof input === 'boolean';
}

function startsAtHome(input: unknown): boolean {
  return typeof input === 'string' && /^~(?:\/|$)/.test(input);
}

function readWhole(input: unknown, least: number, most: number): number | undefined {
  const number = typeof input === 'string' && /^\d{1,15}$/.test(input) ? Number(input) : input;
  if (typeof number !== 'number' || !Number.isInteger(number)) return undefined;
  return number >= least && number <= most ? number : undefined;
}

function readSize(input: unknown): number | undefined {
  if (typeof input === 'string') return parseSize(input);
  return typeof input === 'number' && Number.isSafeInteger(input) && input >= 0 ? input : undefined;
}

function readDuration(input: unknown): number | undefined {
  return typeof input === 'string' || input === 0 ? parseDuration(String(input)) : undefined;
}

function readUrl(input: unknown, accepts: (url: URL) => boolean): URL | undefined {
  const url = typeof input === 'string' ? URL.parse(input) : null;
  if (url === null || !/^https?:$/.test(url.protocol)) return undefined;
  if (url.username || url.password || url.search || url.hash) return undefined;
  return accepts(url) ? url : undefined;
}

function readGlob(input: unknown): string | undefined {
  return typeof input === 'string' && isGlob(input) && !input.includes('/') ? input : undefined;
}
