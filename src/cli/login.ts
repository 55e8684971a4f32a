// `ghcr-cache login`: checks a login at an upstream and keeps it, or lists those that are kept. A running server takes it
// up within a second.
import type { z } from 'zod';
import { systemClock, systemRandom } from '../base/clock.ts';
import { openLogins, registryOf } from '../compose/logins.ts';
import { isPlainHttp } from '../config/host.ts';
import type { Config } from '../config/load.ts';
import type { UpstreamConfig } from '../config/sections/upstreams.ts';
import * as value from '../config/values.ts';
import { secretIn } from '../credentials/sources.ts';
import type { ShownLogin } from '../credentials/store.ts';
import { checkNewLogin, keepLogin } from '../operations/login.ts';
import { openLog } from './log.ts';
import { type Command, type Options, parseArguments, type Terminal, UsageError } from './options.ts';
import { configAt, PLACE } from './place.ts';

const OPTIONS = {
  username: { type: 'string', short: 'u', value: 'USER', help: ['whose token it is'] },
  'password-stdin': { type: 'boolean', help: ['read the token from stdin'] },
  name: { type: 'string', value: 'NAME', help: ['what logs and errors call it; the name of the user if not given'] },
  owner: { type: 'string', value: 'GLOB', help: ['for the repositories of these owners alone'] },
  test: { type: 'boolean', help: ['check it, and keep nothing'] },
  list: { type: 'boolean', help: ['say which logins are kept, without their tokens'] },
  ...PLACE,
} as const satisfies Options;

const HOW = 'write: echo $CR_PAT | ghcr-cache login -u USERNAME --password-stdin';

export const login: Command = {
  summary: 'keep a login to an upstream: [HOST], ghcr.io if not given',
  options: OPTIONS,
  async run(args, { input, print }) {
    const { values, words } = parseArguments(args, OPTIONS, 1);
    const config = configAt(values);
    const [host = config.default] = words;
    if (values.list) return print(listed((await openLogins(config)).logins));
    await using stack = new AsyncDisposableStack();
    const environment = { clock: systemClock, random: systemRandom, log: openLog(config) };
    const registry = registryOf(config, host, environment, stack);
    const upstream = config.upstreams.get(host);
    if (registry === undefined || upstream === undefined) throw new UsageError(notAnUpstream(host, config));
    if (!values.username || !values['password-stdin']) throw new UsageError(`a user and a token are needed; ${HOW}`);
    const username = valid('username', value.username, values.username);
    const name = valid('name', value.text('a name'), values.name ?? username);
    const owner = valid('owner', value.ownerGlob, values.owner ?? '*');
    rejectUnusable(host, upstream, name);
    const secret = secretIn(await readAll(input), 'stdin', problem => new UsageError(`${problem}; ${HOW}`));
    const { summary, cautions, expiresAt } = await checkNewLogin(registry, { username, secret });
    print(summary);
    for (const caution of cautions) print(`Note: ${caution}`);
    if (expiresAt !== undefined) print(`It expires on ${expiresAt.toISOString().slice(0, 10)}.`);
    if (values.test) return;
    await keepLogin(await openLogins(config), registry, { username, secret }, { name, owner, expiresAt });
    const hiding = upstream.credentials.find(each => each.owner === '*' || each.owner === owner);
    if (!upstream.isUnwritten && hiding !== undefined) {
      const whose = hiding.owner === '*' ? 'all repositories' : `the repositories of ${hiding.owner}`;
      print(`Note: The configuration has a credential "${hiding.name}" for ${whose}, which is used before it.`);
    }
    print(`It is kept as "${name}"${owner === '*' ? '' : ` for the repositories of ${owner}`}, in ${config.data}.`);
  },
};

/** The value of an option as the config would take it. Throws UsageError. */
function valid<T>(option: string, schema: z.ZodType<T>, written: string): T {
  const { data, error } = schema.safeParse(written);
  if (error !== undefined) throw new UsageError(`--${option} ${JSON.stringify(written)} ${error.issues[0]?.message}`);
  return data as T;
}

/** Throws where the config has another login of that name, or would not have this one used. */
function rejectUnusable(host: string, upstream: UpstreamConfig, name: string): void {
  const { credentials, isUnwritten, offline } = upstream;
  if (offline) throw new Error(`the configuration has ${host} offline, and a login has to be checked there`);
  if (!isUnwritten && credentials.length === 0) {
    throw new Error(`it would not be used: the configuration has "credentials: []" for ${host}, which means no login`);
  }
  if (credentials.some(credential => credential.name === name)) {
    throw new Error(`the configuration has a credential "${name}" for ${host}; give this one another --name`);
  }
  for (const each of [upstream.url, upstream.api]) {
    if (isPlainHttp(each)) throw new Error(`plain http would send the token unencrypted to ${each?.host}`);
  }
}

function notAnUpstream(host: string, config: Config): string {
  return `"${host}" is not one of the upstreams of the configuration, which are ${[...config.upstreams.keys()].join(', ')}`;
}

function listed(logins: readonly ShownLogin[]): string {
  if (logins.length === 0) return 'No login is kept.';
  const rows = logins.map(({ host, name, owner, username, kind, expiresAt, checkedAt }) => [
    ...[host, name, owner, username, kind ?? '-', expiresAt?.slice(0, 10) ?? '-', checkedAt.slice(0, 10)],
  ]);
  const all = [['UPSTREAM', 'NAME', 'OWNER', 'USER', 'KIND', 'EXPIRES', 'CHECKED'], ...rows];
  const widths = all[0]?.map((_, i) => Math.max(...all.map(row => row[i]?.length ?? 0))) ?? [];
  return all
    .map(row =>
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

async function readAll(input: Terminal['input']): Promise<string> {
  let read = '';
  for await (const chunk of input) read += chunk;
  return read;
}
